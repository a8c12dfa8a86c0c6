#include "bitnet/core/error.h"
#include "bitnet/inference/generate.h"
#include "fixtures.h"
#include "temporary_folder.h"

#include <fstream>
#include <iterator>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

class PrefixCache : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = Model::load(testing::data_folder() / "reference/bitnet-packed"); }
  static void TearDownTestSuite() { model_.reset(); }

  static std::vector<int32_t> ids(size_t count, int32_t step = 7) {
    std::vector<int32_t> result(count);
    for (size_t i = 0; i < count; ++i) result[i] = static_cast<int32_t>(i) * step % 320;
    return result;
  }
  static std::vector<float> copy(std::span<const float> logits) { return {logits.begin(), logits.end()}; }
  static Session session(DType kv_type = DType::kF32, int64_t context = 64) {
    return Session(model_, {.threads = 1, .context = context, .kv_type = kv_type});
  }
  std::string saved(size_t tokens) {
    Session from = session();
    (void)from.append(ids(tokens));
    from.save(work_ / "kv", ids(tokens));
    std::ifstream file(work_ / "kv", std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  ErrorCode load_error(const std::string& bytes, DType kv_type = DType::kF32, int64_t context = 64) {
    std::ofstream(work_ / "kv", std::ios::binary) << bytes;
    Session to = session(kv_type, context);
    (void)to.append(ids(3));
    try {
      (void)to.load(work_ / "kv");
    } catch (const Error& error) {
      EXPECT_EQ(to.position(), 3);
      return error.code();
    }
    return ErrorCode::kInternal;
  }

  testing::TemporaryFolder work_;
  static std::shared_ptr<const Model> model_;
};
std::shared_ptr<const Model> PrefixCache::model_;

TEST_F(PrefixCache, GoesOnBitForBit) {
  for (const DType kv_type : {DType::kF32, DType::kF16, DType::kI8}) {
    for (const size_t count : {1, 15, 16, 33}) {
      Session from = session(kv_type);
      const auto next = ids(5, 11);
      (void)from.append(ids(count + 4));
      from.save(work_ / "kv", ids(count));
      from.truncate(static_cast<int64_t>(count));
      const auto expected = copy(from.append(next));
      // A context of another size lies otherwise in memory.
      Session to = session(kv_type, 80);
      (void)to.append(ids(20, 3));
      EXPECT_EQ(to.load(work_ / "kv"), ids(count));
      EXPECT_EQ(to.position(), static_cast<int64_t>(count));
      EXPECT_EQ(copy(to.append(next)), expected);
    }
  }
}

TEST_F(PrefixCache, RefusesOtherModelsTypesAndContexts) {
  const std::string bytes = saved(20);
  EXPECT_EQ(load_error(bytes, DType::kF16), ErrorCode::kUnsupported);
  EXPECT_EQ(load_error(bytes, DType::kF32, 19), ErrorCode::kUnsupported);
  Session other(Model::load(testing::data_folder() / "reference/llama-packed"), {.threads = 1});
  EXPECT_THROW((void)other.load(work_ / "kv"), Error);
  Session missing = session();
  EXPECT_THROW((void)missing.load(work_ / "none"), Error);
  EXPECT_THROW(missing.save(work_ / "kv", ids(1)), Error);
}

TEST_F(PrefixCache, FindsDamage) {
  const std::string bytes = saved(20);
  for (const size_t length :
       {size_t{0}, size_t{7}, size_t{31}, size_t{60}, bytes.size() / 2, bytes.size() - 1})
    EXPECT_EQ(load_error(bytes.substr(0, length)), ErrorCode::kCorruptData) << length;
  EXPECT_EQ(load_error(bytes + 'x'), ErrorCode::kCorruptData);
  for (size_t place = 0; place < bytes.size(); place += place < 40 ? 1 : 997) {
    std::string changed = bytes;
    changed[place] = static_cast<char>(changed[place] ^ 0x55);
    const ErrorCode code = load_error(changed);
    EXPECT_TRUE(code == ErrorCode::kCorruptData || code == ErrorCode::kUnsupported) << place;
  }
}

TEST_F(PrefixCache, PenaltiesAndGuessesSeeTheEarlierTokens) {
  GenerateOptions options;
  options.sampler.repetition_penalty = 1.5f;
  options.sampler.penalty_window = -1;
  options.max_tokens = 20;
  options.draft_tokens = 3;
  const auto prompt = ids(30);
  Session whole = session(), split = session();
  const GenerateResult expected = generate(whole, prompt, options);
  (void)split.append(std::span(prompt).first(25));
  options.earlier_tokens.assign(prompt.begin(), prompt.begin() + 25);
  const GenerateResult result = generate(split, std::span(prompt).subspan(25), options);
  EXPECT_EQ(result.ids, expected.ids);
  EXPECT_EQ(result.drafted_tokens, expected.drafted_tokens);
}

}  // namespace
}  // namespace bitnet
