#pragma once

#include <string_view>

#include <nlohmann/json.hpp>

namespace bitnet::cli {

using Json = nlohmann::ordered_json;

[[nodiscard]] bool stdin_is_terminal();
[[nodiscard]] bool stdout_is_terminal();
[[nodiscard]] bool stderr_is_terminal();

/// Opens /dev/null in the place of a standard stream that the parent closed: a model or result file would get
/// its number otherwise, and what is meant for the stream would be written into it.
void reserve_standard_streams();

/// Writes everything to the file descriptor. Throws kIo, naming `what`.
void write_all(int fd, std::string_view text, std::string_view what);
/// Standard output, unbuffered, so that streamed text is seen and a full disk is noticed at once. Throws kIo.
void write_out(std::string_view text);
/// Generated text: as it is, but on a terminal its control characters (escape sequences) are made visible.
void write_generated(std::string_view text);
/// Standard error; failures are ignored, there is nowhere left to report them.
void write_err(std::string_view text);

/// One JSON value on one line of standard output. Invalid UTF-8 becomes U+FFFD; on a terminal the rest of
/// Unicode is escaped as well, since C1 controls would act there.
void print_json(const Json& value);

}  // namespace bitnet::cli
