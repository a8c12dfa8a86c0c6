#include "inference/forward.h"

#include "bitnet/quant/block_formats.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace bitnet {
namespace {

constexpr int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Scratch for a whole batch, of which decoding touches one token's part.
AlignedBuffer scratch(int64_t count, size_t element_bytes) {
  return AlignedBuffer(static_cast<size_t>(count) * element_bytes, HugePages::kAvoided);
}
AlignedBuffer floats(int64_t count) {
  return scratch(count, sizeof(float));
}

}  // namespace

Forward::Forward(const Model::Impl& model, const kernels::KernelTable& table, ThreadPool& pool, int64_t batch,
                 int64_t context)
    : model_(model), config_(model.checkpoint.config()), table_(table), pool_(pool) {
  hidden_stride_ = round_up(config_.hidden_size, 16);
  ffn_stride_ = round_up(config_.intermediate_size, 16);
  q8_stride_ = round_up(std::max({config_.hidden_size, config_.intermediate_size, config_.q_size()}), 64);
  score_stride_ = round_up(context, 16);
  head_stride_ = round_up(config_.head_dim, 16);
  const int64_t normed_stride = std::max({hidden_stride_, ffn_stride_, round_up(config_.q_size(), 16)});
  x_ = floats(batch * hidden_stride_);
  normed_ = floats(batch * normed_stride);
  // Rows are read as whole vectors: one more vector behind the last.
  q_ = floats(batch * config_.q_size() + 16);
  k_ = floats(batch * config_.kv_size() + 16);
  v_ = floats(batch * config_.kv_size() + 16);
  attn_ = floats(batch * config_.q_size() + 16);
  gate_ = floats(batch * ffn_stride_);
  up_ = floats(batch * ffn_stride_);
  projected_ = floats(batch * hidden_stride_);
  q8_ = scratch(batch * q8_stride_, sizeof(int8_t));
  q8_scale_ = floats(batch);
  q8_sum_ = scratch(batch, sizeof(int32_t));
  cos_ = floats(batch * config_.head_dim / 2);
  sin_ = floats(batch * config_.head_dim / 2);
  scores_ = floats(pool.size() * score_stride_);
  heads_ = floats(pool.size() * head_stride_);
}

template <class Body>
void Forward::for_tokens(Body&& body) {
  if (tokens_ == 1) {
    body(int64_t{0});
    return;
  }
  pool_.for_range(tokens_, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) body(t);
  });
}

void Forward::run(std::span<const int32_t> ids, int64_t position, KvCache& cache) {
  tokens_ = static_cast<int64_t>(ids.size());
  embed(ids);
  const int64_t half = config_.head_dim / 2;
  for (int64_t t = 0; t < tokens_; ++t) {
    rope_angles(model_.inv_freq, static_cast<float>(position + t), cos_.as<float>() + t * half,
                sin_.as<float>() + t * half);
  }
  for (size_t i = 0; i < model_.layers.size(); ++i) {
    attention_block(model_.layers[i], static_cast<int64_t>(i), position, cache);
    ffn_block(model_.layers[i]);
  }
}

void Forward::embed(std::span<const int32_t> ids) {
  const auto cols = static_cast<size_t>(config_.hidden_size);
  for (size_t t = 0; t < ids.size(); ++t) {
    dequantize_row(model_.embedding.dtype, model_.embedding.row(ids[t]),
                   std::span(x_.as<float>() + static_cast<int64_t>(t) * hidden_stride_, cols));
  }
}

void Forward::attention_block(const Layer& layer, int64_t index, int64_t position, KvCache& cache) {
  const int64_t q_size = config_.q_size(), kv_size = config_.kv_size(), half = config_.head_dim / 2;
  norm(x_.as<float>(), hidden_stride_, layer.attn_norm, config_.rms_norm_eps, projected_.as<float>(),
       hidden_stride_);
  project(std::array{Job{&layer.q, q_.as<float>(), q_size}, Job{&layer.k, k_.as<float>(), kv_size},
                     Job{&layer.v, v_.as<float>(), kv_size}},
          projected_.as<float>(), hidden_stride_);
  for_tokens([&](int64_t t) {
    const auto rotate = [&](float* x, int64_t heads, int64_t stride) {
      table_.rope({.x = x,
                   .x_stride = stride,
                   .tokens = 1,
                   .heads = heads,
                   .head_dim = config_.head_dim,
                   .cos = cos_.as<float>() + t * half,
                   .sin = sin_.as<float>() + t * half});
    };
    float* k = k_.as<float>() + t * kv_size;
    rotate(q_.as<float>() + t * q_size, config_.num_heads, q_size);
    rotate(k, config_.num_kv_heads, kv_size);
    cache.store(table_, index, position + t, k, v_.as<float>() + t * kv_size);
  });
  attend(index, position, cache);
  if (!layer.attn_sub_norm.empty()) {
    norm(attn_.as<float>(), q_size, layer.attn_sub_norm, config_.rms_norm_eps, attn_.as<float>(), q_size);
  }
  project(std::array{Job{&layer.attn_output, projected_.as<float>(), hidden_stride_}}, attn_.as<float>(),
          q_size);
  for_tokens([&](int64_t t) {
    table_.add(x_.as<float>() + t * hidden_stride_, projected_.as<float>() + t * hidden_stride_,
               config_.hidden_size);
  });
}

void Forward::attend(int64_t layer, int64_t position, const KvCache& cache) {
  const int64_t heads = config_.num_heads, head_dim = config_.head_dim, group = heads / config_.num_kv_heads;
  const int64_t element_bytes = dtype_info(cache.dtype()).block_bytes;
  const auto* keys = static_cast<const std::byte*>(cache.keys(layer));
  const auto* values = static_cast<const std::byte*>(cache.values(layer));
  const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  pool_.run([&](int worker, int workers) {
    float* scores = scores_.as<float>() + worker * score_stride_;
    float* padded = heads_.as<float>() + worker * head_stride_;
    // Round robin: later tokens see more keys, so contiguous shares would be uneven.
    for (int64_t i = worker; i < tokens_ * heads; i += workers) {
      const int64_t t = i / heads, h = i % heads;
      std::memcpy(padded, q_.as<float>() + i * head_dim, static_cast<size_t>(head_dim) * sizeof(float));
      const int64_t offset = h / group * head_dim * element_bytes;
      table_.attention({.q = padded,
                        .k = keys + offset,
                        .v = values + offset,
                        .kv_type = cache.dtype(),
                        .kv_stride = cache.stride(),
                        .length = position + t + 1,
                        .head_dim = head_dim,
                        .scale = scale,
                        .scores = scores,
                        .out = attn_.as<float>() + i * head_dim});
    }
  });
}

void Forward::ffn_block(const Layer& layer) {
  norm(x_.as<float>(), hidden_stride_, layer.ffn_norm, config_.rms_norm_eps, projected_.as<float>(),
       hidden_stride_);
  project(std::array{Job{&layer.gate, gate_.as<float>(), ffn_stride_},
                     Job{&layer.up, up_.as<float>(), ffn_stride_}},
          projected_.as<float>(), hidden_stride_);
  glu();
  if (!layer.ffn_sub_norm.empty()) {
    norm(gate_.as<float>(), ffn_stride_, layer.ffn_sub_norm, config_.rms_norm_eps, gate_.as<float>(),
         ffn_stride_);
  }
  project(std::array{Job{&layer.down, projected_.as<float>(), hidden_stride_}}, gate_.as<float>(),
          ffn_stride_);
  for_tokens([&](int64_t t) {
    table_.add(x_.as<float>() + t * hidden_stride_, projected_.as<float>() + t * hidden_stride_,
               config_.hidden_size);
  });
}

void Forward::glu() {
  const auto kernel = config_.activation == Activation::kRelu2 ? table_.glu_relu2 : table_.glu_silu;
  for_tokens([&](int64_t t) {
    float* gate = gate_.as<float>() + t * ffn_stride_;
    kernel({.gate = gate,
            .up = up_.as<float>() + t * ffn_stride_,
            .h = gate,
            .count = config_.intermediate_size});
  });
}

void Forward::project(std::span<const Job> jobs, const float* x, int64_t x_stride) {
  const int64_t cols = jobs.front().linear->weight.cols();
  if (!config_.projection_norms) {
    quantize(x, x_stride, cols);
    matmul(jobs);
    return;
  }
  const int64_t stride = round_up(cols, 16);
  for (const Job& job : jobs) {
    norm(x, x_stride, job.linear->norm_in, config_.projection_norm_eps, normed_.as<float>(), stride);
    quantize(normed_.as<float>(), stride, cols);
    matmul({&job, 1});
  }
}

void Forward::quantize(const float* x, int64_t x_stride, int64_t cols) {
  for_tokens([&](int64_t t) {
    table_.quantize({.x = x + t * x_stride,
                     .x_stride = x_stride,
                     .tokens = 1,
                     .cols = cols,
                     .q = q8_.as<int8_t>() + t * q8_stride_,
                     .q_stride = q8_stride_,
                     .scale = q8_scale_.as<float>() + t,
                     .sum = q8_sum_.as<int32_t>() + t});
  });
}

void Forward::matmul(std::span<const Job> jobs) {
  int64_t groups = 0;
  for (const Job& job : jobs) groups += job.linear->weight.groups();
  // The row groups of all jobs in a row, cut into equal shares: one fork for all of them.
  pool_.for_range(groups, 1, [&](int64_t begin, int64_t end) {
    int64_t base = 0;
    for (const Job& job : jobs) {
      const PackedTernary& w = job.linear->weight;
      const int64_t first = std::max<int64_t>(begin - base, 0), last = std::min(end - base, w.groups());
      base += w.groups();
      if (first >= last) continue;
      table_.ternary_matmul({.weights = w.data(),
                             .row_scale = w.row_scales(),
                             .rows = w.rows(),
                             .padded_cols = w.padded_cols(),
                             .first_group = first,
                             .last_group = last,
                             .tokens = tokens_,
                             .q = q8_.as<int8_t>(),
                             .q_stride = q8_stride_,
                             .scale = q8_scale_.as<float>(),
                             .sum = q8_sum_.as<int32_t>(),
                             .y = job.y,
                             .y_stride = job.y_stride});
    }
  });
}

void Forward::norm(const float* x, int64_t x_stride, std::span<const float> weight, float eps, float* y,
                   int64_t y_stride) {
  for_tokens([&](int64_t t) {
    table_.rms_norm({.x = x + t * x_stride,
                     .x_stride = x_stride,
                     .tokens = 1,
                     .cols = static_cast<int64_t>(weight.size()),
                     .weight = weight.data(),
                     .eps = eps,
                     .y = y + t * y_stride,
                     .y_stride = y_stride});
  });
}

void Forward::logits(int64_t first, int64_t count, std::span<float> out) {
  const float* x = x_.as<float>() + first * hidden_stride_;
  for (int64_t t = 0; t < count; ++t) {
    table_.rms_norm({.x = x + t * hidden_stride_,
                     .x_stride = hidden_stride_,
                     .tokens = 1,
                     .cols = config_.hidden_size,
                     .weight = model_.output_norm.data(),
                     .eps = config_.rms_norm_eps,
                     .y = projected_.as<float>() + t * hidden_stride_,
                     .y_stride = hidden_stride_});
  }
  const DenseMatrix& head = model_.head;
  pool_.for_range(config_.vocab_size, 16, [&](int64_t begin, int64_t end) {
    table_.dense_matmul({.dtype = head.dtype,
                         .weights = reinterpret_cast<const uint8_t*>(head.bytes.data()),
                         .row_bytes = head.row_bytes,
                         .cols = head.cols,
                         .first_row = begin,
                         .last_row = end,
                         .tokens = count,
                         .x = projected_.as<float>(),
                         .x_stride = hidden_stride_,
                         .y = out.data(),
                         .y_stride = config_.vocab_size});
  });
}

}  // namespace bitnet
