// What an error says: kind, severity, operation, operands, context, hint; for a person and as JSON.
#include "bitnet/core/error.h"
#include "bitnet/tensor/create.h"

#include <cstdio>

int main() {
  try {
    try {
      const bitnet::Tensor weights = bitnet::zeros({4, 6});
      (void)weights.transpose(0, 1).reshape({24});  // would need a copy, and a view never makes one
    } catch (bitnet::Error& error) {
      error.with_context("flattening the weights of layer 3");
      throw;
    }
  } catch (const bitnet::Error& error) {
    std::printf("%s\n%s\n", error.report().c_str(), error.to_json().c_str());
    // Decide by the code, not by the text.
    return error.code() == bitnet::ErrorCode::kShapeMismatch && error.severity() == bitnet::Severity::kError
               ? 0
               : 1;
  }
  return 1;
}
