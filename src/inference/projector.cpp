#include "inference/projector.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace bitnet {
namespace {

// Of 16 rows: 110 kB of a 2B-4T's widest, beside the activations in an L2 cache.
constexpr int64_t kGroupsAtOnce = 4;

int64_t widest_input(const ModelConfig& config) {
  return std::max({config.hidden_size, config.intermediate_size, config.q_size()});
}

}  // namespace

Projector::Projector(const ModelConfig& config, Executor executor, int64_t batch)
    : config_(config),
      executor_(executor),
      normed_stride_(round_up(widest_input(config), 16)),
      q8_stride_(round_up(widest_input(config), 64)),
      blocks_stride_(kGroupsAtOnce * 4 * round_up(widest_input(config), 16)),
      normed_(scratch<float>(batch * normed_stride_)),
      q8_(scratch<int8_t>(batch * q8_stride_)),
      q8_scale_(scratch<float>(batch)),
      q8_sum_(scratch<int32_t>(batch)),
      blocks_(scratch<uint8_t>(executor.pool.size() * blocks_stride_)) {}

void Projector::project(std::span<const Job> jobs, int64_t tokens, Rows x, std::span<const float> norm_weight,
                        const RowStep& first) {
  if (!config_.projection_norms) {
    quantize(tokens, jobs.front().linear->weight.cols(), x, norm_weight, config_.rms_norm_eps, first);
    multiply(jobs, tokens);
    return;
  }
  const Rows input = normed(tokens, x, norm_weight, first);
  for (const Job& job : jobs) {
    quantize(tokens, job.linear->weight.cols(), input, job.linear->norm_in, config_.projection_norm_eps);
    multiply({&job, 1}, tokens);
  }
}

Int8Rows Projector::prepare(const Linear& linear, int64_t tokens, Rows x, std::span<const float> norm_weight,
                            const RowStep& first) {
  const int64_t cols = linear.weight.cols();
  if (config_.projection_norms) {
    quantize(tokens, cols, normed(tokens, x, norm_weight, first), linear.norm_in,
             config_.projection_norm_eps);
  } else {
    quantize(tokens, cols, x, norm_weight, config_.rms_norm_eps, first);
  }
  return {q8_.as<int8_t>(), q8_stride_, q8_scale_.as<float>(), q8_sum_.as<int32_t>()};
}

void Projector::for_rows(int64_t tokens, const RowStep& first, auto&& body) const {
  executor_.for_tokens(tokens, [&](int64_t t) {
    if (first) first(t);
    body(t);
  });
}

Rows Projector::normed(int64_t tokens, Rows x, std::span<const float> norm_weight, const RowStep& first) {
  if (norm_weight.empty()) {
    if (first) executor_.for_tokens(tokens, first);
    return x;
  }
  const Rows y = {normed_.as<float>(), normed_stride_};
  for_rows(tokens, first, [&](int64_t t) {
    executor_.table.rms_norm({.x = x.row(t),
                              .tokens = 1,
                              .cols = static_cast<int64_t>(norm_weight.size()),
                              .weight = norm_weight.data(),
                              .eps = config_.rms_norm_eps,
                              .y = y.row(t)});
  });
  return y;
}

void Projector::quantize(int64_t tokens, int64_t cols, Rows x, std::span<const float> norm_weight, float eps,
                         const RowStep& first) {
  for_rows(tokens, first, [&](int64_t t) {
    int8_t* q = q8_.as<int8_t>() + t * q8_stride_;
    float* scale = q8_scale_.as<float>() + t;
    int32_t* sum = q8_sum_.as<int32_t>() + t;
    if (norm_weight.empty()) {
      executor_.table.quantize(
          {.x = x.row(t), .tokens = 1, .cols = cols, .q = q, .scale = scale, .sum = sum});
    } else {
      executor_.table.norm_quantize({.x = x.row(t),
                                     .cols = cols,
                                     .weight = norm_weight.data(),
                                     .eps = eps,
                                     .q = q,
                                     .scale = scale,
                                     .sum = sum});
    }
  });
}

void Projector::multiply(std::span<const Job> jobs, int64_t tokens) {
  const auto groups_of = [](const Job& job) {
    return (job.linear->weight.rows() + PackedTernary::kGroupRows - 1) / PackedTernary::kGroupRows;
  };
  int64_t groups = 0;
  for (const Job& job : jobs) groups += groups_of(job);
  // The row groups of all jobs in a row: one fork for all of them. Kernels like them in pairs.
  executor_.pool.for_pieces(groups, 2, [&](int64_t begin, int64_t end, int worker) {
    int64_t base = 0;
    for (const Job& job : jobs) {
      const int64_t first = std::max<int64_t>(begin - base, 0), last = std::min(end - base, groups_of(job));
      base += groups_of(job);
      if (first < last) multiply_groups(job, tokens, first, last, worker);
    }
  });
}

void Projector::multiply(const Job& job, int64_t tokens, const RowsStep& then) {
  const int64_t rows = job.linear->weight.rows(), groups = job.linear->weight.groups();
  executor_.pool.for_pieces(groups, 2, [&](int64_t begin, int64_t end, int worker) {
    multiply_groups(job, tokens, begin, end, worker);
    then(begin * PackedTernary::kGroupRows, std::min(end * PackedTernary::kGroupRows, rows), worker);
  });
}

void Projector::multiply_groups(const Job& job, int64_t tokens, int64_t first, int64_t last, int worker) {
  const PackedTernary& w = job.linear->weight;
  const kernels::KernelTable& table = executor_.table;
  kernels::TernaryMatmulArgs args = {.weights = job.blocks != nullptr ? job.blocks : w.data(),
                                     .row_scale = w.row_scales(),
                                     .rows = w.rows(),
                                     .padded_cols = w.padded_cols(),
                                     .first_group = first,
                                     .last_group = last,
                                     .tokens = tokens,
                                     .q = q8_.as<int8_t>(),
                                     .q_stride = q8_stride_,
                                     .scale = q8_scale_.as<float>(),
                                     .sum = q8_sum_.as<int32_t>(),
                                     .y = job.y.data,
                                     .y_stride = job.y.stride};
  if (w.layout() != TernaryLayout::kTight) return table.ternary_matmul(args);
  if (tokens <= table.tight_tokens) return table.ternary_tight(args);
  // Some groups at a time as t2x16, in a buffer that stays in a cache.
  auto* const blocks = blocks_.as<uint8_t>() + worker * blocks_stride_;
  args.weights = blocks;
  args.first_group = 0;
  for (; first < last; first += kGroupsAtOnce) {
    const int64_t end = std::min(first + kGroupsAtOnce, last), row = first * PackedTernary::kGroupRows;
    to_blocks(w, first, end, blocks);
    args.last_group = end - first;
    args.rows = w.rows() - row;
    args.row_scale = w.row_scales() + row;
    args.y = job.y.data + row;
    table.ternary_matmul(args);
  }
}

/// Groups [first, last) of a kTight matrix as t2x16.
void Projector::to_blocks(const PackedTernary& w, int64_t first, int64_t last, uint8_t* blocks) const {
  const uint8_t* const groups = w.data() + first * w.group_bytes();
  if (executor_.table.tight_to_blocks != nullptr) {
    executor_.table.tight_to_blocks({.weights = groups,
                                     .stride = w.group_bytes(),
                                     .padded_cols = w.padded_cols(),
                                     .first = 0,
                                     .last = last - first,
                                     .blocks = blocks});
    return;
  }
  std::vector<uint32_t> words(static_cast<size_t>(w.padded_cols() / PackedTernary::kBlockCols));
  for (int64_t row = first * PackedTernary::kGroupRows; row < last * PackedTernary::kGroupRows; ++row) {
    const int64_t in_group = row % PackedTernary::kGroupRows;
    uint8_t* out = blocks + (row / PackedTernary::kGroupRows - first) * 4 * w.padded_cols() + 4 * in_group;
    w.row_words(row, words);
    for (const uint32_t word : words) {
      std::memcpy(out, &word, sizeof word);
      out += PackedTernary::kBlockBytes;
    }
  }
}

}  // namespace bitnet
