#include "inference/projector.h"

#include <algorithm>

namespace bitnet {
namespace {

int64_t widest_input(const ModelConfig& config) {
  return std::max({config.hidden_size, config.intermediate_size, config.q_size()});
}

}  // namespace

Projector::Projector(const ModelConfig& config, Executor executor, int64_t batch)
    : config_(config),
      executor_(executor),
      normed_stride_(round_up(widest_input(config), 16)),
      q8_stride_(round_up(widest_input(config), 64)),
      normed_(scratch<float>(batch * normed_stride_)),
      q8_(scratch<int8_t>(batch * q8_stride_)),
      q8_scale_(scratch<float>(batch)),
      q8_sum_(scratch<int32_t>(batch)) {}

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
  executor_.pool.for_pieces(groups, 2, [&](int64_t begin, int64_t end, int) {
    int64_t base = 0;
    for (const Job& job : jobs) {
      const PackedTernary& w = job.linear->weight;
      const int64_t first = std::max<int64_t>(begin - base, 0), last = std::min(end - base, groups_of(job));
      base += groups_of(job);
      if (first >= last) continue;
      executor_.table.ternary_matmul({.weights = job.blocks != nullptr ? job.blocks : w.data(),
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
                                      .y_stride = job.y.stride});
    }
  });
}

}  // namespace bitnet
