#include "bitnet/core/error.h"

#include <utility>

namespace bitnet {

std::string_view to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "InvalidArgument";
    case ErrorCode::kShapeMismatch:
      return "ShapeMismatch";
    case ErrorCode::kDTypeMismatch:
      return "DTypeMismatch";
    case ErrorCode::kOutOfRange:
      return "OutOfRange";
    case ErrorCode::kNotFound:
      return "NotFound";
    case ErrorCode::kIo:
      return "Io";
    case ErrorCode::kCorruptData:
      return "CorruptData";
    case ErrorCode::kUnsupported:
      return "Unsupported";
    case ErrorCode::kOutOfMemory:
      return "OutOfMemory";
    case ErrorCode::kCancelled:
      return "Cancelled";
    case ErrorCode::kInternal:
      return "Internal";
  }
  return "Unknown";
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

void Error::compose() {
  what_.clear();
  for (const auto& frame : context_) what_ += frame + ": ";
  what_ += message_;
}

}  // namespace bitnet
