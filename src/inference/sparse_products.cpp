#include "inference/sparse_products.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <limits>
#include <numeric>

namespace bitnet {
namespace {

constexpr int64_t kListSlack = 16;     // list kernels write whole vectors
constexpr int64_t kListedTokens = 64;  // lists of so many tokens of a batch are held at once
// Of rows that all tokens of a batch go through before the next rows' turn: within an L2 cache, and long
// lists of them.
constexpr int64_t kBytesAtOnce = 320 << 10, kLeastRowsAtOnce = 64;

/// The order of a t2row row's bytes: plane s holds the s-th four of each sixteen.
void to_planes(const int8_t* q, int64_t padded_cols, int64_t plane_stride, int8_t* planes) {
  for (int64_t b = 0; b < padded_cols / 16; ++b) {
    for (int64_t s = 0; s < 4; ++s) std::memcpy(planes + s * plane_stride + 4 * b, q + 16 * b + 4 * s, 4);
  }
}

int64_t count_open(const float* gate, int64_t count) {
  int32_t open = 0;
  for (int64_t i = 0; i < count; ++i) open += gate[i] <= 0 ? 0 : 1;
  return open;
}

/// As glu_relu2 computes it.
float gated(float gate, float up) {
  const float g = 0 > gate ? 0 : gate;
  return g * g * up;
}

/// Whether no product of `up` with a token's int8 row can overflow: then 0 * up is 0, else it may be NaN.
bool bounded(const Linear& up, float scale) {
  const float largest = 128.0f * static_cast<float>(up.weight.cols()) * (up.max_row_scale / scale);
  return largest <= std::numeric_limits<float>::max();
}

/// Lists of columns: of some tokens, or of one token's parts on each worker.
int64_t lists(const Executor& executor, int64_t batch) {
  return std::max<int64_t>(std::min(batch, kListedTokens), executor.pool.size());
}

}  // namespace

SparseProducts::SparseProducts(const ModelConfig& config, Executor executor, Projector& projector,
                               int64_t batch)
    : config_(config),
      executor_(executor),
      projector_(projector),
      plane_stride_(round_up(round_up(config.hidden_size, 16) / 4, 64)),
      list_stride_(round_up(config.intermediate_size, 16) + kListSlack),
      sums_stride_(round_up(config.hidden_size, PackedTernary::kLineRows)),
      planes_(scratch<int8_t>(batch * 4 * plane_stride_)),
      counts_(scratch<int64_t>(batch)),
      rows_(scratch<int32_t>(executor.pool.size() * list_stride_)),
      products_(scratch<float>(executor.pool.size() * list_stride_)),
      columns_(scratch<int32_t>(lists(executor, batch) * list_stride_)),
      values_(scratch<int8_t>(lists(executor, batch) * list_stride_)),
      sums_(scratch<int32_t>(executor.pool.size() * sums_stride_)) {}

// A whole product costs 1 / batch_gain a token, and turning the matrix into blocks about 4 in all
// (sparse_benchmark, blocks/* against rows/100%/cache).
bool SparseProducts::pays(int64_t tokens, double share) const {
  constexpr double kTranscode = 4;
  if (tokens == 1) return true;
  return share <
         1.0 / static_cast<double>(executor_.table.batch_gain) + kTranscode / static_cast<double>(tokens);
}

int64_t SparseProducts::up(const Linear& up, int64_t tokens, Int8Rows x, Rows gate, Rows h) {
  const int64_t rows = up.weight.rows();
  auto* counts = counts_.as<int64_t>();
  executor_.for_tokens(tokens, [&](int64_t t) {
    to_planes(x.row(t), up.weight.padded_cols(), plane_stride_, planes(t));
    counts[t] = count_open(gate.row(t), rows);
  });
  const int64_t open = std::accumulate(counts, counts + tokens, int64_t{0});
  if (pays(tokens, static_cast<double>(open) / static_cast<double>(tokens * rows))) {
    up_each(up, tokens, x, gate, h);
  } else {
    whole(up, tokens, h);
    executor_.for_tokens(tokens, [&](int64_t t) {
      executor_.table.glu_relu2({.gate = gate.row(t), .up = h.row(t), .h = h.row(t), .count = rows});
    });
  }
  return open;
}

int64_t SparseProducts::gate_up(const Linear& gate, const Linear& up, Int8Rows x, Rows gate_out, Rows h) {
  to_planes(x.row(0), up.weight.padded_cols(), plane_stride_, planes(0));
  std::atomic<int64_t> open{0};
  projector_.multiply({&gate, gate_out}, 1, [&](int64_t first, int64_t last, int worker) {
    open.fetch_add(up_rows(up, 0, {first, last}, x, gate_out, h, worker), std::memory_order_relaxed);
  });
  return open;
}

void SparseProducts::up_each(const Linear& up, int64_t tokens, Int8Rows x, Rows gate, Rows h) {
  const int64_t step = std::max(kBytesAtOnce / up.weight.stride(), kLeastRowsAtOnce);
  executor_.pool.for_pieces(up.weight.rows(), 16, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t first = begin; first < end; first += step) {
      const Range rows = {first, std::min(end, first + step)};
      for (int64_t t = 0; t < tokens; ++t) (void)up_rows(up, t, rows, x, gate, h, worker);
    }
  });
}

int64_t SparseProducts::up_rows(const Linear& up, int64_t token, Range rows, Int8Rows x, Rows gate, Rows h,
                                int worker) {
  auto* list = rows_.as<int32_t>() + worker * list_stride_;
  auto* products = products_.as<float>() + worker * list_stride_;
  const float* of_gate = gate.row(token);
  float* out = h.row(token);
  const int64_t open = executor_.table.list_open(of_gate, rows.begin, rows.end, list);
  int64_t count = open;
  if (!bounded(up, x.scale[token])) {
    count = rows.end - rows.begin;
    std::iota(list, list + count, static_cast<int32_t>(rows.begin));
  }
  executor_.table.ternary_rows({.weights = up.weight.data(),
                                .row_scale = up.weight.row_scales(),
                                .padded_cols = up.weight.padded_cols(),
                                .rows = list,
                                .count = count,
                                .planes = planes(token),
                                .plane_stride = plane_stride_,
                                .scale = x.scale[token],
                                .sum = x.sum[token],
                                .y = products});
  std::fill(out + rows.begin, out + rows.end, 0.0f);
  for (int64_t i = 0; i < count; ++i) out[list[i]] = gated(of_gate[list[i]], products[i]);
  return open;
}

int64_t SparseProducts::down(const Linear& down, int64_t tokens, Int8Rows x, Rows y) {
  if (tokens == 1) return down_one(down, x, y);
  const int64_t cols = down.weight.cols();
  int64_t nonzero = list_inputs(0, std::min(tokens, kListedTokens), x, cols);
  // The share of the first tokens stands for all: it decides about speed only.
  const bool skip = pays(
      tokens, static_cast<double>(nonzero) / static_cast<double>(std::min(tokens, kListedTokens) * cols));
  for (int64_t first = 0; first < tokens; first += kListedTokens) {
    const int64_t last = std::min(tokens, first + kListedTokens);
    if (first > 0) nonzero += list_inputs(first, last, x, cols);
    if (skip) down_many(down, first, last, x, y);
  }
  if (!skip) whole(down, tokens, y);
  return nonzero;
}

int64_t SparseProducts::list_inputs(int64_t first, int64_t last, Int8Rows x, int64_t cols) {
  auto* counts = counts_.as<int64_t>();
  executor_.for_tokens(last - first, [&](int64_t i) {
    counts[i] = list_row(x.row(first + i), {0, cols}, i);
  });
  return std::accumulate(counts, counts + (last - first), int64_t{0});
}

int64_t SparseProducts::list_row(const int8_t* q, Range cols, int64_t list) {
  int32_t* columns = columns_.as<int32_t>() + list * list_stride_;
  int8_t* values = values_.as<int8_t>() + list * list_stride_;
  const int64_t count = executor_.table.list_nonzero(q, cols.begin, cols.end, columns, values);
  // Kernels read to a multiple of 4.
  std::fill_n(columns + count, 4, 0);
  std::fill_n(values + count, 4, int8_t{0});
  return count;
}

int64_t SparseProducts::down_one(const Linear& down, Int8Rows x, Rows y) {
  const int64_t lines = down.weight.groups(), rows = down.weight.rows(), cols = down.weight.cols();
  int64_t parts = 0;
  std::atomic<int64_t> nonzero{0};
  // Each worker lists and takes a part of the columns: whole columns are long reads of memory.
  executor_.pool.run([&](int worker, int workers) {
    if (worker == 0) parts = workers;
    const int64_t count = list_row(x.row(0), ThreadPool::split(cols, 64, worker, workers), worker);
    nonzero.fetch_add(count, std::memory_order_relaxed);
    executor_.table.ternary_columns({.weights = down.weight.data(),
                                     .stride = down.weight.stride(),
                                     .first_line = 0,
                                     .last_line = lines,
                                     .columns = columns_.as<int32_t>() + worker * list_stride_,
                                     .q = values_.as<int8_t>() + worker * list_stride_,
                                     .count = count,
                                     .sums = sums_.as<int32_t>() + worker * sums_stride_});
  });
  const auto finish = [&](int64_t first, int64_t last) {
    executor_.table.scale_sums({.sums = sums_.as<int32_t>(),
                                .sums_stride = sums_stride_,
                                .parts = parts,
                                .first_row = first,
                                .last_row = last,
                                .row_scale = down.weight.row_scales(),
                                .scale = x.scale[0],
                                .sum = x.sum[0],
                                .y = y.data});
  };
  // A fork costs more than the sums of a few parts (benchmarks/core).
  constexpr int64_t kSerialParts = 4;
  if (parts <= kSerialParts) {
    finish(0, rows);
  } else {
    executor_.pool.for_range(rows, 16, finish);
  }
  return nonzero;
}

void SparseProducts::down_many(const Linear& down, int64_t first, int64_t last, Int8Rows x, Rows y) {
  const int64_t tokens = last - first, rows = down.weight.rows();
  const auto* counts = counts_.as<int64_t>();
  // A line of all columns is 442 kB of a 2B-4T, within an L2 cache: it serves all tokens before the next.
  executor_.pool.for_range(down.weight.groups() * tokens, 1, [&](int64_t begin, int64_t end) {
    alignas(kAlignment) std::array<int32_t, PackedTernary::kLineRows> sums;
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t line = unit / tokens, i = unit % tokens, row = line * PackedTernary::kLineRows;
      executor_.table.ternary_columns({.weights = down.weight.data(),
                                       .stride = down.weight.stride(),
                                       .first_line = line,
                                       .last_line = line + 1,
                                       .columns = columns_.as<int32_t>() + i * list_stride_,
                                       .q = values_.as<int8_t>() + i * list_stride_,
                                       .count = counts[i],
                                       .sums = sums.data()});
      executor_.table.scale_sums({.sums = sums.data(),
                                  .sums_stride = 0,
                                  .parts = 1,
                                  .first_row = 0,
                                  .last_row = std::min<int64_t>(PackedTernary::kLineRows, rows - row),
                                  .row_scale = down.weight.row_scales() + row,
                                  .scale = x.scale[first + i],
                                  .sum = x.sum[first + i],
                                  .y = y.row(first + i) + row});
    }
  });
}

void SparseProducts::whole(const Linear& linear, int64_t tokens, Rows y) {
  const PackedTernary& w = linear.weight;
  if (blocks_.size() < static_cast<size_t>(w.bytes()))
    blocks_ = AlignedBuffer(static_cast<size_t>(w.bytes()));
  const bool by_rows = w.layout() == TernaryLayout::kRows;
  const int64_t parts = by_rows ? w.groups() : w.padded_cols() / PackedTernary::kBlockCols;
  const auto transcode = by_rows ? executor_.table.rows_to_blocks : executor_.table.columns_to_blocks;
  executor_.pool.for_range(parts, 1, [&](int64_t first, int64_t last) {
    transcode({.weights = w.data(),
               .stride = w.stride(),
               .padded_cols = w.padded_cols(),
               .first = first,
               .last = last,
               .blocks = blocks_.as<uint8_t>()});
  });
  projector_.multiply(std::array{Projector::Job{&linear, y, blocks_.as<uint8_t>()}}, tokens);
}

}  // namespace bitnet
