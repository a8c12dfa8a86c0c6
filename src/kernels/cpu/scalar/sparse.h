#pragma once

// Products with chosen rows and columns, and their layouts as blocks: the definitions, code by code.

#include "kernels/kernel_table.h"

#include <cstdint>

namespace bitnet::kernels::scalar {
namespace {

struct Place {
  int64_t offset;
  int field;
};

inline int code_at(const uint8_t* weights, Place place) {
  return weights[place.offset] >> (2 * place.field) & 3;
}

// Where a row of t2row and t2x16 (`blocks` bytes apart) holds a column, and where t2col holds a row of a
// column.
inline Place in_row(int64_t col, int64_t block_bytes) {
  return {col / 16 * block_bytes + col % 4, static_cast<int>(col % 16 / 4)};
}
inline Place in_column(int64_t row) {
  return {row / 256 * 64 + row % 16 / 4 * 16 + row % 256 / 64 * 4 + row % 4, static_cast<int>(row % 64 / 16)};
}

inline void ternary_rows(const TernaryRowsArgs& a) {
  for (int64_t i = 0; i < a.count; ++i) {
    const uint8_t* row = a.weights + a.rows[i] * (a.padded_cols / 4);
    int32_t dot = -a.sum;
    for (int64_t byte = 0; byte < a.padded_cols / 4; ++byte) {
      for (int s = 0; s < 4; ++s) dot += code_at(row, {byte, s}) * a.planes[s * a.plane_stride + byte];
    }
    a.y[i] = static_cast<float>(dot) * (a.row_scale[a.rows[i]] / a.scale);
  }
}

inline void ternary_columns(const TernaryColumnsArgs& a) {
  for (int64_t row = 256 * a.first_line; row < 256 * a.last_line; ++row) {
    int32_t sum = 0;
    for (int64_t i = 0; i < a.count; ++i)
      sum += code_at(a.weights + a.columns[i] * a.stride, in_column(row)) * a.q[i];
    a.sums[row - 256 * a.first_line] = sum;
  }
}

inline void store_code(uint8_t* group, int64_t row, int64_t col, int code) {
  const Place place = in_row(col, 64);
  uint8_t& byte = group[place.offset + 4 * row];
  byte = static_cast<uint8_t>((byte & ~(3 << (2 * place.field))) | code << (2 * place.field));
}

inline void rows_to_blocks(const TranscodeArgs& a) {
  for (int64_t row = 16 * a.first; row < 16 * a.last; ++row) {
    uint8_t* group = a.blocks + row / 16 * 4 * a.padded_cols;
    for (int64_t col = 0; col < a.padded_cols; ++col)
      store_code(group, row % 16, col, code_at(a.weights + row * a.stride, in_row(col, 4)));
  }
}

inline void columns_to_blocks(const TranscodeArgs& a) {
  for (int64_t row = 0; row < 4 * a.stride; ++row) {
    uint8_t* group = a.blocks + row / 16 * 4 * a.padded_cols;
    for (int64_t col = 16 * a.first; col < 16 * a.last; ++col)
      store_code(group, row % 16, col, code_at(a.weights + col * a.stride, in_column(row)));
  }
}

constexpr void add_sparse_kernels(KernelTable& table) {
  table.ternary_rows = ternary_rows;
  table.ternary_columns = ternary_columns;
  table.rows_to_blocks = rows_to_blocks;
  table.columns_to_blocks = columns_to_blocks;
}

}  // namespace
}  // namespace bitnet::kernels::scalar
