#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet {

/// What kind of thing went wrong. The command line maps codes to exit statuses (docs/ERRORS.md).
enum class ErrorCode {
  kInvalidArgument,  ///< the caller broke the contract of a function
  kShapeMismatch,
  kDTypeMismatch,
  kOutOfRange,   ///< an index or a length beyond what exists, e.g. past the context
  kNotFound,     ///< a file, tensor or key that must exist does not
  kIo,           ///< the operating system refused: permission, full disk, read error
  kCorruptData,  ///< a file or message that breaks its format's rules
  kUnsupported,  ///< well formed, but not something this build can do
  kOutOfMemory,
  kCancelled,
  kInternal,
};

[[nodiscard]] std::string_view to_string(ErrorCode code);

/// The one exception type of the library. what() is
///   "<outer context>: <inner context>: <message>"
/// and hint() says in one sentence what the user can do (may be empty).
class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string message, std::string hint = {});

  [[nodiscard]] ErrorCode code() const noexcept { return code_; }
  [[nodiscard]] const std::string& message() const noexcept { return message_; }
  [[nodiscard]] const std::string& hint() const noexcept { return hint_; }
  /// Outermost first.
  [[nodiscard]] const std::vector<std::string>& context() const noexcept { return context_; }
  [[nodiscard]] const char* what() const noexcept override { return what_.c_str(); }

  /// Adds an outer frame, e.g. the file or tensor being read, and returns *this. Rethrow with `throw;`.
  Error& with_context(std::string frame);

 private:
  void compose();

  ErrorCode code_;
  std::string message_, hint_, what_;
  std::vector<std::string> context_;
};

}  // namespace bitnet
