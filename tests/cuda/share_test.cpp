// How a model is cut for several GPUs; needs none.

#include "inference/share.h"

#include "inference/exchange.h"

#include <gtest/gtest.h>

namespace bitnet::cuda {
namespace {

/// bitnet-b1.58-2b-4t, but for its layers.
ModelConfig five_key_heads() {
  ModelConfig config;
  config.vocab_size = 128256;
  config.hidden_size = 2560;
  config.intermediate_size = 6912;
  config.num_layers = 1;
  config.num_heads = 20;
  config.num_kv_heads = 5;
  config.head_dim = 128;
  return config;
}

void expect_cut(const ModelConfig& config, int size) {
  SCOPED_TRACE(size);
  ShareRows before{};
  for (int rank = 0; rank < size; ++rank) {
    const ShareRows rows = rows_of(config, {rank, size});
    const ModelConfig local = config_of(config, {rank, size});
    const auto follows = [](ShareRows::Range part, ShareRows::Range last) {
      EXPECT_EQ(part.begin, last.end);
      EXPECT_GT(part.end, part.begin);
      EXPECT_EQ(part.begin % 2, 0);  // gathers move two elements at least
    };
    follows(rows.attention, before.attention);
    follows(rows.hidden, before.hidden);
    follows(rows.ffn, before.ffn);
    follows(rows.vocab, before.vocab);
    EXPECT_EQ(rows.kv_heads.begin, before.kv_heads.end);
    EXPECT_EQ(local.num_kv_heads, rows.kv_heads.end - rows.kv_heads.begin);
    EXPECT_EQ(local.q_size(), rows.attention.end - rows.attention.begin);
    EXPECT_EQ(local.num_heads * config.num_kv_heads, local.num_kv_heads * config.num_heads);
    EXPECT_EQ(local.vocab_size, rows.vocab.end - rows.vocab.begin);
    EXPECT_EQ(local.hidden_size, config.hidden_size);
    before = rows;
  }
  EXPECT_EQ(before.kv_heads.end, config.num_kv_heads);
  EXPECT_EQ(before.attention.end, config.q_size());
  EXPECT_EQ(before.hidden.end, config.hidden_size);
  EXPECT_EQ(before.ffn.end, config.intermediate_size);
  EXPECT_EQ(before.vocab.end, config.vocab_size);
}

TEST(Share, PartsFollowOneAnotherAndLeaveNothingOut) {
  ModelConfig odd = five_key_heads();
  odd.hidden_size = 201, odd.intermediate_size = 317, odd.vocab_size = 1001, odd.head_dim = 22;
  for (const int size : {1, 2, 3, 4, 5}) {
    expect_cut(five_key_heads(), size);
    expect_cut(odd, size);
  }
}

TEST(Share, KeyHeadsNeedNotDivide) {
  EXPECT_EQ(config_of(five_key_heads(), {0, 2}).num_kv_heads, 3);
  EXPECT_EQ(config_of(five_key_heads(), {1, 2}).num_kv_heads, 2);
  EXPECT_EQ(config_of(five_key_heads(), {1, 2}).num_heads, 8);
}

TEST(Share, PartBeginsAreThoseOfTheRows) {
  const PartBegins begins = part_begins(five_key_heads(), Shared::kAttention, 2);
  EXPECT_EQ(begins[0], 0);
  EXPECT_EQ(begins[1], 3 * 4 * 128);
  EXPECT_EQ(begins[2], 20 * 128);
  EXPECT_EQ(part_begins(five_key_heads(), Shared::kHidden, 3)[3], 2560);
  EXPECT_EQ(part_begins(five_key_heads(), Shared::kFfn, 3)[3], 6912);
}

TEST(Share, WhatCannotBeSplitHasAReason) {
  ModelConfig config = five_key_heads();
  EXPECT_EQ(split_reason(config, 5), "");
  EXPECT_NE(split_reason(config, 6).find("5 key heads"), std::string::npos) << split_reason(config, 6);
  config.num_heads = config.num_kv_heads = 20;
  EXPECT_EQ(split_reason(config, kMostGpus), "");
  EXPECT_NE(split_reason(config, kMostGpus + 1), "");
  config.hidden_size = 60;
  EXPECT_EQ(split_reason(config, 3), "");
  EXPECT_NE(split_reason(config, 4).find("60 rows"), std::string::npos) << split_reason(config, 4);
}

}  // namespace
}  // namespace bitnet::cuda
