#include <cstdio>

#include <bitnet/bitnet.h>

// Touches the lowest and the highest library and the one with most dependencies, so that a missing link
// dependency shows.
int main() {
  const bitnet::DTypeInfo& info = bitnet::dtype_info(bitnet::DType::kTQ1_0);
  std::printf("%.*s: %d weights in %d bytes\n", static_cast<int>(info.name.size()), info.name.data(),
              info.block_elements, info.block_bytes);
  // Through LAPACK, which the package must bring along.
  if (bitnet::determinant(bitnet::eye(3)).item() != 1) return 1;
  try {
    bitnet::Model::load("no-such-model.gguf");
  } catch (const bitnet::Error& error) {
    if (error.code() != bitnet::ErrorCode::kNotFound) return 1;
    std::printf("not found, as expected: %s\n", error.what());
    return 0;
  }
  return 1;
}
