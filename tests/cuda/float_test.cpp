// Embedding, head, RoPE and gated units against the processor's kernels.

#include "dense_test.h"

#include <algorithm>

namespace bitnet::cuda {
namespace {

class Float : public CudaTest {};

TEST_F(Float, EmbeddingRowsAreTheDecodedOnes) {
  Random random(1);
  for (const DType dtype : kDenseTypes) {
    const Dense dense(random, dtype, 9, some_cols(dtype));
    const DeviceBuffer rows = to_device(dense.bytes);
    const std::vector<int32_t> ids{8, 0, 3, 3};
    const DeviceBuffer device_ids = to_device(ids), x = filled<float>(4 * dense.cols);
    run([&](Stream stream) {
      table().embed({.table = {dtype, rows.data(), dense.row_bytes, dense.rows, dense.cols},
                     .ids = device_ids.as<int32_t>(),
                     .id = 0,
                     .tokens = 4,
                     .x = x.as<float>(),
                     .x_stride = dense.cols},
                    stream);
    });
    const std::vector<float> found = to_host<float>(x);
    for (size_t t = 0; t < ids.size(); ++t) {
      for (int64_t c = 0; c < dense.cols; ++c)
        ASSERT_EQ(found[t * static_cast<size_t>(dense.cols) + static_cast<size_t>(c)],
                  dense.values[static_cast<size_t>(ids[t] * dense.cols + c)])
            << to_string(dtype);
    }
  }
}

TEST_F(Float, HeadHasTheScalarTablesBits) {
  Random random(2);
  for (const DType dtype : kDenseTypes) {
    for (const int64_t vocab : {1, 1001}) {
      const Dense dense(random, dtype, vocab, some_cols(dtype));
      constexpr int64_t kTokens = 5;
      const std::vector<float> x = random_floats(random, kTokens * dense.cols, -4, 4);
      const std::vector<float> weight = random_floats(random, dense.cols, 0.5f, 1.5f);
      const std::vector<float> normed = normed_rows(x, kTokens, weight);
      const DeviceBuffer rows = to_device(dense.bytes),
                         device_x = to_device(padded_rows(x, kTokens, dense.cols));
      const DeviceBuffer device_weight = to_device(padded_rows(weight, 1, dense.cols));
      const DeviceBuffer y = filled<float>(kTokens * vocab);
      run([&](Stream stream) {
        table().head({.head = {dtype, rows.data(), dense.row_bytes, dense.rows, dense.cols},
                      .x = device_x.as<float>(),
                      .x_stride = padded(dense.cols),
                      .tokens = kTokens,
                      .norms = {.first = device_weight.as<float>(), .first_eps = 1e-5f},
                      .y = y.as<float>(),
                      .y_stride = vocab},
                     stream);
      });
      EXPECT_EQ(to_host<float>(y), logits(dense, dtype, normed, kTokens))
          << to_string(dtype) << ", " << vocab;
    }
  }
}

TEST_F(Float, GatedUnitsHaveTheScalarTablesBits) {
  Random random(3);
  const std::vector<float> gate = random_floats(random, 5000, -20, 20), up = random_floats(random, 5000);
  const DeviceBuffer device_gate = to_device(gate), device_up = to_device(up);
  for (const bool relu2 : {false, true}) {
    std::vector<float> expected(gate.size());
    (relu2 ? scalar().glu_relu2 : scalar().glu_silu)(
        {.gate = gate.data(), .up = up.data(), .h = expected.data(), .count = std::ssize(gate)});
    const DeviceBuffer h = filled<float>(std::ssize(gate));
    run([&](Stream stream) {
      table().glu({device_gate.as<float>(), device_up.as<float>(), h.as<float>(), std::ssize(gate), relu2},
                  stream);
    });
    EXPECT_EQ(to_host<float>(h), expected);
  }
}

}  // namespace
}  // namespace bitnet::cuda
