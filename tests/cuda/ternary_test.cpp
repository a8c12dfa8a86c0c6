// Norm, rounding and ternary products against the processor's scalar kernels: equal bits.

#include "bitnet/quant/packed_ternary.h"
#include "cuda_test.h"
#include "quant/ternary_tiles.h"

#include <array>

namespace bitnet::cuda {
namespace {

/// norms(x) and its int8, by the scalar table.
struct Rounded {
  int64_t cols;
  std::vector<int8_t> q;  ///< rows of padded(cols)
  std::vector<float> scale;
  std::vector<int32_t> sum;
};

struct NormWeights {
  std::vector<float> first, second;  ///< either may be empty
};

constexpr float kEps[2] = {1e-5f, 1e-6f};

Rounded round_rows(std::vector<float> x, int64_t tokens, int64_t cols, const NormWeights& norms) {
  Rounded out{cols, std::vector<int8_t>(static_cast<size_t>(tokens * padded(cols))),
              std::vector<float>(static_cast<size_t>(tokens)),
              std::vector<int32_t>(static_cast<size_t>(tokens))};
  for (int n = 0; n < 2; ++n) {
    const std::vector<float>& weight = n == 0 ? norms.first : norms.second;
    if (weight.empty()) continue;
    scalar().rms_norm({.x = x.data(),
                       .x_stride = cols,
                       .tokens = tokens,
                       .cols = cols,
                       .weight = weight.data(),
                       .eps = kEps[n],
                       .y = x.data(),
                       .y_stride = cols});
  }
  scalar().quantize({.x = x.data(),
                     .x_stride = cols,
                     .tokens = tokens,
                     .cols = cols,
                     .q = out.q.data(),
                     .q_stride = padded(cols),
                     .scale = out.scale.data(),
                     .sum = out.sum.data()});
  return out;
}

PackedTernary random_matrix(Random& random, int64_t rows, int64_t cols, int fixed = 2) {
  std::uniform_int_distribution<int> trit(-1, 1);
  PackedTernary packed(rows, cols);
  for (int64_t group = 0; group < packed.groups(); ++group) {
    const int64_t count = std::min<int64_t>(16, rows - group * 16);
    std::vector<int8_t> trits(static_cast<size_t>(count * cols));
    for (int8_t& t : trits) t = static_cast<int8_t>(fixed < 2 ? fixed : trit(random));
    packed.set_group(group, trits, random_floats(random, count, 0.01f, 2));
  }
  return packed;
}

/// Weights on the GPU and rows as the layout orders them.
struct Matrix {
  std::vector<PackedTernary> parts;
  DeviceBuffer tiles, row_scales;
  TernaryWeights weights;

  Matrix(std::vector<PackedTernary> from, bool paired) : parts(std::move(from)) {
    std::vector<TernaryRows> rows;
    for (const PackedTernary& part : parts) rows.emplace_back(&part);
    const TernaryTiles layout(rows, paired ? TernaryTiles::Order::kPaired : TernaryTiles::Order::kStacked);
    std::vector<uint32_t> words(static_cast<size_t>(layout.groups() * layout.group_words()));
    layout.pack(0, layout.groups(), words);
    tiles = to_device(words);
    row_scales = to_device(layout.row_scales());
    weights = {.tiles = tiles.data(),
               .row_scale = row_scales.as<float>(),
               .groups = layout.groups(),
               .k_tiles = layout.k_tiles(),
               .outputs = layout.outputs()};
  }
};

/// y[t, n] by the scalar table, parts one after another.
std::vector<float> products(const Matrix& matrix, const Rounded& x, int64_t tokens) {
  int64_t rows = 0;
  for (const PackedTernary& part : matrix.parts) rows += part.rows();
  std::vector<float> y(static_cast<size_t>(tokens * rows));
  int64_t first = 0;
  for (const PackedTernary& part : matrix.parts) {
    scalar().ternary_matmul({.weights = part.data(),
                             .row_scale = part.row_scales(),
                             .rows = part.rows(),
                             .padded_cols = part.padded_cols(),
                             .first_group = 0,
                             .last_group = part.groups(),
                             .tokens = tokens,
                             .q = x.q.data(),
                             .q_stride = padded(x.cols),
                             .scale = x.scale.data(),
                             .sum = x.sum.data(),
                             .y = y.data() + first,
                             .y_stride = rows});
    first += part.rows();
  }
  return y;
}

/// What the epilogue makes of the products and of what stood in y.
std::vector<float> expected_outputs(const Matrix& matrix, const Rounded& x, int64_t tokens, Epilogue epilogue,
                                    std::span<const float> before) {
  std::vector<float> y = products(matrix, x, tokens);
  if (epilogue == Epilogue::kAdd) scalar().add(y.data(), before.data(), std::ssize(y));
  if (epilogue != Epilogue::kRelu2 && epilogue != Epilogue::kSilu) return y;
  const int64_t rows = matrix.parts[0].rows();
  std::vector<float> h(static_cast<size_t>(tokens * rows));
  for (int64_t t = 0; t < tokens; ++t) {
    (epilogue == Epilogue::kRelu2 ? scalar().glu_relu2
                                  : scalar().glu_silu)({.gate = y.data() + 2 * t * rows,
                                                        .up = y.data() + (2 * t + 1) * rows,
                                                        .h = h.data() + t * rows,
                                                        .count = rows});
  }
  return h;
}

constexpr Epilogue kEpilogues[] = {Epilogue::kStore, Epilogue::kAdd, Epilogue::kRelu2, Epilogue::kSilu};

Matrix make_matrix(Random& random, int64_t rows, int64_t cols, Epilogue epilogue, int fixed = 2) {
  const bool paired = epilogue == Epilogue::kRelu2 || epilogue == Epilogue::kSilu;
  std::vector<PackedTernary> parts;
  parts.push_back(random_matrix(random, rows, cols, fixed));
  if (paired) {
    parts.push_back(random_matrix(random, rows, cols, fixed));
  } else {
    parts.push_back(random_matrix(random, 7, cols, fixed));
  }
  return {std::move(parts), paired};
}

struct ShapeCase {
  int64_t rows, cols;
};
constexpr ShapeCase kShapes[] = {{1, 5},      {16, 128},  {37, 130},  {64, 640},
                                 {200, 2560}, {40, 6912}, {2560, 320}};

void expect_gemv(Random& random, ShapeCase shape, Epilogue epilogue, int norm_count) {
  const Matrix matrix = make_matrix(random, shape.rows, shape.cols, epilogue);
  const std::vector<float> x = random_floats(random, shape.cols, -3, 3);
  NormWeights norms;
  if (norm_count > 0) norms.first = random_floats(random, shape.cols, 0.5f, 1.5f);
  if (norm_count > 1) norms.second = random_floats(random, shape.cols, 0.5f, 1.5f);
  const Rounded rounded = round_rows(x, 1, shape.cols, norms);
  const std::vector<float> before = random_floats(random, matrix.weights.outputs);
  const DeviceBuffer device_x = to_device(padded_rows(x, 1, shape.cols)), y = to_device(before);
  const DeviceBuffer first = to_device(padded_rows(norms.first, norm_count > 0 ? 1 : 0, shape.cols));
  const DeviceBuffer second = to_device(padded_rows(norms.second, norm_count > 1 ? 1 : 0, shape.cols));
  run([&](Stream stream) {
    table().ternary_gemv({.x = device_x.as<float>(),
                          .cols = shape.cols,
                          .norms = {first.as<float>(), second.as<float>(), kEps[0], kEps[1]},
                          .weights = matrix.weights,
                          .epilogue = epilogue,
                          .y = y.as<float>()},
                         stream);
  });
  EXPECT_EQ(to_host<float>(y), expected_outputs(matrix, rounded, 1, epilogue, before))
      << shape.rows << " x " << shape.cols << ", epilogue " << static_cast<int>(epilogue) << ", norms "
      << norm_count;
}

class Ternary : public CudaTest {};

TEST_F(Ternary, GemvHasTheScalarTablesBits) {
  Random random(1);
  for (const ShapeCase shape : kShapes) {
    for (const Epilogue epilogue : kEpilogues) expect_gemv(random, shape, epilogue, 1);
  }
  expect_gemv(random, {33, 300}, Epilogue::kStore, 0);
  expect_gemv(random, {33, 300}, Epilogue::kStore, 2);
  expect_gemv(random, {300, 17920}, Epilogue::kAdd, 1);
}

/// The same from an image of x, which `quantize` makes.
void expect_image_gemm(GemmArgs args, std::span<const float> x, const std::vector<float>& before,
                       const std::vector<float>& expected) {
  const int64_t cols = std::ssize(x) / args.tokens, rows = (args.tokens + kImageTokens - 1) / kImageTokens;
  const DeviceBuffer device_x = to_device(padded_rows(x, args.tokens, cols)), y = to_device(before);
  const DeviceBuffer q = filled<int8_t>(rows * kImageTokens * padded(cols), 77);
  const DeviceBuffer scale = filled<float>(args.tokens), sum = filled<int32_t>(args.tokens);
  args.q = q.as<int8_t>(), args.scale = scale.as<float>(), args.sum = sum.as<int32_t>(),
  args.y = y.as<float>();
  args.image = true;
  run([&](Stream stream) {
    table().quantize({.x = device_x.as<float>(),
                      .x_stride = padded(cols),
                      .tokens = args.tokens,
                      .cols = cols,
                      .norms = {},
                      .q = q.as<int8_t>(),
                      .q_stride = padded(cols),
                      .scale = scale.as<float>(),
                      .sum = sum.as<int32_t>(),
                      .image = true},
                     stream);
    table().ternary_gemm(args, stream);
  });
  EXPECT_EQ(to_host<float>(y), expected) << cols << " columns, " << args.tokens << " tokens, from an image";
}

void expect_gemm(Random& random, ShapeCase shape, int64_t tokens, Epilogue epilogue, int fixed = 2) {
  const Matrix matrix = make_matrix(random, shape.rows, shape.cols, epilogue, fixed);
  std::vector<float> x = random_floats(random, tokens * shape.cols, -3, 3);
  if (fixed < 2) std::fill(x.begin(), x.end(), 1.0f);  // q = 127 everywhere: the largest sums
  const Rounded rounded = round_rows(x, tokens, shape.cols, {});
  const std::vector<float> before = random_floats(random, tokens * matrix.weights.outputs);
  const DeviceBuffer q = to_device(rounded.q), scale = to_device(rounded.scale), sum = to_device(rounded.sum);
  const DeviceBuffer y = to_device(before), naive = to_device(before);
  const GemmArgs args{.weights = matrix.weights,
                      .tokens = tokens,
                      .q = q.as<int8_t>(),
                      .q_stride = padded(shape.cols),
                      .scale = scale.as<float>(),
                      .sum = sum.as<int32_t>(),
                      .epilogue = epilogue,
                      .y = y.as<float>(),
                      .y_stride = matrix.weights.outputs};
  run([&](Stream stream) { table().ternary_gemm(args, stream); });
  const std::vector<float> found = to_host<float>(y);
  EXPECT_EQ(found, expected_outputs(matrix, rounded, tokens, epilogue, before))
      << shape.rows << " x " << shape.cols << ", " << tokens << " tokens, epilogue "
      << static_cast<int>(epilogue);
  if (table().gemm_takes_image(tokens)) expect_image_gemm(args, x, before, found);
  if (epilogue != Epilogue::kStore) return;
  GemmArgs naive_args = args;
  naive_args.y = naive.as<float>();
  run([&](Stream stream) { table().naive_ternary(naive_args, stream); });
  EXPECT_EQ(to_host<float>(naive), found);
}

TEST_F(Ternary, GemmHasTheScalarTablesBits) {
  Random random(2);
  for (const ShapeCase shape : kShapes) {
    for (const int64_t tokens : {1, 2, 16, 17, 65}) expect_gemm(random, shape, tokens, Epilogue::kStore);
    for (const Epilogue epilogue : kEpilogues) expect_gemm(random, shape, 33, epilogue);
  }
  for (const Epilogue epilogue : kEpilogues) expect_gemm(random, {200, 2560}, 300, epilogue);
  // Column tiles shared by 1 to 8 blocks of a cluster.
  for (const int64_t cols : {130, 700, 1300, 6912}) {
    for (const int64_t tokens : {5, 64, 129}) expect_gemm(random, {300, cols}, tokens, Epilogue::kAdd);
  }
  for (const Epilogue epilogue : kEpilogues) expect_gemm(random, {2560, 1300}, 40, epilogue);
  // Enough blocks for the largest tiles.
  expect_gemm(random, {2560, 130}, 900, Epilogue::kAdd);
  expect_gemm(random, {1280, 130}, 900, Epilogue::kRelu2);
}

/// Tiles of 256 rows by 160 tokens, by 128, in one round of the GPU's blocks and in several; rows of one
/// scale and of two in a tile; fewer column tiles than a ring has stages, and more.
TEST_F(Ternary, GemmOfPromptsHasTheScalarTablesBits) {
  Random random(5);
  for (const Epilogue epilogue : kEpilogues) {
    const bool paired = epilogue == Epilogue::kRelu2 || epilogue == Epilogue::kSilu;
    for (const int64_t tokens : {1700, 1999})
      expect_gemm(random, {paired ? 1285 : 2560, 130}, tokens, epilogue);
  }
  expect_gemm(random, {2560, 90}, 1700, Epilogue::kStore);
  expect_gemm(random, {2560, 1100}, 1700, Epilogue::kAdd);
  expect_gemm(random, {6000, 400}, 1111, Epilogue::kStore);
}

TEST_F(Ternary, TheLargestSumsAreExact) {
  Random random(3);
  for (const int trit : {-1, 0, 1}) {
    for (const int64_t tokens : {1, 20, 70}) expect_gemm(random, {20, 6912}, tokens, Epilogue::kStore, trit);
    expect_gemm(random, {2560, 300}, 2000, Epilogue::kStore, trit);
  }
}

/// x as padded_rows(); with an addend, it becomes the sum.
Rounded round_on_device(const DeviceBuffer& x, int64_t tokens, int64_t cols, const NormWeights& norms,
                        std::span<const float> addend = {}, int64_t addend_stride = 0) {
  const auto weight = [cols](const std::vector<float>& of) {
    return to_device(padded_rows(of, of.empty() ? 0 : 1, cols));
  };
  const DeviceBuffer first = weight(norms.first), second = weight(norms.second);
  const DeviceBuffer added = to_device(std::vector<float>(addend.begin(), addend.end()));
  const DeviceBuffer q = filled<int8_t>(tokens * padded(cols), 77);
  const DeviceBuffer scale = filled<float>(tokens), sum = filled<int32_t>(tokens);
  run([&](Stream stream) {
    table().quantize({.x = x.as<float>(),
                      .x_stride = padded(cols),
                      .tokens = tokens,
                      .cols = cols,
                      .norms = {first.as<float>(), second.as<float>(), kEps[0], kEps[1]},
                      .q = q.as<int8_t>(),
                      .q_stride = padded(cols),
                      .scale = scale.as<float>(),
                      .sum = sum.as<int32_t>(),
                      .image = false,
                      .addend = added.as<float>(),
                      .addend_stride = addend_stride},
                     stream);
  });
  return {cols, to_host<int8_t>(q), to_host<float>(scale), to_host<int32_t>(sum)};
}

TEST_F(Ternary, QuantizeHasTheScalarTablesBits) {
  Random random(4);
  for (const int64_t cols : {1, 31, 128, 2560, 6912, 9000}) {
    for (int norm_count = 0; norm_count <= 2; ++norm_count) {
      const int64_t tokens = norm_count == 1 ? 130 : 5;  // many rows stay in registers
      std::vector<float> x = random_floats(random, tokens * cols, -50, 50);
      std::fill_n(x.begin(), cols, 0.0f);                                     // below the least magnitude
      x[static_cast<size_t>(cols)] = std::numeric_limits<float>::infinity();  // a row of no finite scale
      NormWeights norms;
      if (norm_count > 0) norms.first = random_floats(random, cols);
      if (norm_count > 1) norms.second = random_floats(random, cols);
      const Rounded expected = round_rows(x, tokens, cols, norms);
      const Rounded rounded = round_on_device(to_device(padded_rows(x, tokens, cols)), tokens, cols, norms);
      EXPECT_EQ(rounded.q, expected.q) << cols << " columns, norms " << norm_count;
      EXPECT_EQ(rounded.sum, expected.sum);
      for (size_t t = 0; t < rounded.scale.size(); ++t) {
        if (std::isnan(expected.scale[t])) {
          EXPECT_TRUE(std::isnan(rounded.scale[t]));
        } else {
          EXPECT_EQ(rounded.scale[t], expected.scale[t]) << "token " << t;
        }
      }
    }
  }
}

/// x += addend in front of the norm; what lies behind the addend's columns is not added.
TEST_F(Ternary, QuantizeAddsFirst) {
  Random random(6);
  for (const int64_t cols : {31, 130, 2560, 6912, 9000}) {
    for (const int64_t tokens : {5, 130}) {
      SCOPED_TRACE(std::to_string(cols) + " columns, " + std::to_string(tokens) + " tokens");
      const int64_t addend_stride = padded(cols) + 128;
      const std::vector<float> x = random_floats(random, tokens * cols, -3, 3);
      const std::vector<float> addend = random_floats(random, tokens * addend_stride, -3, 3);
      std::vector<float> both = x;
      for (size_t i = 0; i < both.size(); ++i) {
        const auto token = static_cast<int64_t>(i) / cols, col = static_cast<int64_t>(i) % cols;
        both[i] += addend[static_cast<size_t>(token * addend_stride + col)];
      }
      const NormWeights norms{random_floats(random, cols, 0.5f, 1.5f), {}};
      const Rounded expected = round_rows(both, tokens, cols, norms);
      const DeviceBuffer device_x = to_device(padded_rows(x, tokens, cols));
      const Rounded rounded = round_on_device(device_x, tokens, cols, norms, addend, addend_stride);
      EXPECT_EQ(to_host<float>(device_x), padded_rows(both, tokens, cols));
      EXPECT_EQ(rounded.q, expected.q);
      EXPECT_EQ(rounded.sum, expected.sum);
      EXPECT_EQ(rounded.scale, expected.scale);
    }
  }
}

}  // namespace
}  // namespace bitnet::cuda
