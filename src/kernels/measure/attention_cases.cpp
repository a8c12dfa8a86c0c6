#include "kernels/measure/kernel_cases.h"
#include "kernels/measure/random_operands.h"

#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace bitnet::kernels {
namespace {

constexpr int64_t kPrefillQueries = 48;  // the tile of inference/attention.cpp

/// The keys and values of one KV head over whole chunks. The order of elements does not matter for the time.
AlignedBuffer random_cache(const KernelTable& scalar, int64_t count, DType type) {
  AlignedBuffer floats = random_rows(1, count, count);
  if (type == DType::kF32) return floats;
  AlignedBuffer cache(static_cast<size_t>(count * dtype_info(type).block_bytes));
  if (type == DType::kF16) {
    scalar.store_f16(floats.as<float>(), cache.as<uint16_t>(), count);
  } else {
    for (int64_t i = 0; i < count; ++i)
      cache.as<int8_t>()[i] = static_cast<int8_t>(floats.as<float>()[i] * 127);
  }
  return cache;
}

/// `queries` queries of one KV head over every chunk of a cache, each chunk on its own: what decoding (as
/// many queries as share a KV head) and a tile of prefill do.
class ChunkCase {
 public:
  ChunkCase(const KernelMeter& meter, int64_t chunks, int64_t queries)
      : shapes_(meter.shapes),
        queries_(queries),
        padded_dim_(round_up(shapes_.head_dim, 16)),
        key_dim_(shapes_.kv == DType::kI8 ? round_up(shapes_.head_dim, 4) : shapes_.head_dim),
        stride8_(round_up(shapes_.head_dim, 64)),
        keys_(random_cache(meter.scalar, chunks * kAttentionChunk * key_dim_, shapes_.kv)),
        values_(random_cache(meter.scalar, chunks * kAttentionChunk * padded_dim_, shapes_.kv)),
        q_(random_rows(queries, shapes_.head_dim, padded_dim_)),
        scales_(random_rows(1, kAttentionChunk, kAttentionChunk)),
        q8_(static_cast<size_t>(queries * stride8_)),
        q_scale_(static_cast<size_t>(queries) * sizeof(float)),
        q_sum_(static_cast<size_t>(queries) * sizeof(int32_t)),
        lengths_(static_cast<size_t>(queries), static_cast<int32_t>(kAttentionChunk)) {
    meter.scalar.quantize({.x = q_.as<float>(),
                           .x_stride = padded_dim_,
                           .tokens = queries,
                           .cols = shapes_.head_dim,
                           .q = q8_.as<int8_t>(),
                           .q_stride = stride8_,
                           .scale = q_scale_.as<float>(),
                           .sum = q_sum_.as<int32_t>()});
    for (int64_t i = 0; i < queries; ++i) q_scale_.as<float>()[i] = 1 / q_scale_.as<float>()[i];
    for (int64_t i = 0; i < kAttentionChunk; ++i)  // factors of a cache are positive
      scales_.as<float>()[i] = (2 + scales_.as<float>()[i]) / 127;
  }

  /// Memory that a thread needs for one chunk.
  struct Scratch {
    Scratch(int64_t queries, int64_t padded_dim)
        : weights(static_cast<size_t>(queries * kAttentionChunk) * sizeof(float)),
          max(static_cast<size_t>(queries) * sizeof(float)),
          sum(max.size()),
          o(static_cast<size_t>(queries * padded_dim) * sizeof(float)) {}
    AlignedBuffer weights, max, sum, o;
  };
  [[nodiscard]] Scratch scratch() const { return {queries_, padded_dim_}; }

  void run(const KernelTable& table, int64_t chunk, Scratch& scratch) {
    const int64_t element = dtype_info(shapes_.kv).block_bytes, first = chunk * kAttentionChunk * element;
    table.attention_chunk(
        {.q = q_.as<float>(),
         .q8 = q8_.as<int8_t>(),
         .q_scale = q_scale_.as<float>(),
         .q_sum = q_sum_.as<int32_t>(),
         .q_stride = shapes_.kv == DType::kI8 ? stride8_ : padded_dim_,
         .queries = queries_,
         .lengths = lengths_.data(),
         .keys = keys_.data() + first * key_dim_,
         .values = values_.data() + first * padded_dim_,
         .key_scale = scales_.as<float>(),
         .value_scale = scales_.as<float>(),
         .kv_type = shapes_.kv,
         .head_dim = shapes_.head_dim,
         .scale = 0.0884f,
         .weights = scratch.weights.as<float>(),
         .out = {scratch.max.as<float>(), scratch.sum.as<float>(), scratch.o.as<float>(), padded_dim_}});
  }

 private:
  const KernelShapes& shapes_;
  int64_t queries_, padded_dim_, key_dim_, stride8_;
  AlignedBuffer keys_, values_, q_, scales_;
  AlignedBuffer q8_, q_scale_, q_sum_;  ///< the queries quantized, for kI8
  std::vector<int32_t> lengths_;
};

void time_chunks(KernelMeter& meter, int64_t length, int64_t queries) {
  const KernelShapes& s = meter.shapes;
  const int64_t chunks = round_up(length, kAttentionChunk) / kAttentionChunk;
  ChunkCase chunk_case(meter, chunks, queries);
  const auto positions = static_cast<double>(chunks * kAttentionChunk);
  KernelSpeed speed{fmt::format("attention {}", to_string(s.kv)),
                    fmt::format("{}x{}", chunks * kAttentionChunk, s.head_dim),
                    queries,
                    0,
                    4.0 * static_cast<double>(queries * s.head_dim) * positions,
                    2.0 * static_cast<double>(s.head_dim * dtype_info(s.kv).block_bytes) * positions};
  ChunkCase::Scratch expected = chunk_case.scratch(), actual = chunk_case.scratch();
  chunk_case.run(meter.scalar, 0, expected);
  chunk_case.run(meter.table, 0, actual);
  if (!same_bytes(expected.o, actual.o) || !same_bytes(expected.sum, actual.sum))
    throw_difference(speed, meter.table);
  meter.time(std::move(speed), [&] {
    meter.pool.for_range(chunks, 1, [&](int64_t begin, int64_t end) {
      ChunkCase::Scratch scratch = chunk_case.scratch();
      for (int64_t chunk = begin; chunk < end; ++chunk) chunk_case.run(meter.table, chunk, scratch);
    });
  });
}

}  // namespace

void measure_attention(KernelMeter& meter) {
  const int64_t group = meter.shapes.heads / meter.shapes.kv_heads;
  for (const int64_t length : meter.shapes.lengths) {
    for (const int64_t queries : {group, kPrefillQueries}) time_chunks(meter, length, queries);
  }
}

}  // namespace bitnet::kernels
