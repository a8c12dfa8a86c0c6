#pragma once

#include "bitnet/core/dtype.h"

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet {

/// What kind of thing went wrong. docs/ERRORS.md maps codes to exit statuses and to the specification's
/// names.
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
  // Of tensors, operations and devices.
  kBroadcast,       ///< shapes that NumPy's rules cannot broadcast
  kDeviceMismatch,  ///< operands on different devices
  kInvalidTensor,   ///< a tensor that holds nothing, or whose bytes contradict its shape
  kComputation,     ///< an algorithm that did not reach its result, e.g. an SVD that does not converge
  kNumerical,       ///< NaN, infinity or overflow where the caller asked to be told
  kBackend,         ///< a library or driver underneath reported a failure
  kDevice,          ///< a device that is absent or lost
  kConfiguration,   ///< a setting or policy that contradicts itself or the machine
  kConcurrency,     ///< a use from several threads that the contract forbids
};

[[nodiscard]] std::string_view to_string(ErrorCode code);

/// How much of the program is lost.
enum class Severity : uint8_t {
  kInfo,
  kWarning,
  kError,     ///< this call failed; its arguments can be mended
  kCritical,  ///< the machine failed: memory, disk, device, driver
  kFatal,     ///< a fault of this library: state may be wrong
};
[[nodiscard]] Severity severity_of(ErrorCode code);
[[nodiscard]] std::string_view to_string(Severity severity);

/// An operand as a report names it.
struct ErrorOperand {
  DType dtype = DType::kF32;
  Shape shape;
};

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

  [[nodiscard]] Severity severity() const { return severity_of(code_); }
  /// The operation that failed ("add"), empty where none is concerned, and its operands.
  [[nodiscard]] const std::string& operation() const noexcept { return operation_; }
  [[nodiscard]] const std::vector<ErrorOperand>& operands() const noexcept { return operands_; }

  /// Several lines for a person: what(), severity, operation with operands, hint.
  [[nodiscard]] std::string report() const;
  /// The same as one JSON object: code, severity, message, context, operation, operands, hint.
  [[nodiscard]] std::string to_json() const;

  /// Names the operation and its operands, once: the innermost call knows best. Returns *this.
  Error& with_operation(std::string name, std::vector<ErrorOperand> operands);

  /// Adds an outer frame, e.g. the file or tensor being read, and returns *this. Rethrow with `throw;`.
  Error& with_context(std::string frame);

 private:
  void compose();

  ErrorCode code_;
  std::string message_, hint_, what_;
  std::vector<std::string> context_;
  std::string operation_;
  std::vector<ErrorOperand> operands_;
};

}  // namespace bitnet
