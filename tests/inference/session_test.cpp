#include "bitnet/inference/session.h"

#include "bitnet/core/error.h"
#include "fixtures.h"

#include <cmath>
#include <numeric>
#include <thread>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

class SessionTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = Model::load(testing::data_folder() / "reference/bitnet-packed"); }
  static void TearDownTestSuite() { model_.reset(); }

  static std::vector<int32_t> ids(size_t count, int32_t step = 7) {
    std::vector<int32_t> result(count);
    for (size_t i = 0; i < count; ++i) result[i] = static_cast<int32_t>(i) * step % 320;
    return result;
  }
  static std::vector<float> copy(std::span<const float> logits) { return {logits.begin(), logits.end()}; }

  static std::shared_ptr<const Model> model_;
};
std::shared_ptr<const Model> SessionTest::model_;

TEST_F(SessionTest, PrefillAndDecodeGiveTheSameBits) {
  const auto tokens = ids(40);
  Session at_once(model_), one_by_one(model_);
  const auto expected = copy(at_once.append(tokens));
  std::vector<float> logits;
  for (const int32_t id : tokens) logits = copy(one_by_one.append({&id, 1}));
  EXPECT_EQ(logits, expected);
  EXPECT_EQ(one_by_one.position(), 40);
}

TEST_F(SessionTest, ALayoutThatIsDeferredIsMadeByTheFirstSession) {
  LoadOptions load;
  load.defer_layout = true;
  int64_t loaded = 0, laid_out = 0, total = 0;
  load.progress = [&](int64_t done, int64_t) { loaded = done; };
  const auto deferred = Model::load(testing::data_folder() / "reference/bitnet-packed", load);
  EXPECT_EQ(loaded, 0);
  EXPECT_LT(deferred->weight_bytes(), model_->weight_bytes());  // no copy of the head
  EXPECT_GT(deferred->decode_bytes(), 0);
  const SessionOptions options{.progress = [&](int64_t done, int64_t all) { laid_out = done, total = all; }};
  const std::array<int32_t, 3> ids{3, 1, 2};
  Session first(deferred, options), at_once(model_);
  EXPECT_GT(laid_out, 0);
  EXPECT_EQ(laid_out, total);
  EXPECT_EQ(deferred->weight_bytes(), model_->weight_bytes());
  EXPECT_EQ(first.append_all_logits(ids), at_once.append_all_logits(ids));
  laid_out = 0;
  const Session second(deferred, options);
  EXPECT_EQ(laid_out, 0);
}

TEST_F(SessionTest, TruncateForgets) {
  const auto tokens = ids(30), other = ids(10, 13);
  Session session(model_), fresh(model_);
  (void)session.append(tokens);
  session.truncate(20);
  (void)fresh.append(std::span(tokens).first(20));
  EXPECT_EQ(copy(session.append(other)), copy(fresh.append(other)));
  EXPECT_THROW(session.truncate(31), Error);
  EXPECT_THROW(session.truncate(-1), Error);
}

TEST_F(SessionTest, AnF16CacheIsCloseAndHalfAsLarge) {
  const auto tokens = ids(40);
  Session wide(model_), narrow(model_, {.kv_type = DType::kF16});
  const auto a = copy(wide.append(tokens)), b = copy(narrow.append(tokens));
  EXPECT_NE(a, b);
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) ab += a[i] * b[i], aa += a[i] * a[i], bb += b[i] * b[i];
  EXPECT_GT(ab / std::sqrt(aa * bb), 0.999);
  EXPECT_LT(narrow.kv_bytes(), wide.kv_bytes() * 6 / 10);
}

TEST_F(SessionTest, ShiftingEqualsHavingRotatedTheKeysThere) {
  // Dropping nothing in the middle but moving: with keep = 0 the remaining keys and values are those computed
  // with the dropped tokens in sight, so only their positions change; relative positions stay, hence so do
  // attention scores.
  const auto tokens = ids(30);
  Session session(model_);
  (void)session.append(tokens);
  session.shift(4, 10);
  EXPECT_EQ(session.position(), 20);
  const auto logits = copy(session.append(ids(1)));
  EXPECT_TRUE(std::isfinite(std::accumulate(logits.begin(), logits.end(), 0.0f)));

  // Shifting twice by 5 is shifting by 10, but for rounding.
  Session twice(model_);
  (void)twice.append(tokens);
  twice.shift(4, 5);
  twice.shift(4, 5);
  const auto other = copy(twice.append(ids(1)));
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    ab += logits[i] * other[i], aa += logits[i] * logits[i], bb += other[i] * other[i];
  }
  EXPECT_GT(ab / std::sqrt(aa * bb), 0.9999);
  EXPECT_THROW(session.shift(0, 100), Error);
  EXPECT_THROW(session.shift(-1, 1), Error);
}

TEST_F(SessionTest, MistakesAreClearErrorsAndChangeNothing) {
  Session session(model_, {.context = 16});
  (void)session.append(ids(10));
  const auto code = [&](std::span<const int32_t> tokens) {
    try {
      (void)session.append(tokens);
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(code({}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(std::vector<int32_t>{320}), ErrorCode::kOutOfRange);
  EXPECT_EQ(code(std::vector<int32_t>{-1}), ErrorCode::kOutOfRange);
  EXPECT_EQ(code(ids(7)), ErrorCode::kOutOfRange);
  EXPECT_EQ(session.position(), 10);
  EXPECT_NO_THROW((void)session.append(ids(6)));
}

TEST_F(SessionTest, ImpossibleOptionsAreRefused) {
  EXPECT_THROW(Session(model_, {.isa = "sse9"}), Error);
  EXPECT_THROW(Session(model_, {.context = 1 << 20}), Error);
  EXPECT_THROW(Session(model_, {.kv_type = DType::kBF16}), Error);
  EXPECT_THROW(Session(model_, {.batch = -1}), Error);
  EXPECT_THROW(Session(nullptr), Error);
}

TEST_F(SessionTest, SessionsOnSeveralThreadsShareOneModel) {
  const auto tokens = ids(20);
  Session alone(model_);
  const auto expected = copy(alone.append(tokens));
  std::vector<std::thread> threads;
  std::vector<std::vector<float>> results(4);
  for (auto& result : results) {
    threads.emplace_back([&] {
      Session session(model_, {.threads = 2});
      result = copy(session.append(tokens));
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, expected);
}

}  // namespace
}  // namespace bitnet
