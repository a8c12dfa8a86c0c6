// Attention over i8 caches, in the forward pass.

#include "inference/cuda_forward.h"

#include <algorithm>
#include <cmath>

namespace bitnet::cuda {

I8AttentionArgs CudaForward::i8_args(int64_t layer) const {
  constexpr int64_t kFour = 4;
  return {.qkv = scratch_.qkv_rows.as<float>(),
          .qkv_stride = scratch_.qkv,
          .tokens = 0,
          .rows = nullptr,
          .keys = nullptr,
          .values = nullptr,
          .first = 0,
          .heads = heads_of(model_.config),
          .positions = (context_ + kFour - 1) / kFour * kFour,
          .layers = config_.num_layers,
          .layer = layer,
          .cos = scratch_.cos.as<float>(),
          .sin = scratch_.sin.as<float>(),
          .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.head_dim))),
          .max_chunks = 0,
          .partial = scratch_.partial.as<float>(),
          .out = scratch_.attn.as<float>() + model_.rows.attention.begin,
          .out_stride = scratch_.q_size,
          .block_tokens = 0};
}

int64_t CudaForward::i8_rows_at_once(int64_t chunks) const {
  const auto floats = static_cast<int64_t>(scratch_.partial.bytes() / sizeof(float));
  return floats / (config_.num_heads * chunks * (config_.head_dim + 2));  // kDecodePartial has room for one
}

void CudaForward::attend_i8_singles(int64_t layer, int64_t singles, int64_t chunks, Stream stream) {
  if (singles == 0) return;
  const int64_t most = i8_rows_at_once(chunks);
  I8AttentionArgs args = i8_args(layer);
  args.max_chunks = chunks;
  for (int64_t first = 0; first < singles; first += most) {
    args.tokens = std::min(most, singles - first);
    args.rows = scratch_.decode_rows.as<DecodeRow>() + first;
    table().i8_attention(args, stream);
  }
}

void CudaForward::attend_i8_segment(int64_t layer, const Segment& segment, Stream stream) {
  I8AttentionArgs args = i8_args(layer);
  args.keys = segment.cache->keys();
  args.values = segment.cache->values();
  args.max_chunks = chunks_of(segment.position + segment.count);
  const int64_t most = i8_rows_at_once(args.max_chunks);
  for (int64_t done = 0; done < segment.count; done += args.tokens) {
    args.tokens = std::min(most, segment.count - done);
    args.first = segment.position + done;
    args.qkv = scratch_.qkv_rows.as<float>() + (segment.row + done) * scratch_.qkv;
    args.out =
        scratch_.attn.as<float>() + (segment.row + done) * scratch_.q_size + model_.rows.attention.begin;
    table().i8_attention(args, stream);
  }
}

}  // namespace bitnet::cuda
