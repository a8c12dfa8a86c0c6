// Every row of the table: the Highway kernels of every instruction set that runs here against the scalar back
// end, layouts against contiguous copies, one thread against several, nothing at all, and errors.
#include "bitnet/core/error.h"
#include "bitnet/ops/convert.h"
#include "bitnet/tensor/copy.h"
#include "cases.h"
#include "ops/simd/targets.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bitnet::ops {
namespace {

constexpr DType kComputed[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF64,
                               DType::kI32, DType::kI8,  DType::kU64,  DType::kBool};

/// Whether a row takes operands of the type at all.
bool takes(const OpInfo& info, DType dtype) {
  return !(info.dtypes == DTypeRule::kNumber && dtype == DType::kBool);
}

Tensor run_on(std::string_view backend, const OpInfo& info, const Case& given) {
  ExecutionContext context;
  context.backend = backend;
  context.threads = 1;
  const ContextScope scope(context);
  return run(info, given);
}

bool simd_computes(const OpInfo& info, const Case& given) {
  try {
    (void)run_on("simd", info, given);
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << error.report();
    return false;
  }
}

/// Steps of the result's type between which back ends may differ. 0: equal bits.
double allowed_steps(const OpInfo& info) {
  switch (info.op) {
    case Op::kExp:
      return 2;  // Highway 1 ULP, glibc less than 1
    case Op::kLog:
    case Op::kTanh:
      return 5;  // Highway 4
    case Op::kSigmoid:
    case Op::kSilu:
      return 6;  // the exponential's 2, and three roundings
    case Op::kGelu:
      return 40;  // without fused multiply-adds the square's last bits are lost, and raised by the
                  // exponential
    case Op::kSiluBackward:
    case Op::kGeluBackward:
    case Op::kGeluTanh:
    case Op::kGeluTanhBackward:
      return 64;  // |2u| < 16 on these operands: its rounding is raised as much by the exponential
    case Op::kSoftmax:
    case Op::kLogSoftmax:
    case Op::kLayerNorm:
    case Op::kRmsNorm:
    case Op::kSoftmaxBackward:
    case Op::kLogSoftmaxBackward:
    case Op::kRmsNormBackward:
      return 24;  // of the largest element: sums in blocks of 16 in f32
    case Op::kSum:
    case Op::kMean:
    case Op::kVar:
    case Op::kStd:
      return 1;  // f64 sums in another order, then one rounding
    default:
      return 0;
  }
}

double step_of(DType dtype) {
  return dtype == DType::kF16    ? 0x1p-10
         : dtype == DType::kBF16 ? 0x1p-7
         : dtype == DType::kF64  ? 0x1p-52
                                 : 0x1p-23;
}

/// Of f64 sums nothing is rounded away at the end: n u sum|a| of n elements below 3, in steps of the result
/// or of 1.
double allowed_steps(const OpInfo& info, DType dtype, int64_t n) {
  const double steps = allowed_steps(info);
  const bool sums = info.family == OpFamily::kReduction && steps > 0 && dtype == DType::kF64;
  return sums ? 3 * static_cast<double>(n) * static_cast<double>(info.op == Op::kSum ? n : 1) : steps;
}

/// Fails unless the tensors agree. A step is relative to the element, or where elements cancel to the
/// largest.
void expect_close(const Tensor& actual, const Tensor& wanted, double steps, bool to_largest,
                  const std::string& what) {
  ASSERT_EQ(actual.dtype(), wanted.dtype()) << what;
  ASSERT_TRUE(std::ranges::equal(actual.shape(), wanted.shape())) << what;
  const Tensor a = contiguous(actual), w = contiguous(wanted);
  if (steps == 0) {
    const bool equal =
        a.numel() == 0 || std::memcmp(a.bytes(), w.bytes(), static_cast<size_t>(a.nbytes())) == 0;
    EXPECT_TRUE(equal) << what << "\n" << to_string(a) << "\n" << to_string(w);
    return;
  }
  const Tensor x = to_dtype(a, DType::kF64), y = to_dtype(w, DType::kF64);
  double largest = 0;
  for (const double value : y.values<double>())
    largest = std::max(largest, std::isfinite(value) ? std::abs(value) : 0);
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double p = x.values<double>()[i], q = y.values<double>()[i];
    if (p == q || (std::isnan(p) && std::isnan(q))) continue;
    const double unit =
        step_of(actual.dtype()) * (to_largest ? std::max(largest, actual.dtype() == DType::kF64 ? 1.0 : 0.0)
                                              : std::max(std::abs(q), 0x1p-100));
    ASSERT_LE(std::abs(p - q), steps * unit) << what << " at " << i << ": " << p << " and " << q;
  }
}

bool sums_rows(const OpInfo& info) {
  return info.family == OpFamily::kRow || info.family == OpFamily::kReduction || info.op == Op::kLog ||
         info.op == Op::kSiluBackward || info.op == Op::kGeluBackward || info.op == Op::kGeluTanhBackward;
}

class Targets : public testing::TestWithParam<std::string_view> {
 protected:
  void SetUp() override { choose_simd_target(GetParam()); }
  void TearDown() override { choose_simd_target(""); }
};

TEST_P(Targets, ComputeWhatScalarComputes) {
  std::mt19937 random(1);
  int compared = 0;
  for (const OpInfo& info : op_table()) {
    for (const DType dtype : kComputed) {
      if (!takes(info, dtype)) continue;
      for (const int64_t n : {1, 3, 8, 31, 64, 257}) {
        Case given = make_case(info, std::vector<int64_t>{3, 2 * n}, dtype, random);
        if (!simd_computes(info, given)) break;
        if (info.family == OpFamily::kReduction) given.params.axes[0] = 1, given.params.axis_count = 1;
        const std::string what = fmt::format("{} of {} [3, {}]", info.name, to_string(dtype), 2 * n);
        expect_close(run_on("simd", info, given), run_on("scalar", info, given),
                     allowed_steps(info, dtype, 2 * n), sums_rows(info), what);
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 1000);
}

TEST_P(Targets, KeepExtremes) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> values = {0,     -0.0F,  inf,   -inf,  nan,   1e-45F, -1e-45F, 1e-38F, -1e-38F,
                                     3e38F, -3e38F, 88.7F, 89,    -87,   -104,   -200,    1,      -1,
                                     0.5F,  1e-7F,  65504, 65520, 1e30F, -1e30F, 16777216};
  const auto count = static_cast<int64_t>(values.size());
  const Tensor column = from_span(std::span<const float>(values), std::vector<int64_t>{count, 1});
  const Tensor all = contiguous(column.expand({count, count}));
  const Tensor other = contiguous(all.transpose(0, 1));
  for (const OpInfo& info : op_table()) {
    if (info.family != OpFamily::kElementwise || info.op == Op::kWhere) continue;
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      Case given{{to_dtype(all, dtype)}, {}};
      if (info.operands == 2) given.operands.push_back(to_dtype(other, dtype));
      if (!simd_computes(info, given)) continue;
      const Tensor wanted = run_on("scalar", info, given);
      // Where a gradient or product is chaotic (infinity times 0) only finite results are compared, and those
      // that are subnormal or nearly so not at all: Highway's exponential is 0 there.
      const Tensor p = to_dtype(run_on("simd", info, given), DType::kF64), q = to_dtype(wanted, DType::kF64);
      const double steps = allowed_steps(info);
      for (int64_t i = 0; i < q.numel(); ++i) {
        const double x = p.values<double>()[i], y = q.values<double>()[i];
        if (x == y || (std::isnan(x) && std::isnan(y))) continue;
        const bool function = steps > 0;
        if (function && (std::abs(y) < 1.2e-38 || info.operands == 2)) continue;
        EXPECT_LE(std::abs(x - y), steps * step_of(dtype) * std::abs(y))
            << info.name << " of " << to_string(dtype) << " " << given.operands[0].at({i / count, i % count});
      }
    }
  }
}

TEST_P(Targets, ConvertWhatScalarConverts) {
  std::mt19937 random(7);
  Tensor bits =
      randint(std::vector<int64_t>{10007}, 0, 1LL << 32, {1, 2}, DType::kU32);  // any f32: NaN, subnormals
  const Tensor singles(bits.storage(), DType::kF32, bits.shape(), bits.strides());
  Tensor shorts = to_dtype(mod(arange(0, 70000, 1, DType::kI32), 65536), DType::kU16);
  ExecutionContext scalar;
  scalar.backend = "scalar";
  for (const DType from : kPlainTypes) {
    const bool half = from == DType::kF16 || from == DType::kBF16;
    Tensor x = from == DType::kF32 ? singles : random_tensor(std::vector<int64_t>{1027}, from, random);
    if (half) x = Tensor(shorts.storage(), from, shorts.shape(), shorts.strides());
    for (const DType to : {DType::kF32, DType::kF16, DType::kBF16}) {
      const Tensor actual = to_dtype(to_dtype(x, to), DType::kF64);
      const ContextScope scope(scalar);
      const Tensor wanted = to_dtype(to_dtype(x, to), DType::kF64);
      for (int64_t i = 0; i < x.numel(); ++i) {
        const double p = actual.values<double>()[i], q = wanted.values<double>()[i];
        ASSERT_TRUE(std::isnan(q) ? std::isnan(p) : p == q && std::signbit(p) == std::signbit(q))
            << to_string(from) << " " << to_string(to) << " at " << i << ": " << p << " and " << q;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Simd, Targets, testing::ValuesIn(simd_targets()),
                         [](const auto& target) { return std::string(target.param); });

TEST(Table, EveryRowTakesAnyLayout) {
  std::mt19937 random(2);
  for (const OpInfo& info : op_table()) {
    for (const DType dtype : {DType::kF32, DType::kI32, DType::kBF16}) {
      const Case given = make_case(info, std::vector<int64_t>{4, 6, 10}, dtype, random);
      if (info.family == OpFamily::kIndexing || info.family == OpFamily::kContraction) continue;
      Case strided = given, dense = given;
      for (size_t k = 0; k < given.operands.size(); ++k) {
        Tensor& view = strided.operands[k];
        view = view.permute({1, 2, 0}).slice(0, {}, {}, -2).slice(1, 1, {}, 3);  // [3, 3, 4]
        dense.operands[k] = contiguous(view);
      }
      if (info.family == OpFamily::kRow) strided.params.length = dense.params.length = 3;
      if (info.family == OpFamily::kReduction) {
        strided.params.axes = dense.params.axes = {0, 2};
        strided.params.axis_count = dense.params.axis_count = 2;
      }
      const std::string what = fmt::format("{} of {}", info.name, to_string(dtype));
      const bool reordered = info.family == OpFamily::kReduction;
      expect_close(run(info, strided), run(info, dense), reordered ? allowed_steps(info) : 0, true, what);
    }
  }
}

TEST(Table, ElementwiseRowsBroadcast) {
  std::mt19937 random(3);
  for (const OpInfo& info : op_table()) {
    if (info.family != OpFamily::kElementwise || info.operands < 2) continue;
    Case small = make_case(info, std::vector<int64_t>{3, 1, 5}, DType::kF32, random);
    small.operands.back() = random_tensor(std::vector<int64_t>{4, 1}, DType::kF32, random);
    Case large = small;
    for (Tensor& operand : large.operands) operand = contiguous(operand.expand({3, 4, 5}));
    expect_close(run(info, small), run(info, large), 0, false, std::string(info.name));
  }
}

TEST(Table, NothingInNothingOut) {
  std::mt19937 random(4);
  for (const OpInfo& info : op_table()) {
    if (info.family != OpFamily::kElementwise && info.family != OpFamily::kRow) continue;
    EXPECT_EQ(run(info, make_case(info, std::vector<int64_t>{0, 6}, DType::kF32, random)).numel(), 0)
        << info.name;
    EXPECT_EQ(run(info, make_case(info, std::vector<int64_t>{3, 0}, DType::kF32, random)).numel(), 0)
        << info.name;
  }
}

TEST(Table, ResultsDoNotDependOnThreads) {
  std::mt19937 random(5);
  ThreadPool three(3), one(1);
  for (const OpInfo& info : op_table()) {
    if (info.family == OpFamily::kIndexing || info.op == Op::kRope) continue;
    const Case given = make_case(info, std::vector<int64_t>{5, 60000}, DType::kF32, random);
    Case reduced = given;
    if (info.family == OpFamily::kReduction) reduced.params.axis_count = 2, reduced.params.axes = {0, 1};
    ExecutionContext alone, together;
    alone.pool = &one;
    together.pool = &three;
    const auto in = [&](const ExecutionContext& context) {
      const ContextScope scope(context);
      return run(info, reduced);
    };
    expect_close(in(together), in(alone), 0, false, std::string(info.name));
  }
}

TEST(Table, ErrorsNameTheRow) {
  std::mt19937 random(6);
  for (const OpInfo& info : op_table()) {
    Case given = make_case(info, std::vector<int64_t>{2, 6}, DType::kF32, random);
    given.operands[0] = zeros({2, 6}, DType::kTernary);
    if (info.op == Op::kWhere) given.operands[1] = given.operands[0];
    try {
      (void)run(info, given);
      ADD_FAILURE() << info.name << " took a packed tensor";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << info.name;
      EXPECT_EQ(error.operation(), info.name);
      EXPECT_EQ(error.operands().front().dtype, DType::kTernary);
    }
  }
}

TEST(Table, RowsAreComplete) {
  std::set<std::string_view> names;
  for (const OpInfo& info : op_table()) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_EQ(op_from_name(info.name), info.op);
    EXPECT_FALSE(info.formula.empty() || info.numpy.empty()) << info.name;
  }
  EXPECT_FALSE(op_from_name("multiply").has_value());
}

/// The table as docs/TENSORS.md prints it.
std::string documentation() {
  const auto cell = [](std::string_view text) {
    std::string escaped;
    for (const char c : text) escaped += c == '|' ? std::string("\\|") : std::string(1, c);
    return escaped;
  };
  std::string text = "| operation | type | y | gradients |\n|---|---|---|---|\n";
  for (const OpInfo& info : op_table()) {
    text += fmt::format("| `{}` | {} | {} | {} |\n", info.name, to_string(info.type), cell(info.formula),
                        cell(info.backward));
  }
  return text;
}

TEST(Table, IsTheOneOfTheDocuments) {
  std::ifstream file(BITNET_SOURCE_DIR "/docs/TENSORS.md");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  EXPECT_THAT(text, testing::HasSubstr("<!-- operations -->\n" + documentation() + "<!-- /operations -->"))
      << "docs/TENSORS.md must hold:\n"
      << documentation();
}

}  // namespace
}  // namespace bitnet::ops
