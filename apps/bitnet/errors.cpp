#include "errors.h"

#include "terminal.h"
#include "text.h"

#include <exception>
#include <new>

#include <fmt/format.h>

namespace bitnet::cli {

ExitCode exit_code_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kConfiguration:
      return kExitUsage;
    case ErrorCode::kShapeMismatch:
    case ErrorCode::kDTypeMismatch:
    case ErrorCode::kBroadcast:
    case ErrorCode::kDeviceMismatch:
    case ErrorCode::kInvalidTensor:
    case ErrorCode::kNotFound:
    case ErrorCode::kCorruptData:
      return kExitBadInput;
    case ErrorCode::kUnsupported:
      return kExitUnsupported;
    case ErrorCode::kCancelled:
      return kExitInterrupted;
    case ErrorCode::kOutOfRange:
    case ErrorCode::kIo:
    case ErrorCode::kOutOfMemory:
    case ErrorCode::kInternal:
    case ErrorCode::kComputation:
    case ErrorCode::kNumerical:
    case ErrorCode::kBackend:
    case ErrorCode::kDevice:
    case ErrorCode::kConcurrency:
      return kExitFailure;
  }
  return kExitFailure;
}

void print_error(std::string_view message, std::string_view hint) {
  std::string text = fmt::format("bitnet: error: {}\n", escape_controls(message));
  if (!hint.empty()) text += fmt::format("hint: {}\n", escape_controls(hint));
  write_err(text);
}

void print_warning(std::string_view message) {
  write_err(fmt::format("bitnet: warning: {}\n", escape_controls(message)));
}

int guarded(const std::function<int()>& body) {
  try {
    return body();
  } catch (const Error& error) {
    print_error(error.what(), error.hint());
    return exit_code_of(error.code());
  } catch (const std::bad_alloc&) {
    print_error("out of memory", "use a smaller model, context or batch, or a machine with more memory");
  } catch (const std::exception& error) {
    print_error(error.what());
  }
  return kExitFailure;
}

}  // namespace bitnet::cli
