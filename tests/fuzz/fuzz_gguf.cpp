#include "bitnet/core/error.h"
#include "bitnet/io/gguf.h"
#include "bitnet/quant/block_formats.h"
#include "bitnet/quant/ternary_formats.h"

#include <cstdint>
#include <vector>

// Parses the input as a GGUF file and reads all that the file is said to hold. bitnet::Error is the only way
// out.

namespace {

using bitnet::Error;
using bitnet::GgufFile;
using bitnet::GgufTensor;

/// Longer rows repeat what shorter ones test.
constexpr int64_t kMaxRow = 1 << 16;

void read_tensor(const GgufTensor& tensor) {
  const int64_t cols = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (cols <= 0 || cols > kMaxRow) return;
  const int64_t rows = bitnet::element_count(tensor.shape) / cols;
  try {
    if (bitnet::is_ternary(tensor.dtype)) {
      std::vector<int8_t> trits(static_cast<size_t>(cols));
      const bitnet::TernaryBytes matrix{tensor.dtype, rows, cols, tensor.bytes};
      (void)bitnet::decode_ternary_row(matrix, 0, trits);
      (void)bitnet::decode_ternary_row(matrix, rows - 1, trits);
    } else if (rows > 0) {
      std::vector<float> values(static_cast<size_t>(cols));
      bitnet::dequantize_row(tensor.dtype, tensor.bytes, values);
    }
  } catch (const Error&) {
  }
}

template <class Get>
void try_get(Get&& get) {
  try {
    (void)get();
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const GgufFile file = GgufFile::parse(std::as_bytes(std::span(data, size)));
    for (const auto& entry : file.metadata()) {
      const std::string& key = entry.first;
      if (file.find(key) != &entry.second) __builtin_trap();
      try_get([&] { return file.get_integer(key); });
      try_get([&] { return file.get_real(key); });
      try_get([&] { return file.get_bool(key); });
      try_get([&] { return file.get_string(key); });
      try_get([&] { return file.get_strings(key); });
      try_get([&] { return file.get_integers(key); });
      try_get([&] { return file.get_reals(key); });
    }
    for (const GgufTensor& tensor : file.tensors()) {
      if (file.find_tensor(tensor.name) != &tensor) __builtin_trap();
      read_tensor(tensor);
    }
  } catch (const Error&) {
  }
  return 0;
}
