#include "ops/indexing.h"

#include "bitnet/core/error.h"
#include "bitnet/tensor/copy.h"

#include <cstring>

#include <fmt/format.h>

namespace bitnet::ops {

void run_embedding(OpCall& call) {
  const Tensor table = contiguous(call.inputs[0]);
  const Tensor indices = contiguous(call.inputs[1]);
  const int64_t rows = table.shape()[0];
  const int64_t row_bytes = rows == 0 ? 0 : table.nbytes() / rows;
  std::byte* to = call.output.bytes();
  for (const int64_t index : indices.values<int64_t>()) {
    if (index < 0 || index >= rows) {
      throw Error(ErrorCode::kOutOfRange,
                  fmt::format("embedding: row {} of a table with {} rows", index, rows),
                  rows == 0 ? "the table is empty" : fmt::format("indices go from 0 to {}", rows - 1));
    }
    std::memcpy(to, table.bytes() + index * row_bytes, static_cast<size_t>(row_bytes));
    to += row_bytes;
  }
}

}  // namespace bitnet::ops
