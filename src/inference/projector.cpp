#include "inference/projector.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace bitnet {
namespace {

// Of 16 rows: 110 kB of a 2B-4T's widest, beside the activations in an L2 cache.
constexpr int64_t kGroupsAtOnce = 4;
// What a thread takes in the end has at least so many tokens, of which one unpacking of the weights serves
// all.
constexpr int64_t kLeastPartTokens = 64, kMostParts = 4;

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
  // The row groups of all jobs in a row: one fork for all of them. Kernels like them in pairs. The last pairs
  // are shared by several threads, each with some of the tokens, so that no thread waits long for another.
  const int64_t parts = std::clamp<int64_t>(tokens / kLeastPartTokens, 1, kMostParts);
  const auto units_of = [&](const Job& job) {
    constexpr int64_t kPairRows = 2 * PackedTernary::kGroupRows;
    return (job.linear->weight.rows() + kPairRows - 1) / kPairRows * parts;
  };
  int64_t units = 0;
  for (const Job& job : jobs) units += units_of(job);
  executor_.pool.for_pieces(units, 1, [&](int64_t begin, int64_t end, int worker) {
    int64_t base = 0;
    for (const Job& job : jobs) {
      const Range range = {std::max<int64_t>(begin - base, 0), std::min(end - base, units_of(job))};
      base += units_of(job);
      if (range.first < range.last) multiply_units(job, tokens, parts, range, worker);
    }
  });
}

void Projector::multiply(const Job& job, int64_t tokens, const RowsStep& then) {
  const int64_t rows = job.linear->weight.rows(), groups = job.linear->weight.groups();
  executor_.pool.for_pieces(groups, 2, [&](int64_t begin, int64_t end, int worker) {
    multiply_groups(job, {0, tokens}, {begin, end}, worker);
    then(begin * PackedTernary::kGroupRows, std::min(end * PackedTernary::kGroupRows, rows), worker);
  });
}

void Projector::multiply_units(const Job& job, int64_t tokens, int64_t parts, Range units, int worker) {
  const int64_t groups =
      (job.linear->weight.rows() + PackedTernary::kGroupRows - 1) / PackedTernary::kGroupRows;
  const auto token = [&](int64_t part) { return part == parts ? tokens : tokens * part / parts / 32 * 32; };
  while (units.first < units.last) {
    const int64_t pair = units.first / parts, part = units.first % parts, left = units.last - units.first;
    // Whole pairs together, or parts of one.
    const bool whole = part == 0 && left >= parts;
    const int64_t last_part = whole ? parts : std::min(parts, part + left);
    const int64_t last_pair = whole ? pair + left / parts : pair + 1;
    multiply_groups(job, {token(part), token(last_part)}, {2 * pair, std::min(2 * last_pair, groups)},
                    worker);
    units.first += (last_pair - pair) * (last_part - part);
  }
}

void Projector::multiply_groups(const Job& job, Range tokens, Range groups, int worker) {
  const PackedTernary& w = job.linear->weight;
  const kernels::KernelTable& table = executor_.table;
  const int64_t count = tokens.last - tokens.first;
  float* const y = job.y.row(tokens.first);
  kernels::TernaryMatmulArgs args = {.weights = job.blocks != nullptr ? job.blocks : w.data(),
                                     .row_scale = w.row_scales(),
                                     .rows = w.rows(),
                                     .padded_cols = w.padded_cols(),
                                     .first_group = groups.first,
                                     .last_group = groups.last,
                                     .tokens = count,
                                     .q = q8_.as<int8_t>() + tokens.first * q8_stride_,
                                     .q_stride = q8_stride_,
                                     .scale = q8_scale_.as<float>() + tokens.first,
                                     .sum = q8_sum_.as<int32_t>() + tokens.first,
                                     .y = y,
                                     .y_stride = job.y.stride};
  if (w.layout() != TernaryLayout::kTight) return table.ternary_matmul(args);
  if (count <= table.tight_tokens) return table.ternary_tight(args);
  // Some groups at a time as t2x16, in a buffer that stays in a cache.
  auto* const blocks = blocks_.as<uint8_t>() + worker * blocks_stride_;
  args.weights = blocks;
  args.first_group = 0;
  for (int64_t first = groups.first; first < groups.last; first += kGroupsAtOnce) {
    const int64_t end = std::min(first + kGroupsAtOnce, groups.last), row = first * PackedTernary::kGroupRows;
    to_blocks(w, first, end, blocks);
    args.last_group = end - first;
    args.rows = w.rows() - row;
    args.row_scale = w.row_scales() + row;
    args.y = y + row;
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
