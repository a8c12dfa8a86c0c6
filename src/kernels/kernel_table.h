#pragma once

// The specification of every kernel. One table per instruction set; all tables give bit-identical results
// (docs/NUMERICS.md): integer sums are exact, and float sums run in one fixed order, over 16 lanes:
//   lane[j] = fma(a[16i + j], b[16i + j], lane[j]) for i = 0, 1, ...; a tail shorter than 16 is padded with
//   zeros sum = tree: lane[j] += lane[j+8] (j<8); lane[j] += lane[j+4]; lane[j] += lane[j+2]; lane[0] +
//   lane[1]
// Kernels take raw pointers and check nothing: callers do. They hold no inline std code.

#include "bitnet/core/dtype.h"

#include <cstdint>
#include <string_view>

namespace bitnet::kernels {

/// Per-token absmax int8 of T rows x [tokens, cols]:
///   m = max(max |x|, 1e-5);  scale = 127 / m;  q = clamp(round_half_even(x * scale), -128, 127);  sum = sum
///   q
/// q rows are q_stride bytes apart (a multiple of 64, >= cols rounded up to 16); bytes cols..round16(cols)
/// are zeroed.
struct QuantizeArgs {
  const float* x;
  int64_t x_stride;
  int64_t tokens, cols;
  int8_t* q;
  int64_t q_stride;
  float* scale;
  int32_t* sum;
};

/// y[t, n] = float(sum_k trit[n, k] * q[t, k]) * (row_scale[n] / scale[t]) for the rows of groups
/// [first_group, last_group) of a t2x16 matrix (quant/packed_ternary.h). int32 bound: |sum| <= 2 * 128 * 4^3
/// * cols / 4 < 2^31 for cols < 2^18. Rows at or beyond `rows` are not written. Any tokens >= 1.
/// ternary_tight: the same of a t53x16 matrix.
struct TernaryMatmulArgs {
  const uint8_t* weights;  ///< of group 0
  const float* row_scale;
  int64_t rows, padded_cols;
  int64_t first_group, last_group;
  int64_t tokens;
  const int8_t* q;
  int64_t q_stride;
  const float* scale;
  const int32_t* sum;
  float* y;
  int64_t y_stride;
};

/// Chosen rows of a t2row matrix times one token: y[i] = float(sum_k trit[rows[i], k] * q[k]) *
/// (row_scale[rows[i]] / scale). The activations come in the order of a row's bytes: planes[s * plane_stride
/// + 4b
/// + j] = q[16b + 4s + j], plane_stride a multiple of 64, zeros behind padded_cols / 4, 64-byte aligned.
struct TernaryRowsArgs {
  const uint8_t* weights;
  const float* row_scale;
  int64_t padded_cols;
  const int32_t* rows;
  int64_t count;
  const int8_t* planes;
  int64_t plane_stride;
  float scale;
  int32_t sum;  ///< of q
  float* y;
};

/// Chosen columns of a t2col matrix times one token: sums[n - 256 first_line] = sum_i code(n, columns[i]) *
/// q[i] for the rows n of lines [first_line, last_line), 256 each, padding included. |sum| <= 2 * 128 * count
/// < 2^31. The lists can be read up to a multiple of 4, where q is zero and columns are any of the matrix.
struct TernaryColumnsArgs {
  const uint8_t* weights;
  int64_t stride;  ///< bytes from one column to the next
  int64_t first_line, last_line;
  const int32_t* columns;
  const int8_t* q;
  int64_t count;
  int32_t* sums;
};

/// The end of such products: y[n] = float(sum_p sums[p * sums_stride + n] - sum) * (row_scale[n] / scale) for
/// n in [first_row, last_row) and `parts` parts of the columns.
struct ScaleSumsArgs {
  const int32_t* sums;
  int64_t sums_stride, parts;
  int64_t first_row, last_row;
  const float* row_scale;
  float scale;
  int32_t sum;
  float* y;
};

/// A part of a matrix as t2x16 blocks, for ternary_matmul: groups [first, last) of 16 rows of t2row or
/// t53x16, blocks [first, last) of 16 columns of t2col.
struct TranscodeArgs {
  const uint8_t* weights;
  int64_t stride;  ///< bytes from one row or column to the next; of t53x16, from one group
  int64_t padded_cols;
  int64_t first, last;
  uint8_t* blocks;  ///< the whole matrix; rows are padded as those of `weights` are
};

/// y[t, n] = sum_k x[t, k] * W[n, k] in f32, lane order, for rows [first_row, last_row) of a dense matrix of
/// type kF32, kF16, kBF16, kQ8_0, kQ6_K or kQ4_0 (weights dequantized on the fly as quant/block_formats.h
/// defines). x rows are 64-byte aligned, x_stride a multiple of 16, and padded with zeros to a multiple
/// of 16.
struct DenseMatmulArgs {
  DType dtype;
  const uint8_t* weights;
  int64_t row_bytes;
  int64_t cols;
  int64_t first_row, last_row;
  int64_t tokens;
  const float* x;
  int64_t x_stride;
  float* y;
  int64_t y_stride;
};

/// y = x * float(1 / sqrt(sum(x^2) / cols + eps)) * weight; the sum and the factor in f64, lane order,
/// because the factor's last bit decides how near-ties round to int8 (docs/NUMERICS.md). y may be x.
struct RmsNormArgs {
  const float* x;
  int64_t x_stride;
  int64_t tokens, cols;
  const float* weight;
  float eps;
  float* y;
  int64_t y_stride;
};

/// quantize(rms_norm(x)) of one row, to the bit, without storing what lies between.
struct NormQuantizeArgs {
  const float* x;
  int64_t cols;
  const float* weight;
  float eps;
  int8_t* q;  ///< round16(cols) bytes
  float* scale;
  int32_t* sum;
};

/// In place, for `heads` heads of each token: (a, b) = (x[i], x[i + d/2]) -> (a c - b s, b c + a s), i < d/2,
/// as fma(-b, s, a * c) and fma(a, s, b * c). cos and sin are [tokens, head_dim / 2].
struct RopeArgs {
  float* x;
  int64_t x_stride;
  int64_t tokens, heads, head_dim;
  const float* cos;
  const float* sin;
};

/// h[i] = act(gate[i]) * up[i], act = max(g, 0)^2 or g / (1 + exp(-g)).
struct GluArgs {
  const float* gate;
  const float* up;
  float* h;
  int64_t count;
};

/// Positions of the KV cache that attention takes at a time. Results depend on it: a constant of the format.
inline constexpr int64_t kAttentionChunk = 256;

/// What one or more chunks of the cache contribute to `rows` queries: the softmax relative to max, undivided.
///   max = max_p s_p;  sum = sum_p e^(s_p - max);  o = sum_p e^(s_p - max) v_p
/// o rows are [round16(head_dim)], o_stride (a multiple of 16) apart; elements beyond head_dim are 0.
struct AttentionState {
  float* max;
  float* sum;
  float* o;
  int64_t o_stride;
};

/// Attention of `queries` rows q [queries, head_dim] over one chunk of the cache of one KV head. Query i sees
/// the first lengths[i] positions of the chunk, 1 <= lengths[i] <= kAttentionChunk.
///   s_p = (fma chain of q[d] * k[p][d] over d = 0, 1, ..., from 0) * scale
///   w_p = e^(s_p - max) (exp of docs/NUMERICS.md), their sum in lane order
///   o[d] = fma chain of w_p * v[p][d] over p = 0, 1, ..., from 0
/// with keys [chunk / 16][head_dim][16] and values [chunk][round16(head_dim)] of type kF32 or kF16, q in f32.
///
/// kI8: keys [chunk / 16][round4(head_dim) / 4][16][4] and values [chunk / 4][round16(head_dim)][4], a scale
/// > 0 for each position; q8 rows with q = q8 * q_scale and q_sum = sum_d q8, padded with zeros to a multiple
/// of 4; integers in [-127, 127]. Sums are exact: |sum_d| < 2^24 for head_dim <= 1024, |sum_p| <= 256 * 16383
/// * 127 < 2^31.
///   s_p = float(sum_d q8[d] * k[p][d]) * (key_scale[p] * (q_scale * scale))
///   m = max_p w_p * value_scale[p];  W_p = round_half_even((w_p * value_scale[p]) * (16383 / m))
///   o[d] = float(sum_p W_p * v[p][d]) * (m / 16383)
/// max and the sum of w_p as above; if m is not finite, o is NaN; if it is 0, o is 0.
///
/// What lies at positions that a query does not see cannot reach its result; whole blocks of 16 keys, groups
/// of 4 i8 values and 16 scales are read. q_stride is in elements; weights is scratch, [queries,
/// kAttentionChunk], 64-byte aligned. The sign of a max of 0 is not specified.
struct AttentionChunkArgs {
  const float* q;
  const int8_t* q8;
  const float* q_scale;
  const int32_t* q_sum;
  int64_t q_stride;
  int64_t queries;
  const int32_t* lengths;
  const void* keys;
  const void* values;
  const float* key_scale;
  const float* value_scale;
  DType kv_type;
  int64_t head_dim;
  float scale;
  float* weights;
  AttentionState out;
};

/// The largest W_p of a kI8 chunk: two digits of 7 bits, so that either suits a byte product of any sign.
inline constexpr float kAttentionWeightMax = 16383.0f;

/// Joins the next chunk's `part` to `total`, row by row: n = max(total.max, part.max);
///   a = e^(total.max - n);  b = e^(part.max - n);  sum = fma(sum, a, part.sum * b);  o = fma(o, a, part.o *
///   b)
/// The first chunk is the total as it stands. Chunks are joined in order of position, so that it does not
/// matter who computed them.
struct AttentionMergeArgs {
  AttentionState total, part;
  int64_t rows, head_dim;
};

/// Approximate products with groups [first_group, last_group) of 16 rows each of a 4-bit matrix, and a sum of
/// squares from which their error is bounded (docs/NUMERICS.md). A group is units of 128 columns, 1088 bytes
/// each: 4 blocks of 32 columns, 256 bytes of codes L in [0, 15] each, then multipliers m in [0, 127], 16
/// rows of each block. Byte 64 i + 4 r + j of a block (i, j = 0..3) holds the code of row r, column 8 i + j
/// in its lower bits and that of column 8 i + 4 + j in its upper bits. Activations are X[k] = 128 hi[k] +
/// lo[k], |X| <= 16383, lo in [0, 127], zeros from the matrix's columns up to whole units. offset and weight
/// hold a number for each block b. For each row, over its blocks from y = v = 0:
///   y = fma(m_b, float(offset_b + sum L X), y);  v = fma(m_b * m_b, weight_b, v)
/// and bound = sqrt(v). Callers keep |offset_b + sum L X| below 2^24: exact in f32. All 16 rows of a group
/// are written. Rows of hi and lo are 64-byte aligned, x_stride a multiple of 64.
struct ScanI4Args {
  const uint8_t* weights;  ///< of group 0
  int64_t units;           ///< of a group
  int64_t first_group, last_group;
  int64_t tokens;
  const int8_t* hi;
  const int8_t* lo;
  int64_t x_stride;
  const int32_t* offset;
  const float* weight;
  int64_t block_stride;  ///< of offset and weight, from token to token
  float* y;              ///< of the first row of first_group
  float* bound;
  int64_t y_stride;
};

struct KernelTable {
  std::string_view name;
  /// Speed of ternary_matmul with many tokens, per token, relative to one token whose weights are in the
  /// cache (sparse_benchmark, whole/*): how much of a product must be zeros before skipping them
  /// pays.
  float batch_gain;
  void (*quantize)(const QuantizeArgs&);
  void (*ternary_matmul)(const TernaryMatmulArgs&);
  /// For products of t53x16 with at most tight_tokens tokens; with more it pays to turn groups into t2x16.
  /// Both are null, and the number is 0, where no instruction looks up 27 bytes at once.
  void (*ternary_tight)(const TernaryMatmulArgs&);
  void (*tight_to_blocks)(const TranscodeArgs&);
  int64_t tight_tokens;
  void (*ternary_rows)(const TernaryRowsArgs&);
  void (*ternary_columns)(const TernaryColumnsArgs&);
  void (*scale_sums)(const ScaleSumsArgs&);
  void (*rows_to_blocks)(const TranscodeArgs&);
  void (*columns_to_blocks)(const TranscodeArgs&);
  /// The i of [first, last) with !(gate[i] <= 0), a NaN included, in order; returns how many. `rows` has room
  /// for 16 more than there can be, here and below.
  int64_t (*list_open)(const float* gate, int64_t first, int64_t last, int32_t* rows);
  /// The i of [first, last) with q[i] != 0, in order, and those q; returns how many.
  int64_t (*list_nonzero)(const int8_t* q, int64_t first, int64_t last, int32_t* columns, int8_t* values);
  void (*dense_matmul)(const DenseMatmulArgs&);
  void (*scan_i4)(const ScanI4Args&);
  void (*rms_norm)(const RmsNormArgs&);
  void (*norm_quantize)(const NormQuantizeArgs&);
  void (*rope)(const RopeArgs&);
  void (*glu_relu2)(const GluArgs&);
  void (*glu_silu)(const GluArgs&);
  void (*attention_chunk)(const AttentionChunkArgs&);
  void (*attention_merge)(const AttentionMergeArgs&);
  void (*add)(float* x, const float* y, int64_t count);             ///< x += y
  void (*store_f16)(const float* x, uint16_t* out, int64_t count);  ///< round to nearest even
};

/// The table for `forced` ("" = environment variable BITNET_ISA, and if that is empty the best available).
/// Throws kUnsupported if the name is unknown or this machine cannot run it: never a silent fallback.
[[nodiscard]] const KernelTable& select_kernels(std::string_view forced);
/// All tables that this machine can run, best first.
[[nodiscard]] const KernelTable* const* runnable_kernels(int* count);

}  // namespace bitnet::kernels
