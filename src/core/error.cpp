#include "bitnet/core/error.h"

#include <array>
#include <utility>

#include <fmt/format.h>

namespace bitnet {

namespace {

struct CodeInfo {
  std::string_view name;
  Severity severity;
};

/// In the order of ErrorCode.
constexpr std::array<CodeInfo, 20> kCodes = {{
    {"InvalidArgument", Severity::kError}, {"ShapeMismatch", Severity::kError},
    {"DTypeMismatch", Severity::kError},   {"OutOfRange", Severity::kError},
    {"NotFound", Severity::kError},        {"Io", Severity::kCritical},
    {"CorruptData", Severity::kError},     {"Unsupported", Severity::kError},
    {"OutOfMemory", Severity::kCritical},  {"Cancelled", Severity::kInfo},
    {"Internal", Severity::kFatal},        {"Broadcast", Severity::kError},
    {"DeviceMismatch", Severity::kError},  {"InvalidTensor", Severity::kError},
    {"Computation", Severity::kError},     {"Numerical", Severity::kWarning},
    {"Backend", Severity::kCritical},      {"Device", Severity::kCritical},
    {"Configuration", Severity::kError},   {"Concurrency", Severity::kError},
}};
static_assert(static_cast<size_t>(ErrorCode::kConcurrency) + 1 == kCodes.size());

std::string json_string(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += {'\\', c};
    } else if (byte < 0x20) {
      quoted += fmt::format("\\u{:04x}", byte);
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

}  // namespace

std::string_view to_string(ErrorCode code) {
  const auto index = static_cast<size_t>(code);
  return index < kCodes.size() ? kCodes[index].name : "Unknown";
}

Severity severity_of(ErrorCode code) {
  const auto index = static_cast<size_t>(code);
  return index < kCodes.size() ? kCodes[index].severity : Severity::kFatal;
}

std::string_view to_string(Severity severity) {
  constexpr std::array<std::string_view, 5> names = {"info", "warning", "error", "critical", "fatal"};
  return names.at(static_cast<size_t>(severity));
}

Error::Error(ErrorCode code, std::string message, std::string hint)
    : code_(code), message_(std::move(message)), hint_(std::move(hint)) {
  compose();
}

Error& Error::with_context(std::string frame) {
  context_.insert(context_.begin(), std::move(frame));
  compose();
  return *this;
}

Error& Error::with_operation(std::string name, std::vector<ErrorOperand> operands) {
  if (operation_.empty()) {
    operation_ = std::move(name);
    operands_ = std::move(operands);
  }
  return *this;
}

std::string Error::report() const {
  std::string text = fmt::format("{} ({}): {}\n", to_string(code_), to_string(severity()), what_);
  if (!operation_.empty()) {
    text += fmt::format("operation: {}", operation_);
    for (const auto& operand : operands_) {
      text += fmt::format(" {}{}", to_string(operand.dtype), to_string(operand.shape));
    }
    text += '\n';
  }
  if (!hint_.empty()) text += fmt::format("hint: {}\n", hint_);
  return text;
}

std::string Error::to_json() const {
  std::vector<std::string> frames;
  for (const auto& frame : context_) frames.push_back(json_string(frame));
  std::vector<std::string> operands;
  for (const auto& operand : operands_) {
    operands.push_back(
        fmt::format(R"({{"dtype":"{}","shape":{}}})", to_string(operand.dtype), to_string(operand.shape)));
  }
  return fmt::format(
      R"({{"code":"{}","severity":"{}","message":{},"context":[{}],"operation":{},"operands":[{}],"hint":{}}})",
      to_string(code_), to_string(severity()), json_string(message_), fmt::join(frames, ","),
      json_string(operation_), fmt::join(operands, ","), json_string(hint_));
}

void Error::compose() {
  what_.clear();
  for (const auto& frame : context_) what_ += frame + ": ";
  what_ += message_;
}

}  // namespace bitnet
