#include "inference/cuda_forward.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace bitnet::cuda {
namespace {

/// Of scratch for sequences decoded together: 32 MiB; the others follow in another launch.
constexpr int64_t kMostPartialFloats = int64_t{8} << 20;

int64_t padded(int64_t elements) {
  return (elements + kPad - 1) / kPad * kPad;
}

template <class T>
DeviceBuffer cleared(int64_t count) {
  DeviceBuffer buffer(static_cast<size_t>(count) * sizeof(T));
  const OwnedStream stream;
  table().clear(buffer.data(), buffer.bytes(), stream.get());
  table().synchronize(stream.get());
  return buffer;
}

}  // namespace

int64_t chunks_of(int64_t length) {
  return (length + kernels::kAttentionChunk - 1) / kernels::kAttentionChunk;
}

Scratch::Scratch(const ModelConfig& config, int64_t tokens, int64_t context, size_t head_bytes)
    : batch(tokens),
      hidden(padded(config.hidden_size)),
      q_size(padded(config.q_size())),
      qkv(padded(config.q_size() + 2 * config.kv_size())),
      ffn(padded(config.intermediate_size)),
      q8(std::max({hidden, q_size, ffn})),
      x(cleared<float>(batch * hidden)),
      q8_rows(cleared<int8_t>((batch + kImageTokens - 1) / kImageTokens * kImageTokens * q8)),
      q8_scale(cleared<float>(batch)),
      q8_sum(cleared<int32_t>(batch)),
      cos(cleared<float>(context * config.head_dim / 2)),
      sin(cleared<float>(context * config.head_dim / 2)),
      ids(cleared<int32_t>(batch)),
      decode_rows(cleared<DecodeRow>(batch)) {
  const auto rows_of = [&](int64_t stride) { return static_cast<size_t>(batch * stride) * sizeof(float); };
  const bool zeros = q_size != config.q_size() || ffn != config.intermediate_size;
  const size_t attn_at = zeros ? std::max(rows_of(qkv), head_bytes) : rows_of(qkv);
  const size_t gate_at = zeros ? attn_at + rows_of(q_size) : 0;
  const size_t all = std::max({head_bytes, attn_at + rows_of(q_size), gate_at + rows_of(ffn)});
  turns = std::make_shared<const DeviceBuffer>(cleared<std::byte>(static_cast<int64_t>(all)));
  qkv_rows = DeviceBuffer(turns, 0, rows_of(qkv));
  attn = DeviceBuffer(turns, attn_at, rows_of(q_size));
  gate = DeviceBuffer(turns, gate_at, rows_of(ffn));
  head = DeviceBuffer(turns, 0, head_bytes);
  // Only there gate and up are not one matrix.
  if (config.projection_norms) up = cleared<float>(batch * ffn);
  const int64_t group = config.num_heads / config.num_kv_heads;
  const int64_t heads_in_fours = config.num_kv_heads * ((group + 3) / 4 * 4);
  chunks = chunks_of(context);
  const int64_t row_floats = heads_in_fours * chunks * kDecodePartial;
  decode_row_count = std::clamp<int64_t>(kMostPartialFloats / row_floats, 1, batch);
  partial = cleared<float>(decode_row_count * row_floats);
  arrived = cleared<int32_t>(decode_row_count * heads_in_fours * 8);
}

int64_t Scratch::bytes() const {
  const std::array buffers{turns.get(), &x,   &up,  &q8_rows, &q8_scale, &q8_sum,
                           &cos,        &sin, &ids, &partial, &arrived,  &decode_rows};
  return std::accumulate(
      buffers.begin(), buffers.end(), int64_t{0},
      [](int64_t sum, const DeviceBuffer* buffer) { return sum + static_cast<int64_t>(buffer->bytes()); });
}

void CudaForward::gather(Shared which, int64_t tokens, Stream stream) const {
  if (exchange_ != nullptr) exchange_->gather(which, tokens, stream);
}

void CudaForward::embed(int64_t tokens, Stream stream) {
  if (exchange_ != nullptr) exchange_->begin(stream);
  table().embed({.table = embedding_,
                 .ids = scratch_.ids.as<int32_t>(),
                 .id = 0,
                 .tokens = tokens,
                 .x = scratch_.x.as<float>(),
                 .x_stride = scratch_.hidden},
                stream);
}

Norms CudaForward::norms(const DeviceBuffer& weight, const DeviceLinear& linear) const {
  return {.first = weight.as<float>(),
          .second = linear.norm_in.as<float>(),
          .first_eps = config_.rms_norm_eps,
          .second_eps = config_.projection_norm_eps};
}

Epilogue CudaForward::glu_epilogue() const {
  return config_.activation == Activation::kRelu2 ? Epilogue::kRelu2 : Epilogue::kSilu;
}

void CudaForward::glu(int64_t count, Stream stream) const {
  table().glu({.gate = scratch_.gate.as<float>(),
               .up = scratch_.up.as<float>(),
               .h = scratch_.gate.as<float>(),
               .count = count,
               .relu2 = config_.activation == Activation::kRelu2},
              stream);
}

void CudaForward::gemv(const DeviceLinear& linear, const float* x, int64_t cols, Norms norms,
                       Epilogue epilogue, float* y, Stream stream) {
  table().ternary_gemv(
      {.x = x, .cols = cols, .norms = norms, .weights = linear.weights, .epilogue = epilogue, .y = y},
      stream);
}

void CudaForward::decode_one(int64_t chunks, Stream stream) {
  const int64_t hidden = config_.hidden_size;
  auto* const x = scratch_.x.as<float>();
  auto* const gate = scratch_.gate.as<float>();
  float* const x_part = x + model_.rows.hidden.begin;
  float* const gate_part = gate + model_.rows.ffn.begin;
  embed(1, stream);
  for (size_t i = 0; i < model_.layers.size(); ++i) {
    const DeviceLayer& layer = model_.layers[i];
    auto* qkv = scratch_.qkv_rows.as<float>();
    for (const DeviceLinear& linear : layer.qkv) {
      gemv(linear, x, hidden, norms(layer.attn_norm, linear), Epilogue::kStore, qkv, stream);
      qkv += linear.weights.outputs;
    }
    attend_singles(static_cast<int64_t>(i), 1, chunks, stream);
    gather(Shared::kAttention, 1, stream);
    gemv(layer.attn_output, scratch_.attn.as<float>(), config_.q_size(),
         norms(layer.attn_sub_norm, layer.attn_output), Epilogue::kAdd, x_part, stream);
    gather(Shared::kHidden, 1, stream);
    if (layer.gate_up.size() == 1) {
      gemv(layer.gate_up[0], x, hidden, norms(layer.ffn_norm, layer.gate_up[0]), glu_epilogue(), gate_part,
           stream);
    } else {
      gemv(layer.gate_up[0], x, hidden, norms(layer.ffn_norm, layer.gate_up[0]), Epilogue::kStore, gate_part,
           stream);
      gemv(layer.gate_up[1], x, hidden, norms(layer.ffn_norm, layer.gate_up[1]), Epilogue::kStore,
           scratch_.up.as<float>() + model_.rows.ffn.begin, stream);
      glu(scratch_.ffn, stream);
    }
    gather(Shared::kFfn, 1, stream);
    gemv(layer.down, gate, config_.intermediate_size, norms(layer.ffn_sub_norm, layer.down), Epilogue::kAdd,
         x_part, stream);
    gather(Shared::kHidden, 1, stream);
  }
}

void CudaForward::gemm(const DeviceLinear& linear, const Input& input, int64_t tokens, Norms norms,
                       Epilogue epilogue, float* y, int64_t y_stride, Stream stream) const {
  const bool image = table().gemm_takes_image(tokens);
  table().quantize({.x = input.x,
                    .x_stride = input.stride,
                    .tokens = tokens,
                    .cols = input.cols,
                    .norms = norms,
                    .q = scratch_.q8_rows.as<int8_t>(),
                    .q_stride = padded(input.cols),
                    .scale = scratch_.q8_scale.as<float>(),
                    .sum = scratch_.q8_sum.as<int32_t>(),
                    .image = image,
                    .addend = input.addend,
                    .addend_stride = input.addend_stride},
                   stream);
  table().ternary_gemm({.weights = linear.weights,
                        .tokens = tokens,
                        .q = scratch_.q8_rows.as<int8_t>(),
                        .q_stride = padded(input.cols),
                        .scale = scratch_.q8_scale.as<float>(),
                        .sum = scratch_.q8_sum.as<int32_t>(),
                        .epilogue = epilogue,
                        .y = y,
                        .y_stride = y_stride,
                        .image = image},
                       stream);
}

void CudaForward::run_batch(int64_t tokens, int64_t singles, int64_t chunks,
                            std::span<const Segment> segments, Stream stream) {
  auto* const gate = scratch_.gate.as<float>();
  float* const gate_part = gate + model_.rows.ffn.begin;
  Input x{scratch_.x.as<float>(), scratch_.hidden, config_.hidden_size, nullptr, scratch_.ffn};
  const Input attention{scratch_.attn.as<float>(), scratch_.q_size, config_.q_size()};
  const Input ffn{gate, scratch_.ffn, config_.intermediate_size};
  // Of a share's x the other GPUs have parts to add.
  const bool adds_later = exchange_ == nullptr && config_.intermediate_size >= config_.hidden_size;
  const auto product = [&](const DeviceLinear& linear, const DeviceBuffer& norm, const Input& input,
                           Epilogue epilogue, float* y, int64_t y_stride) {
    gemm(linear, input, tokens, norms(norm, linear), epilogue, y, y_stride, stream);
  };
  const auto product_of_x = [&](const DeviceLinear& linear, const DeviceBuffer& norm, Epilogue epilogue,
                                float* y, int64_t y_stride) {
    product(linear, norm, x, epilogue, y, y_stride);
    x.addend = nullptr;
  };
  // The norm behind it reads x anyway and adds on its way; the product's blocks would wait for x. Zeros
  // behind the rows of `gate` stay.
  const auto product_to_x = [&](const DeviceLinear& linear, const DeviceBuffer& norm, const Input& input,
                                bool later) {
    if (later) {
      product(linear, norm, input, Epilogue::kStore, gate, scratch_.ffn);
      x.addend = gate;
      return;
    }
    product(linear, norm, input, Epilogue::kAdd, x.x + model_.rows.hidden.begin, scratch_.hidden);
    gather(Shared::kHidden, tokens, stream);
  };
  embed(tokens, stream);
  for (size_t i = 0; i < model_.layers.size(); ++i) {
    const DeviceLayer& layer = model_.layers[i];
    const auto index = static_cast<int64_t>(i);
    auto* qkv = scratch_.qkv_rows.as<float>();
    for (const DeviceLinear& linear : layer.qkv) {
      product_of_x(linear, layer.attn_norm, Epilogue::kStore, qkv, scratch_.qkv);
      qkv += linear.weights.outputs;
    }
    attend_singles(index, singles, chunks, stream);
    attend_segments(index, segments, stream);
    gather(Shared::kAttention, tokens, stream);
    product_to_x(layer.attn_output, layer.attn_sub_norm, attention, adds_later);
    if (layer.gate_up.size() == 1) {
      product_of_x(layer.gate_up[0], layer.ffn_norm, glu_epilogue(), gate_part, scratch_.ffn);
    } else {
      product_of_x(layer.gate_up[0], layer.ffn_norm, Epilogue::kStore, gate_part, scratch_.ffn);
      product_of_x(layer.gate_up[1], layer.ffn_norm, Epilogue::kStore,
                   scratch_.up.as<float>() + model_.rows.ffn.begin, scratch_.ffn);
      glu(tokens * scratch_.ffn, stream);
    }
    gather(Shared::kFfn, tokens, stream);
    product_to_x(layer.down, layer.ffn_sub_norm, ffn, adds_later && i + 1 < model_.layers.size());
  }
}

void CudaForward::attend_singles(int64_t layer, int64_t singles, int64_t chunks, Stream stream) {
  if (kv_type_ == DType::kI8) return attend_i8_singles(layer, singles, chunks, stream);
  const int64_t most = scratch_.decode_row_count;
  for (int64_t first = 0; first < singles; first += most) {
    table().decode_attention(
        {.qkv = scratch_.qkv_rows.as<float>(),
         .qkv_stride = scratch_.qkv,
         .rows = scratch_.decode_rows.as<DecodeRow>() + first,
         .row_count = std::min(most, singles - first),
         .kv_type = kv_type_,
         .layer = layer * context_ * kv_row(model_.config),
         .heads = heads_of(model_.config),
         .cos = scratch_.cos.as<float>(),
         .sin = scratch_.sin.as<float>(),
         .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.head_dim))),
         .max_chunks = chunks,
         .partial_chunks = scratch_.chunks,
         .partial = scratch_.partial.as<float>(),
         .arrived = scratch_.arrived.as<int32_t>(),
         .out = scratch_.attn.as<float>() + model_.rows.attention.begin,
         .out_stride = scratch_.q_size},
        stream);
  }
}

void CudaForward::attend_segments(int64_t layer, std::span<const Segment> segments, Stream stream) {
  for (const Segment& segment : segments) {
    if (kv_type_ == DType::kI8) {
      attend_i8_segment(layer, segment, stream);
      continue;
    }
    float* qkv = scratch_.qkv_rows.as<float>() + segment.row * scratch_.qkv;
    const bool tensor = table().mma_attention_runs(heads_of(model_.config), kv_type_);
    table().rope_store({.qkv = qkv,
                        .qkv_stride = scratch_.qkv,
                        .tokens = segment.count,
                        .first = segment.position,
                        .heads = heads_of(model_.config),
                        .cos = scratch_.cos.as<float>(),
                        .sin = scratch_.sin.as<float>(),
                        .cache = segment.cache->layer(layer),
                        .queries = !tensor},
                       stream);
    const auto attend = tensor ? table().mma_attention : table().prefill_attention;
    attend({.qkv = qkv,
            .qkv_stride = scratch_.qkv,
            .tokens = segment.count,
            .first = segment.position,
            .heads = heads_of(model_.config),
            .cache = segment.cache->layer(layer),
            .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.head_dim))),
            .out = scratch_.attn.as<float>() + segment.row * scratch_.q_size + model_.rows.attention.begin,
            .out_stride = scratch_.q_size,
            .cos = scratch_.cos.as<float>(),
            .sin = scratch_.sin.as<float>()},
           stream);
  }
}

}  // namespace bitnet::cuda
