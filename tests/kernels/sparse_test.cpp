// Products with chosen rows and columns, and the way back to blocks: against the definition, on every table.

#include "bitnet/quant/packed_ternary.h"
#include "kernel_test.h"

#include <array>
#include <cmath>
#include <functional>

namespace bitnet::kernels {
namespace {

using Trit = std::function<int(int64_t row, int64_t col)>;

class Matrix {
 public:
  Matrix(int64_t rows, int64_t cols, const Trit& trit)
      : rows_(rows),
        cols_(cols),
        trits_(static_cast<size_t>(rows * cols)),
        scales_(static_cast<size_t>(rows)) {
    for (int64_t r = 0; r < rows; ++r) {
      scales_[static_cast<size_t>(r)] = 0.5f + 0.001f * static_cast<float>(r);
      for (int64_t c = 0; c < cols; ++c)
        trits_[static_cast<size_t>(r * cols + c)] = static_cast<int8_t>(trit(r, c));
    }
  }
  [[nodiscard]] int64_t rows() const { return rows_; }
  [[nodiscard]] int64_t cols() const { return cols_; }
  [[nodiscard]] int trit(int64_t r, int64_t c) const { return trits_[static_cast<size_t>(r * cols_ + c)]; }
  [[nodiscard]] float scale(int64_t r) const { return scales_[static_cast<size_t>(r)]; }

  [[nodiscard]] PackedTernary packed(TernaryLayout layout) const {
    PackedTernary out(rows_, cols_, layout);
    for (int64_t g = 0; g < out.groups(); ++g) {
      const int64_t first = g * out.group_rows(), count = std::min(out.group_rows(), rows_ - first);
      out.set_group(
          g,
          std::span(trits_).subspan(static_cast<size_t>(first * cols_), static_cast<size_t>(count * cols_)),
          std::span(scales_).subspan(static_cast<size_t>(first), static_cast<size_t>(count)));
    }
    return out;
  }

 private:
  int64_t rows_, cols_;
  std::vector<int8_t> trits_;
  std::vector<float> scales_;
};

Trit random_trits(uint32_t seed) {
  return [random = Random(seed)](int64_t, int64_t) mutable { return static_cast<int>(random() % 3) - 1; };
}

std::vector<int8_t> random_q(int64_t count, uint32_t seed) {
  Random random(seed);
  std::vector<int8_t> q(static_cast<size_t>(count));
  for (int8_t& value : q) value = static_cast<int8_t>(static_cast<int>(random() % 256) - 128);
  return q;
}

/// The packed bytes up to the end of memory: a kernel that reads further crashes.
struct GuardedWeights : GuardedArray<uint8_t> {
  explicit GuardedWeights(const PackedTernary& packed) : GuardedArray(packed.bytes()) {
    std::memcpy(data(), packed.data(), static_cast<size_t>(packed.bytes()));
  }
};

constexpr float kScale = 0.37f;

void check_rows(const KernelTable& table, const Matrix& matrix, std::span<const int32_t> rows,
                std::span<const int8_t> q) {
  const PackedTernary packed = matrix.packed(TernaryLayout::kRows);
  const GuardedWeights weights(packed);
  const int64_t plane_stride = round_up(packed.padded_cols() / 4, 64);
  GuardedArray<int8_t> planes(4 * plane_stride, true);
  int32_t sum = 0;
  for (int64_t c = 0; c < matrix.cols(); ++c) {
    planes[c % 16 / 4 * plane_stride + c / 16 * 4 + c % 4] = q[static_cast<size_t>(c)];
    sum += q[static_cast<size_t>(c)];
  }
  GuardedArray<float> y(std::ssize(rows));
  table.ternary_rows({.weights = weights.data(),
                      .row_scale = packed.row_scales(),
                      .padded_cols = packed.padded_cols(),
                      .rows = rows.data(),
                      .count = std::ssize(rows),
                      .planes = planes.data(),
                      .plane_stride = plane_stride,
                      .scale = kScale,
                      .sum = sum,
                      .y = y.data()});
  for (size_t i = 0; i < rows.size(); ++i) {
    int64_t dot = 0;
    for (int64_t c = 0; c < matrix.cols(); ++c) dot += matrix.trit(rows[i], c) * q[static_cast<size_t>(c)];
    const float expected = static_cast<float>(dot) * (matrix.scale(rows[i]) / kScale);
    ASSERT_EQ(bits_of(y[static_cast<int64_t>(i)]), bits_of(expected))
        << matrix.rows() << "x" << matrix.cols() << ", entry " << i << " of " << rows.size();
  }
}

void check_columns(const KernelTable& table, const Matrix& matrix, std::span<const int32_t> columns,
                   std::span<const int8_t> q, int64_t first_line, int64_t last_line) {
  const PackedTernary packed = matrix.packed(TernaryLayout::kColumns);
  const GuardedWeights weights(packed);
  const int64_t count = std::ssize(columns);
  GuardedArray<int32_t> list(round_up(count, 4));
  GuardedArray<int8_t> values(round_up(count, 4));
  std::copy(columns.begin(), columns.end(), list.data());
  std::copy(q.begin(), q.end(), values.data());
  GuardedArray<int32_t> sums(256 * (last_line - first_line));
  sums.fill(-77);
  table.ternary_columns({.weights = weights.data(),
                         .stride = packed.stride(),
                         .first_line = first_line,
                         .last_line = last_line,
                         .columns = list.data(),
                         .q = values.data(),
                         .count = count,
                         .sums = sums.data()});
  for (int64_t n = 256 * first_line; n < 256 * last_line; ++n) {
    int64_t expected = 0;
    for (size_t i = 0; i < columns.size(); ++i)
      expected += (n < matrix.rows() ? matrix.trit(n, columns[i]) + 1 : 1) * q[i];
    ASSERT_EQ(sums[n - 256 * first_line], expected)
        << matrix.rows() << "x" << matrix.cols() << ", row " << n << ", " << count << " columns";
  }
}

/// Every index that the generator draws with probability `share`.
std::vector<int32_t> some(int64_t count, double share, uint32_t seed) {
  Random random(seed);
  std::vector<int32_t> list;
  for (int64_t i = 0; i < count; ++i) {
    if (uniform(random, 0, 1) < share) list.push_back(static_cast<int32_t>(i));
  }
  return list;
}

class Sparse : public KernelTest {};
BITNET_TEST_EVERY_TABLE(Sparse);

TEST_P(Sparse, RowsAreExactForEveryColumnCountAndListLength) {
  for (int64_t cols = 1; cols <= 600; cols += cols < 80 ? 1 : 37) {
    const Matrix matrix(23, cols, random_trits(static_cast<uint32_t>(cols)));
    const std::vector<int8_t> q = random_q(cols, 5);
    for (int64_t count : {0, 1, 3, 4, 9}) {
      std::vector<int32_t> rows = some(23, 0.7, 3);
      rows.resize(static_cast<size_t>(count));
      check_rows(table(), matrix, rows, q);
      if (HasFatalFailure()) return;
    }
  }
}

/// Kernels take blocks of rows, and fetch the next block's meanwhile.
TEST_P(Sparse, LongListsOfRowsAreExact) {
  for (const int64_t cols : {500, 1100}) {
    const Matrix matrix(150, cols, random_trits(8));
    const std::vector<int8_t> q = random_q(cols, 5);
    for (const double share : {0.2, 0.21, 0.43, 0.6, 1.0}) {
      check_rows(table(), matrix, some(150, share, 4), q);
      if (HasFatalFailure()) return;
    }
    for (const int64_t count : {31, 32, 33, 64, 65, 96}) {
      std::vector<int32_t> rows = some(150, 1.0, 4);
      rows.resize(static_cast<size_t>(count));
      check_rows(table(), matrix, rows, q);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(Sparse, RowsAreExactAtTheExtremes) {
  const std::vector<int32_t> rows = {0, 1, 2, 3, 4};
  for (const int64_t cols : {int64_t{1024}, int64_t{6912}, int64_t{8640}, (int64_t{1} << 18) - 16}) {
    const Matrix matrix(5, cols, [](int64_t r, int64_t c) {
      return r == 0 ? 1 : r == 1 ? -1 : r == 2 ? 0 : c % 2 * 2 - 1;
    });
    for (const int value : {127, -127, -128}) {
      check_rows(table(), matrix, rows,
                 std::vector<int8_t>(static_cast<size_t>(cols), static_cast<int8_t>(value)));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(Sparse, ColumnsAreExactForEveryShapeAndShare) {
  for (const auto& [rows, cols] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {16, 17}, {255, 40}, {256, 300}, {257, 129}, {700, 611}}) {
    const Matrix matrix(rows, cols, random_trits(static_cast<uint32_t>(rows)));
    for (const double share : {0.0, 0.02, 0.18, 0.5, 1.0}) {
      const std::vector<int32_t> columns = some(cols, share, 9);
      const std::vector<int8_t> q = random_q(std::ssize(columns), 10);
      check_columns(table(), matrix, columns, q, 0, round_up(rows, 256) / 256);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(Sparse, ColumnsAreExactForOneColumn) {
  const Matrix matrix(300, 20, random_trits(4));
  for (int32_t column = 0; column < 20; ++column) {
    check_columns(table(), matrix, std::array{column}, std::array<int8_t, 1>{-128}, 0, 2);
    if (HasFatalFailure()) return;
  }
}

TEST_P(Sparse, ColumnsWriteOnlyTheirLines) {
  const Matrix matrix(1000, 70, random_trits(4));
  const std::vector<int32_t> columns = some(70, 0.5, 9);
  const std::vector<int8_t> q = random_q(std::ssize(columns), 10);
  for (int64_t first = 0; first < 4; ++first) {
    for (int64_t last = first; last <= 4; ++last) check_columns(table(), matrix, columns, q, first, last);
  }
}

/// All products of one sign, in a model's size: narrow accumulators would wrap here.
TEST_P(Sparse, ColumnsAreExactAtTheExtremes) {
  const Matrix matrix(40, 8640, [](int64_t r, int64_t c) {
    return r == 0 ? 1 : r == 1 ? -1 : r == 2 ? 0 : (r + c) % 3 - 1;
  });
  const std::vector<int32_t> columns = some(8640, 1.0, 1);
  for (const int value : {127, -127, -128}) {
    check_columns(table(), matrix, columns, std::vector<int8_t>(columns.size(), static_cast<int8_t>(value)),
                  0, 1);
    if (HasFatalFailure()) return;
  }
}

TEST_P(Sparse, LayoutsBecomeBlocks) {
  for (const auto& [rows, cols] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {16, 256}, {17, 300}, {256, 128}, {530, 144}, {48, 1000}}) {
    const Matrix matrix(rows, cols, random_trits(static_cast<uint32_t>(cols)));
    const PackedTernary blocks = matrix.packed(TernaryLayout::kBlocks);
    const auto check = [&](TernaryLayout layout, auto kernel, int64_t parts) {
      if (kernel == nullptr) return;
      const PackedTernary packed = matrix.packed(layout);
      const GuardedWeights weights(packed);
      GuardedArray<uint8_t> out(std::max(packed.bytes(), blocks.bytes()));
      // Two calls, which must meet.
      for (const auto& [first, last] : {std::pair{int64_t{0}, parts / 3}, std::pair{parts / 3, parts}}) {
        kernel({.weights = weights.data(),
                .stride = layout == TernaryLayout::kTight ? packed.group_bytes() : packed.stride(),
                .padded_cols = packed.padded_cols(),
                .first = first,
                .last = last,
                .blocks = out.data()});
      }
      const auto bytes = static_cast<size_t>(blocks.bytes());
      ASSERT_TRUE(same_bits(std::span<const uint8_t>(out.data(), bytes),
                            std::span<const uint8_t>(blocks.data(), bytes)))
          << to_string(layout) << " " << rows << "x" << cols;
    };
    check(TernaryLayout::kRows, table().rows_to_blocks, blocks.groups());
    check(TernaryLayout::kTight, table().tight_to_blocks, blocks.groups());
    check(TernaryLayout::kColumns, table().columns_to_blocks, blocks.padded_cols() / 16);
    if (HasFatalFailure()) return;
  }
}

TEST_P(Sparse, ScaleSumsAddsPartsExactly) {
  constexpr int64_t kRows = 77, kStride = 80;
  std::vector<int32_t> sums(3 * kStride);
  std::vector<float> scales(kRows);
  Random random(1);
  for (int32_t& sum : sums) sum = static_cast<int32_t>(random() % 2000000) - 1000000;
  fill_uniform(random, scales, 0.1f, 2.0f);
  for (const int64_t parts : {1, 2, 3}) {
    std::vector<float> y(kRows, -1.0f);
    table().scale_sums({sums.data(), kStride, parts, 5, 70, scales.data(), kScale, 12345, y.data()});
    for (int64_t n = 0; n < kRows; ++n) {
      int32_t dot = -12345;
      for (int64_t p = 0; p < parts; ++p) dot += sums[static_cast<size_t>(p * kStride + n)];
      const float value = static_cast<float>(dot) * (scales[static_cast<size_t>(n)] / kScale);
      ASSERT_EQ(bits_of(y[static_cast<size_t>(n)]), bits_of(n >= 5 && n < 70 ? value : -1.0f)) << n;
    }
  }
}

TEST_P(Sparse, ListsHoldWhatIsNotZeroInOrder) {
  constexpr int64_t kCount = 201;
  GuardedArray<float> gate(kCount);
  GuardedArray<int8_t> q(kCount);
  const float values[] = {0.0f, -0.0f, 1.0f, -1.0f, NAN, -NAN, INFINITY, -INFINITY, 1e-45f, -1e-45f, 3.0f};
  for (int64_t i = 0; i < kCount; ++i) {
    gate[i] = values[i * 7 % 11];
    q[i] = static_cast<int8_t>(i % 3 == 0 ? i - 128 : 0);
  }
  for (int64_t first = 0; first < 40; first += 3) {
    for (int64_t last = first; last <= kCount; last += 23) {
      std::vector<int32_t> open(static_cast<size_t>(last - first + 16)), columns(open.size());
      std::vector<int8_t> nonzero(open.size());
      open.resize(static_cast<size_t>(table().list_open(gate.data(), first, last, open.data())));
      const auto count =
          static_cast<size_t>(table().list_nonzero(q.data(), first, last, columns.data(), nonzero.data()));
      size_t opened = 0, found = 0;
      for (int64_t i = first; i < last; ++i) {
        if (!(gate[i] <= 0)) {
          ASSERT_LT(opened, open.size());
          ASSERT_EQ(open[opened++], i);
        }
        if (q[i] != 0) {
          ASSERT_LT(found, count);
          ASSERT_EQ(columns[found], i);
          ASSERT_EQ(nonzero[found++], q[i]);
        }
      }
      ASSERT_EQ(opened, open.size());
      ASSERT_EQ(found, count);
    }
  }
}

}  // namespace
}  // namespace bitnet::kernels
