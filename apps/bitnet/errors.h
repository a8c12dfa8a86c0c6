#pragma once

#include "bitnet/core/error.h"

#include <functional>
#include <string_view>

namespace bitnet::cli {

/// The exit statuses of every command; docs/ERRORS.md is this list in words.
enum ExitCode : int {
  kExitOk = 0,
  kExitFailure = 1,
  kExitUsage = 2,
  kExitBadInput = 3,
  kExitUnsupported = 4,
  kExitSlower = 5,
  kExitInterrupted = 130,
};

[[nodiscard]] ExitCode exit_code_of(ErrorCode code);

/// "bitnet: error: ..." and "hint: ..." on standard error, each one line whatever the texts hold.
void print_error(std::string_view message, std::string_view hint = {});

/// "bitnet: warning: ..." on standard error.
void print_warning(std::string_view message);

/// Calls body and returns its exit code; whatever it throws is printed and becomes an exit code.
[[nodiscard]] int guarded(const std::function<int()>& body);

}  // namespace bitnet::cli
