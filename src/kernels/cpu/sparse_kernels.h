#pragma once

// What the sparse products of all tables have in common, as plain loops that each unit compiles for its own
// instruction set (V only makes the instance the unit's own: float_kernels.h).

#include "kernels/kernel_table.h"

#include <cstdint>

namespace bitnet::kernels {

template <class V>
void scale_sums(const ScaleSumsArgs& a) {
  constexpr int64_t kStep = 64;  // rows: loops over them are what compilers vectorize
  for (int64_t first = a.first_row; first < a.last_row; first += kStep) {
    const int64_t count = a.last_row - first < kStep ? a.last_row - first : kStep;
    int32_t dot[kStep];
    for (int64_t i = 0; i < count; ++i) dot[i] = a.sums[first + i] - a.sum;
    for (int64_t p = 1; p < a.parts; ++p) {
      for (int64_t i = 0; i < count; ++i) dot[i] += a.sums[p * a.sums_stride + first + i];
    }
    for (int64_t i = 0; i < count; ++i)
      a.y[first + i] = static_cast<float>(dot[i]) * (a.row_scale[first + i] / a.scale);
  }
}

// Each index is stored, and kept by moving on: no branch that follows the data.
template <class V>
int64_t list_open(const float* gate, int64_t first, int64_t last, int32_t* rows) {
  int64_t count = 0;
  for (int64_t i = first; i < last; ++i) {
    rows[count] = static_cast<int32_t>(i);
    count += gate[i] <= 0 ? 0 : 1;
  }
  return count;
}

template <class V>
int64_t list_nonzero(const int8_t* q, int64_t first, int64_t last, int32_t* columns, int8_t* values) {
  int64_t count = 0;
  for (int64_t i = first; i < last; ++i) {
    columns[count] = static_cast<int32_t>(i);
    values[count] = q[i];
    count += q[i] != 0 ? 1 : 0;
  }
  return count;
}

// Blocks [first, last) of 16 rows of a t2row matrix, word by word: what is left over by wider transpositions.
template <class V>
void copy_words(const uint8_t* rows, int64_t stride, int64_t first, int64_t last, uint8_t* blocks) {
  for (int64_t b = first; b < last; ++b) {
    for (int64_t r = 0; r < 16; ++r) __builtin_memcpy(blocks + 64 * b + 4 * r, rows + r * stride + 4 * b, 4);
  }
}

}  // namespace bitnet::kernels
