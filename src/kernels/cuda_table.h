#pragma once

// The GPU's kernels and runtime as plain functions: callers need neither CUDA headers nor to know whether
// this build has CUDA. Arithmetic is that of kernel_table.h except where a comment says otherwise
// (docs/CUDA.md).
//
// Vectors that a kernel reads whole (activations, norm weights) are padded with zeros to kPad elements.
// Pointers are device pointers; work is queued on a stream and kernels check nothing. Functions throw
// bitnet::Error when the runtime reports a failure.

#include "bitnet/core/dtype.h"
#include "kernels/kernel_table.h"

#include <cstddef>
#include <cstdint>

namespace bitnet::cuda {

/// Columns of a tile of ternary weights (quant/ternary_tiles.h), and the padding of every vector.
inline constexpr int64_t kPad = 128;
inline constexpr int64_t kMaxHeadDim = 256;
/// Floats of scratch that decode attention needs per query head (rounded up to 4 heads of a key head) and
/// chunk.
inline constexpr int64_t kDecodePartial = 8 * (32 + 2);

struct StreamTag;
struct GraphTag;
struct EventTag;
using Stream = StreamTag*;
using Graph = GraphTag*;
using Event = EventTag*;
using Page = uint64_t;  ///< the driver's handle

/// Up to two RMS norms in a row; a null weight leaves its norm out.
struct Norms {
  const float* first = nullptr;
  const float* second = nullptr;
  float first_eps = 0, second_eps = 0;
};

/// What becomes of a ternary product: y = p; y += p; or, of a paired matrix (gate and up rows alternating by
/// eights), y = act(gate) * up.
enum class Epilogue { kStore, kAdd, kRelu2, kSilu };

/// Ternary weights as tiles of 16 rows x 128 columns (quant/ternary_tiles.h).
struct TernaryWeights {
  const void* tiles = nullptr;
  const float* row_scale = nullptr;  ///< [16 * groups]
  int64_t groups = 0;                ///< of 16 rows
  int64_t k_tiles = 0;               ///< of 128 columns
  int64_t outputs = 0;               ///< rows that are written; of a paired matrix the products gate * up
};

/// One token: y = epilogue(W quantize(norms(x))), all in one kernel. x [k_tiles * 128].
struct GemvArgs {
  const float* x;
  int64_t cols;
  Norms norms;
  TernaryWeights weights;
  Epilogue epilogue;
  float* y;
};

/// q, scale, sum of norms(x) per token; with an addend, of x += addend. Rows of x and q are padded to kPad,
/// and so are those of the addend, with anything. `image`: q becomes not rows but the image that ternary_gemm
/// takes instead (cuda/activation_image.cuh), with q_stride columns.
struct QuantizeArgs {
  float* x;
  int64_t x_stride, tokens, cols;
  Norms norms;
  int8_t* q;
  int64_t q_stride;
  float* scale;
  int32_t* sum;
  bool image;
  const float* addend = nullptr;
  int64_t addend_stride = 0;
};

/// Several tokens: y[t] = epilogue(W q[t]).
struct GemmArgs {
  TernaryWeights weights;
  int64_t tokens;
  const int8_t* q;
  int64_t q_stride;
  const float* scale;
  const int32_t* sum;
  Epilogue epilogue;
  float* y;
  int64_t y_stride;
  bool image = false;  ///< what q is: rows, or where gemm_takes_image() an image
};

/// Tokens' int8 rows in an image are a multiple of this.
inline constexpr int64_t kImageTokens = 128;

/// A dense matrix in a file's dtype; rows row_bytes apart, a multiple of 64, zeros behind `cols`.
struct DenseRows {
  DType dtype;
  const void* rows;
  int64_t row_bytes, count, cols;
};

/// x[t] = table[ids[t]]; without ids, of the one token `id`.
struct EmbedArgs {
  DenseRows table;
  const int32_t* ids;
  int32_t id;
  int64_t tokens;
  float* x;
  int64_t x_stride;
};

/// y[t] = head * norms(x[t]).
struct HeadArgs {
  DenseRows head;
  const float* x;
  int64_t x_stride, tokens;
  Norms norms;
  float* y;
  int64_t y_stride;
};

/// An int8 copy of a head (docs/NUMERICS.md) in blocks of 16 rows x 64 columns (cuda/int8_tiles.cuh);
/// per row w ~ scale q, error >= ||w - scale q||, norm >= ||w|| + error.
struct Int8Copy {
  int8_t* tiles;
  float* scale;
  float* error;
  float* norm;
  int64_t groups;  ///< of 16 rows
  int64_t blocks;  ///< of 64 columns, a multiple of 2
};

inline constexpr int64_t kMostTopTokens = 64;
inline constexpr int64_t kMostTopCandidates = 1023;

/// Of a token of x: the `k` highest logits, beside `always` named ones that do not count.
struct TopQueryRow {
  int32_t row, k, always;
};
/// What head_top finds: `count` rows and their logits, in no order; nothing where count > kMostTopCandidates.
struct TopCandidates {
  int32_t count;
  int32_t ids[kMostTopCandidates];
  float logits[kMostTopCandidates];
};

/// The named logits and the k highest others of the rows of x that `queries` name, those of `head`.
struct HeadTopArgs {
  DenseRows head;
  Int8Copy copy;
  const float* x;
  int64_t x_stride, tokens;  ///< tokens: at most kMostTopTokens queries
  Norms norms;
  const TopQueryRow* queries;
  const int32_t* always;  ///< [tokens][kMostTopCandidates]
  void* scratch;          ///< head_top_scratch() bytes
  TopCandidates* out;     ///< [tokens]
};

/// One new token of a sequence: its row of the batch, its position, and where the sequence's keys and values
/// begin.
struct DecodeRow {
  void* keys;
  void* values;
  int32_t row, position;
};

/// How a token is drawn: Sampler's greedy choice, or its chain of top-k, top-p, min-p and temperature.
struct SampleRow {
  double temperature;  ///< 0: greedy
  double top_p;        ///< 1: off
  double log_min_p;    ///< -infinity: off
  double number;       ///< the draw, in [0, 1)
  int32_t k;           ///< as in the row's query; 1 if greedy
};

/// Draws a token for each row of `found`, whose queries had nothing that is always wanted; at most
/// kMostTopTokens. Rows are in the kernel's parameters: no copy goes ahead of it.
struct SampleArgs {
  const TopCandidates* found;
  int64_t count;
  int32_t* tokens;     ///< -1 where only all logits can decide; may be pinned memory of the host
  int32_t* ids;        ///< the same, but 0 for -1: what the next step embeds
  DecodeRow* advance;  ///< their positions are raised by 1; may be null
  SampleRow rows[kMostTopTokens];
};

/// cos and sin [positions, head_dim / 2] of position * inv_freq (the product rounded to f32 first).
struct RopeTableArgs {
  const float* inv_freq;
  int64_t positions, half;
  float* cos;
  float* sin;
};

/// Elements between the heads of a position in the cache.
constexpr int64_t kv_head_stride(int64_t head_dim) {
  return (head_dim + 7) / 8 * 8;
}

/// One layer's cache: positions of kv_heads * kv_head_stride(head_dim) elements, kF32 or kF16.
struct KvLayer {
  void* keys;
  void* values;
  DType dtype;
};
struct Heads {
  int64_t heads, kv_heads, head_dim;
};

/// Several tokens at positions first + t: rotates k of qkv [tokens, q | k | v], stores k and v, and with
/// `queries` rotates q in place.
struct RopeStoreArgs {
  float* qkv;
  int64_t qkv_stride, tokens, first;
  Heads heads;
  const float* cos;
  const float* sin;
  KvLayer cache;
  bool queries = true;
};

/// Causal attention of several tokens over the cache that holds them. prefill_attention: q is rotated; the
/// arithmetic of attention_chunk and attention_merge of kernel_table.h, to the bit, as in decode_attention.
/// mma_attention: on the tensor cores, close to it; it rotates q by cos and sin.
struct PrefillAttentionArgs {
  const float* qkv;
  int64_t qkv_stride, tokens, first;
  Heads heads;
  KvLayer cache;
  float scale;
  float* out;
  int64_t out_stride;
  const float* cos = nullptr;
  const float* sin = nullptr;
};

/// RoPE, store and attention of one new token each of several sequences, in one kernel. `layer` elements lie
/// between a cache's begin and this layer's. No position is at or beyond max_chunks * kAttentionChunk;
/// partial_chunks is the same for the longest context. `partial` holds row_count * heads_in_fours *
/// partial_chunks * kDecodePartial floats, `arrived` row_count * heads_in_fours * 8 zeros, heads_in_fours =
/// kv_heads * round_up(heads / kv_heads, 4).
struct DecodeAttentionArgs {
  const float* qkv;
  int64_t qkv_stride;
  const DecodeRow* rows;
  int64_t row_count;
  DType kv_type;
  int64_t layer;
  Heads heads;
  const float* cos;
  const float* sin;
  float scale;
  int64_t max_chunks, partial_chunks;
  float* partial;
  int32_t* arrived;
  float* out;
  int64_t out_stride;
};

/// RoPE, store and attention over i8 caches, of a new token each of several sequences (`rows`) or, without
/// rows, of several tokens of one sequence from position `first` on: the arithmetic of kI8 of kernel_table.h,
/// to the bit. A sequence's keys, and values, are
///   keys [layers][positions][kv_heads][kv_head_stride], values [layers][positions / 4][kv_heads][stride][4]
/// and behind them f32 scales [layers][kv_heads][positions]; positions is a multiple of 4. No token's
/// position is at or beyond max_chunks * kAttentionChunk; `partial` holds tokens * heads * max_chunks *
/// (head_dim + 2) floats.
struct I8AttentionArgs {
  float* qkv;
  int64_t qkv_stride, tokens;
  const DecodeRow* rows;
  void* keys;  ///< without rows
  void* values;
  int64_t first;
  Heads heads;
  int64_t positions, layers, layer;
  const float* cos;
  const float* sin;
  float scale;
  int64_t max_chunks;
  float* partial;
  float* out;
  int64_t out_stride;
  int64_t block_tokens;  ///< i8_attention's own
};

/// ShiftArgs for all layers of an i8 cache: keys are rotated as rounded, and rounded again.
struct I8ShiftArgs {
  void* keys;
  void* values;
  Heads heads;
  int64_t positions, layers, from, end, count;
  const float* cos;
  const float* sin;
};

/// A layer's matrices for decode_step, in the order q/k/v, attention output, paired gate and up, down; norms
/// are those of the matrices' inputs and may be null.
struct StepLayer {
  const void* tiles[4];
  const float* row_scales[4];
  const float* norms[4];
};

/// All layers for one new token of one sequence. Shapes are those of every layer's matrices.
struct StepArgs {
  const StepLayer* layers;  ///< on the device
  int64_t layer_count;
  int64_t groups[4], k_tiles[4], cols[4];
  Heads heads;
  DType kv_type;  ///< kI8 lies as in I8AttentionArgs
  void* keys;
  void* values;
  int64_t position, context;
  int64_t positions;  ///< of a layer of the cache: the context, with kI8 a multiple of 4
  const float* cos;
  const float* sin;
  float scale, eps;
  bool relu2;
  void* exchange;  ///< step_exchange_bytes(), zero at first
  /// Of the first layer; not 0 or 1. Each launch on an exchange begins at least layer_count higher than the
  /// last.
  uint32_t epoch;
  float* x;  ///< the embedding, and then the last layer's result
};

/// Moves positions [from, end) of one layer down by `count`, rotating keys by cos and sin [head_dim / 2].
struct ShiftArgs {
  KvLayer cache;
  Heads heads;
  int64_t from, end, count;
  const float* cos;
  const float* sin;
};

/// h = act(gate) * up of [count] elements.
struct GluArgs {
  const float* gate;
  const float* up;
  float* h;
  int64_t count;
  bool relu2;
};

/// GPUs that can share a model.
inline constexpr int kMostGpus = 8;
/// Elements (tokens * row, rows rounded up to 2) that gather_few takes.
inline constexpr int64_t kFewElements = int64_t{1} << 16;

/// Rows of which GPU r has computed elements [begin[r], begin[r + 1]); begins are even. Afterwards those of
/// GPU `rank` are whole. All GPUs queue the same gathers in the same order, at least two a pass, and no part
/// is written again before a gather that follows this one. Kernels wait for those of other GPUs: passes of
/// different models must not be under way at once.
struct GatherArgs {
  int rank, size;
  int64_t begin[kMostGpus + 1];
  float* rows[kMostGpus];  ///< on each GPU
  int64_t stride, tokens;
  void* areas[kMostGpus];  ///< gather_area_bytes() on each GPU, zeros at first
  uint32_t index;          ///< how many gathers of the pass are before this one
};

/// Parts as above between rows and [size][tokens][longest].
struct PackArgs {
  int rank, size;
  int64_t begin[kMostGpus + 1];
  float* rows;
  int64_t stride, tokens;
  float* packed;
  int64_t longest;
};

struct MemoryInfo {
  int64_t free_bytes, total_bytes;
};

struct Table {
  // Runtime. All other calls need use_device first on their thread.
  void (*use_device)(int index);
  MemoryInfo (*memory)();
  void* (*allocate)(size_t bytes);  ///< throws kOutOfMemory
  void (*release)(void* pointer) noexcept;
  void* (*allocate_pinned)(size_t bytes);  ///< host memory that copies do not stage
  void (*release_pinned)(void* pointer) noexcept;
  /// Memory by pages that are mapped into reserved addresses. 0: this GPU or driver has none.
  size_t (*page_bytes)();
  void* (*reserve_addresses)(size_t bytes);  ///< a multiple of page_bytes()
  void (*free_addresses)(void* address, size_t bytes) noexcept;
  Page (*create_page)();  ///< throws kOutOfMemory
  void (*destroy_page)(Page page) noexcept;
  void (*map_page)(void* address, Page page);
  void (*unmap_page)(void* address, size_t bytes) noexcept;  ///< of one page that nothing uses any more
  void (*finish)();                                          ///< waits for all streams of the device
  Stream (*create_stream)();
  void (*destroy_stream)(Stream stream) noexcept;
  void (*synchronize)(Stream stream);
  void (*to_device)(void* destination, const void* source, size_t bytes, Stream stream);
  void (*to_host)(void* destination, const void* source, size_t bytes, Stream stream);
  void (*clear)(void* destination, size_t bytes, Stream stream);
  Event (*create_event)();
  void (*destroy_event)(Event event) noexcept;
  void (*record)(Event event, Stream stream);
  void (*wait)(Event event);  ///< until what was queued before record() has run
  /// What is queued on the stream between the two becomes a graph instead of running.
  void (*begin_capture)(Stream stream);
  Graph (*end_capture)(Stream stream);
  void (*launch_graph)(Graph graph, Stream stream);
  void (*destroy_graph)(Graph graph) noexcept;

  // Kernels.
  void (*ternary_gemv)(const GemvArgs& args, Stream stream);
  void (*quantize)(const QuantizeArgs& args, Stream stream);
  /// Whether a product of so many tokens is faster from an image, on the GPU in use.
  bool (*gemm_takes_image)(int64_t tokens);
  void (*ternary_gemm)(const GemmArgs& args, Stream stream);
  void (*naive_ternary)(const GemmArgs& args, Stream stream);  ///< the oracle of ternary_gemm
  void (*embed)(const EmbedArgs& args, Stream stream);
  void (*head)(const HeadArgs& args, Stream stream);
  void (*round_head)(const DenseRows& head, const Int8Copy& copy, Stream stream);
  size_t (*head_top_scratch)(const DenseRows& head);
  void (*head_top)(const HeadTopArgs& args, Stream stream);
  void (*sample)(const SampleArgs& args, Stream stream);
  void (*rope_table)(const RopeTableArgs& args, Stream stream);
  void (*rope_store)(const RopeStoreArgs& args, Stream stream);
  void (*prefill_attention)(const PrefillAttentionArgs& args, Stream stream);
  bool (*mma_attention_runs)(const Heads& heads, DType kv_type);
  void (*mma_attention)(const PrefillAttentionArgs& args, Stream stream);
  void (*decode_attention)(const DecodeAttentionArgs& args, Stream stream);
  void (*i8_attention)(const I8AttentionArgs& args, Stream stream);
  void (*i8_shift)(const I8ShiftArgs& args, Stream stream);
  /// Whether decode_step can run this shape on the GPU in use: sm_90, and what a block needs has room.
  bool (*step_runs)(const StepArgs& args);
  size_t (*step_exchange_bytes)(const StepArgs& args);
  void (*decode_step)(const StepArgs& args, Stream stream);
  void (*shift)(const ShiftArgs& args, Stream stream);
  void (*glu)(const GluArgs& args, Stream stream);

  // Several GPUs. `reach` lets the GPU in use read and write the memory of another one.
  bool (*can_reach)(int from, int to);
  void (*reach)(int peer);
  size_t (*gather_area_bytes)();
  /// Begins a pass of so many gathers, an even number; of all passes since the area was zeros fewer than
  /// 2^32.
  void (*next_pass)(void* area, uint32_t gathers, Stream stream);
  void (*gather_few)(const GatherArgs& args, Stream stream);   ///< by pushing values: little latency
  void (*gather_many)(const GatherArgs& args, Stream stream);  ///< by reading them where they are
  void (*pack)(const PackArgs& args, Stream stream);           ///< this GPU's part of the rows into `packed`
  void (*unpack)(const PackArgs& args, Stream stream);         ///< the others' into the rows

  // The walls, for measurements; `out` is a word that is hardly ever written.
  void (*read_memory)(const void* data, size_t bytes, uint32_t* out, Stream stream);
  /// int8 products from registers and shared memory alone; returns how many operations it queues.
  double (*int8_peak)(uint32_t* out, Stream stream);
};

/// Throws kUnsupported where this build has no CUDA.
[[nodiscard]] const Table& table();

}  // namespace bitnet::cuda
