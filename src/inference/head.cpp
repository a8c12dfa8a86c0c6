#include "inference/head.h"

namespace bitnet {

Head::Head(const Model::Impl& model, Executor executor)
    : model_(model),
      executor_(executor),
      stride_(round_up(model.checkpoint.config().hidden_size, 16)),
      normed_(scratch<float>(kMaxTokens * stride_)) {}

void Head::logits(Rows x, std::span<const int64_t> tokens, std::span<float> out) {
  const ModelConfig& config = model_.checkpoint.config();
  const Rows normed{normed_.as<float>(), stride_};
  for (size_t i = 0; i < tokens.size(); ++i) {
    executor_.table.rms_norm({.x = x.row(tokens[i]),
                              .tokens = 1,
                              .cols = config.hidden_size,
                              .weight = model_.output_norm.data(),
                              .eps = config.rms_norm_eps,
                              .y = normed.row(static_cast<int64_t>(i))});
  }
  const DenseMatrix& head = model_.head;
  executor_.pool.for_range(config.vocab_size, 16, [&](int64_t begin, int64_t end) {
    executor_.table.dense_matmul({.dtype = head.dtype,
                                  .weights = reinterpret_cast<const uint8_t*>(head.bytes.data()),
                                  .row_bytes = head.row_bytes,
                                  .cols = head.cols,
                                  .first_row = begin,
                                  .last_row = end,
                                  .tokens = static_cast<int64_t>(tokens.size()),
                                  .x = normed.data,
                                  .x_stride = normed.stride,
                                  .y = out.data(),
                                  .y_stride = config.vocab_size});
  });
}

}  // namespace bitnet
