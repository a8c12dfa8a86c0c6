#include "inference/forward.h"

#include "bitnet/core/mapped_file.h"
#include "bitnet/quant/block_formats.h"

#include <array>
#include <vector>

namespace bitnet {

Forward::Forward(const Model::Impl& model, Executor executor, int64_t batch, int64_t context, bool exact_head)
    : model_(model),
      layers_(model.host().layers),
      config_(model.checkpoint.config()),
      executor_(executor),
      projector_(config_, executor, batch),
      attention_(config_, executor, context),
      ffn_(config_, executor, projector_, batch),
      head_(model, executor, exact_head),
      hidden_stride_(round_up(config_.hidden_size, 16)),
      x_(scratch<float>(batch * hidden_stride_)),
      block_(scratch<float>(batch * hidden_stride_)),
      // Rows are read as whole vectors: one more vector behind the last.
      q_(scratch<float>(batch * config_.q_size() + 16)),
      k_(scratch<float>(batch * config_.kv_size() + 16)),
      v_(scratch<float>(batch * config_.kv_size() + 16)),
      attn_(scratch<float>(batch * config_.q_size() + 16)),
      cos_(scratch<float>(batch * config_.head_dim / 2)),
      sin_(scratch<float>(batch * config_.head_dim / 2)) {}

void Forward::run(std::span<const BatchRow> rows) {
  const auto begin_row = [&](int64_t t) { begin(rows[static_cast<size_t>(t)], t); };
  const auto add_block = [&](int64_t t) {
    executor_.table.add(x_rows().row(t), block_rows().row(t), config_.hidden_size);
  };
  // A block's output joins the stream when the next block reads it.
  for (size_t i = 0; i < layers_.size(); ++i) {
    attention_block(i, rows, i == 0 ? Projector::RowStep(begin_row) : Projector::RowStep(add_block));
    ffn_.run(layers_[i], i, std::ssize(rows), x_rows(), block_rows(), add_block);
  }
  executor_.for_tokens(std::ssize(rows), add_block);
}

void Forward::begin(const BatchRow& row, int64_t t) {
  const auto cols = static_cast<size_t>(config_.hidden_size);
  const int64_t half = config_.head_dim / 2;
  // From the file: its mapping would become resident row by row.
  std::vector<std::byte> bytes(static_cast<size_t>(model_.embedding.row_bytes));
  MappedFile::read(model_.embedding.row(row.id), bytes.data());
  dequantize_row(model_.embedding.dtype, bytes, std::span(x_rows().row(t), cols));
  rope_angles(model_.inv_freq, static_cast<float>(row.position), cos_.as<float>() + t * half,
              sin_.as<float>() + t * half);
}

void Forward::attention_block(size_t index, std::span<const BatchRow> rows, const Projector::RowStep& first) {
  const Layer& layer = layers_[index];
  const int64_t tokens = std::ssize(rows), q_size = config_.q_size(), kv_size = config_.kv_size();
  const Rows q{q_.as<float>(), q_size}, k{k_.as<float>(), kv_size}, v{v_.as<float>(), kv_size};
  projector_.project(
      std::array{Projector::Job{&layer.q, q}, Projector::Job{&layer.k, k}, Projector::Job{&layer.v, v}},
      tokens, x_rows(), layer.attn_norm, first);
  rotate_and_store(static_cast<int64_t>(index), rows);
  attention_.run(static_cast<int64_t>(index), rows, q.data, attn_.as<float>());
  projector_.project(std::array{Projector::Job{&layer.attn_output, block_rows()}}, tokens,
                     {attn_.as<float>(), q_size}, layer.attn_sub_norm);
}

void Forward::rotate_and_store(int64_t layer, std::span<const BatchRow> rows) {
  // Keys of 16 positions of a sequence share lines of memory.
  const int64_t least = rows.front().cache == rows.back().cache ? 16 : 1;
  const int64_t q_size = config_.q_size(), kv_size = config_.kv_size(), half = config_.head_dim / 2;
  const auto rotate_token = [&](int64_t t) {
    const auto rotate = [&](float* x, int64_t heads) {
      executor_.table.rope({.x = x,
                            .tokens = 1,
                            .heads = heads,
                            .head_dim = config_.head_dim,
                            .cos = cos_.as<float>() + t * half,
                            .sin = sin_.as<float>() + t * half});
    };
    float* k = k_.as<float>() + t * kv_size;
    rotate(q_.as<float>() + t * q_size, config_.num_heads);
    rotate(k, config_.num_kv_heads);
    const BatchRow& row = rows[static_cast<size_t>(t)];
    row.cache->store(executor_.table, layer, row.position, k, v_.as<float>() + t * kv_size);
  };
  executor_.for_tokens(std::ssize(rows), rotate_token, least);
}

}  // namespace bitnet
