// The highest logits from the int8 scan, against all logits of the processor's kernels.

#include "dense_test.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <string>

namespace bitnet::cuda {
namespace {

class TopLogits : public CudaTest {};

/// A head on the GPU with its int8 copy.
struct DeviceHead {
  DeviceBuffer rows, tiles, bounds;
  DenseRows head;
  Int8Copy copy;

  DeviceHead(const Dense& dense, DType dtype) : rows(to_device(dense.bytes)) {
    const int64_t groups = (dense.rows + 15) / 16;
    tiles = filled<int8_t>(groups * 16 * padded(dense.cols));
    bounds = filled<float>(groups * 16 * 3);
    head = {dtype, rows.data(), dense.row_bytes, dense.rows, dense.cols};
    auto* const b = bounds.as<float>();
    copy = {tiles.as<int8_t>(), b, b + groups * 16, b + 2 * groups * 16, groups, padded(dense.cols) / 64};
    run([&](Stream stream) { table().round_head(head, copy, stream); });
  }

  [[nodiscard]] std::vector<TopCandidates> top(std::span<const float> x, std::span<const float> weight,
                                               const std::vector<TopQueryRow>& queries,
                                               const std::vector<int32_t>& always) const {
    const auto tokens = std::ssize(queries);
    const DeviceBuffer device_x = to_device(padded_rows(x, std::ssize(x) / head.cols, head.cols));
    const DeviceBuffer device_weight = to_device(padded_rows(weight, 1, head.cols));
    const DeviceBuffer device_queries = to_device(queries), scratch(table().head_top_scratch(head));
    std::vector<int32_t> lists(static_cast<size_t>(tokens * kMostTopCandidates));
    for (int64_t t = 0; t < tokens; ++t)
      std::copy(always.begin(), always.end(), lists.begin() + t * kMostTopCandidates);
    const DeviceBuffer device_always = to_device(lists);
    const DeviceBuffer out(static_cast<size_t>(tokens) * sizeof(TopCandidates));
    run([&](Stream stream) {
      table().head_top({.head = head,
                        .copy = copy,
                        .x = device_x.as<float>(),
                        .x_stride = padded(head.cols),
                        .tokens = tokens,
                        .norms = {.first = device_weight.as<float>(), .first_eps = 1e-5f},
                        .queries = device_queries.as<TopQueryRow>(),
                        .always = device_always.as<int32_t>(),
                        .scratch = scratch.data(),
                        .out = out.as<TopCandidates>()},
                       stream);
    });
    return to_host<TopCandidates>(out);
  }
};

/// The candidates have the head's bits, name all of `always`, and reach down to the k-th highest other logit.
void expect_top(const TopCandidates& found, std::span<const float> all, int32_t k,
                const std::vector<int32_t>& always) {
  ASSERT_LE(found.count, kMostTopCandidates);
  std::vector<bool> taken(all.size());
  for (int32_t i = 0; i < found.count; ++i) {
    const auto id = static_cast<size_t>(found.ids[i]);
    ASSERT_LT(id, all.size());
    ASSERT_EQ(found.logits[i], all[id]);
    taken[id] = true;
  }
  std::vector<float> others;
  for (size_t id = 0; id < all.size(); ++id) {
    const bool named = std::find(always.begin(), always.end(), static_cast<int32_t>(id)) != always.end();
    if (named) {
      EXPECT_TRUE(taken[id]) << id;
    } else {
      others.push_back(all[id]);
    }
  }
  std::nth_element(others.begin(), others.begin() + (k - 1), others.end(), std::greater<>());
  const float least = others[static_cast<size_t>(k - 1)];
  for (size_t id = 0; id < all.size(); ++id) {
    const bool named = std::find(always.begin(), always.end(), static_cast<int32_t>(id)) != always.end();
    EXPECT_TRUE(named || all[id] < least || taken[id]) << id << " is among the " << k << " highest";
  }
}

TEST_F(TopLogits, AreThoseOfTheWholeHead) {
  Random random(4);
  for (const DType dtype : kDenseTypes) {
    for (const int64_t tokens : {1, 3, 7, 16, 17, 32, 64}) {
      SCOPED_TRACE(std::string(to_string(dtype)) + ", " + std::to_string(tokens) + " tokens");
      const Dense dense(random, dtype, 3001, some_cols(dtype));
      const DeviceHead head(dense, dtype);
      const std::vector<float> x = random_floats(random, tokens * dense.cols, -4, 4);
      const std::vector<float> weight = random_floats(random, dense.cols, 0.5f, 1.5f);
      const std::vector<float> all = logits(dense, dtype, normed_rows(x, tokens, weight), tokens);
      const std::vector<int32_t> always{0, 17, 3000};
      std::vector<TopQueryRow> queries;
      for (int32_t t = 0; t < tokens; ++t)  // the rows backwards, greedy or more
        queries.push_back({static_cast<int32_t>(tokens) - 1 - t, t % 2 == 0 ? 1 : 20, t % 3 == 2 ? 3 : 0});
      const std::vector<TopCandidates> found = head.top(x, weight, queries, always);
      for (size_t t = 0; t < queries.size(); ++t) {
        const auto row = std::span(all).subspan(static_cast<size_t>(queries[t].row) * 3001, 3001);
        expect_top(found[t], row, queries[t].k, queries[t].always == 0 ? std::vector<int32_t>{} : always);
        EXPECT_LT(found[t].count, 1000);
      }
    }
  }
}

/// Equal logits at the threshold are all found.
TEST_F(TopLogits, TiesAreAllCandidates) {
  Random random(5);
  Dense dense(random, DType::kF32, 640, 128);
  for (int64_t r = 0; r < dense.rows; r += 100) {
    std::copy_n(dense.bytes.begin(), dense.row_bytes, dense.bytes.begin() + r * dense.row_bytes);
    std::copy_n(dense.values.begin(), dense.cols, dense.values.begin() + r * dense.cols);
  }
  const DeviceHead head(dense, DType::kF32);
  const std::vector<float> x(dense.values.begin(), dense.values.begin() + dense.cols);
  const std::vector<float> weight(static_cast<size_t>(dense.cols), 1.0f);
  const std::vector<float> all = logits(dense, DType::kF32, normed_rows(x, 1, weight), 1);
  const std::vector<TopCandidates> found = head.top(x, weight, {{0, 1, 0}}, {});
  expect_top(found[0], all, 1, {});
  EXPECT_GE(found[0].count, 7);
}

/// Where nothing can be said of a hidden state, or of more rows than fit, the count says so.
TEST_F(TopLogits, WhatCannotBeBoundedIsLeftToTheWholeHead) {
  Random random(6);
  const Dense dense(random, DType::kF16, 2048, 128);
  const DeviceHead head(dense, DType::kF16);
  const std::vector<float> weight(128, 1.0f);
  std::vector<float> x = random_floats(random, 2 * 128);
  x[130] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<TopCandidates> found = head.top(x, weight, {{0, 1, 0}, {1, 1, 0}}, {});
  EXPECT_LE(found[0].count, kMostTopCandidates);
  EXPECT_GT(found[1].count, kMostTopCandidates);
  EXPECT_GT(head.top(x, weight, {{0, 2000, 0}}, {})[0].count, kMostTopCandidates);
}

/// A row that is not finite, or beyond what the bounds are made for, is always a candidate.
TEST_F(TopLogits, RowsOfWhichNothingIsKnownAreCandidates) {
  Random random(7);
  Dense dense(random, DType::kF32, 800, 128);
  const float huge = 1e20f;
  std::memcpy(dense.bytes.data() + 33 * dense.row_bytes, &huge, sizeof huge);
  const DeviceHead head(dense, DType::kF32);
  const std::vector<float> weight(128, 1.0f), x = random_floats(random, 128);
  const TopCandidates found = head.top(x, weight, {{0, 1, 0}}, {})[0];
  EXPECT_NE(std::find(found.ids, found.ids + found.count, 33), found.ids + found.count);
}

}  // namespace
}  // namespace bitnet::cuda
