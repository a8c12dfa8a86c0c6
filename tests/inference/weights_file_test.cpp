// Weights kept in a file as they are laid out: the same bits, and no damage goes unseen.

#include "bitnet/core/error.h"
#include "fixtures.h"
#include "temporary_folder.h"

#include <chrono>
#include <fstream>
#include <iterator>
#include <numeric>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

class WeightsCache : public ::testing::Test {
 protected:
  [[nodiscard]] std::filesystem::path cache() const { return work_ / "weights"; }
  [[nodiscard]] std::shared_ptr<const Model> load(LoadOptions options, const char* model = "bitnet-packed") {
    options.threads = 2;
    options.weights_cache = cache();
    return Model::load(testing::data_folder() / "reference" / model, options);
  }
  static std::vector<float> logits(const std::shared_ptr<const Model>& model) {
    std::vector<int32_t> ids(20);
    std::iota(ids.begin(), ids.end(), 3);
    Session session(model, {.threads = 1});
    const std::span<const float> last = session.append(ids);
    return {last.begin(), last.end()};
  }
  std::string content() {
    std::ifstream file(cache(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void put(const std::string& bytes) { std::ofstream(cache(), std::ios::binary) << bytes; }
  /// Whether a load takes the file as it is, and does not write it anew.
  bool reads(const LoadOptions& options) {
    using namespace std::chrono_literals;
    const auto old = std::filesystem::last_write_time(cache()) - 1h;
    std::filesystem::last_write_time(cache(), old);
    (void)load(options);
    return std::filesystem::last_write_time(cache()) == old;
  }
  ErrorCode load_error() {
    try {
      (void)load({});
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  }

  testing::TemporaryFolder work_;
};

TEST_F(WeightsCache, EveryLayoutHasTheSameBitsFromTheFile) {
  for (const char* model : {"bitnet-packed", "llama-packed"}) {
    const auto folder = testing::data_folder() / "reference" / model;
    const std::vector<float> expected = logits(Model::load(folder, {.threads = 1}));
    for (const TernaryLayout layout : {TernaryLayout::kBlocks, TernaryLayout::kTight}) {
      for (const bool sparse : {true, false}) {
        for (const bool head_copy : {true, false}) {
          const LoadOptions options{.sparse = sparse, .layout = layout, .head_copy = head_copy};
          std::filesystem::remove(cache());
          EXPECT_EQ(logits(load(options, model)), expected);
          const std::string written = content();
          EXPECT_GT(written.size(), 64u);
          const auto again = load(options, model);
          EXPECT_EQ(logits(again), expected);
          EXPECT_EQ(again->layout(), layout);
          EXPECT_EQ(content(), written);
        }
      }
    }
  }
}

TEST_F(WeightsCache, IsMadeAnewForOtherLayoutsOnly) {
  const LoadOptions blocks{.layout = TernaryLayout::kBlocks};
  (void)load(blocks);
  EXPECT_TRUE(reads(blocks));
  EXPECT_TRUE(reads({}));  // any layout would do
  EXPECT_FALSE(reads({.layout = TernaryLayout::kTight}));
  EXPECT_TRUE(reads({}));
  EXPECT_FALSE(reads({.sparse = false}));
  EXPECT_FALSE(reads({.head_copy = false}));
  // What was measured to be fast with other kernels need not be with these.
  EXPECT_EQ(reads({.isa = "scalar", .head_copy = false}), chosen_isa() == "scalar");
}

TEST_F(WeightsCache, FollowsTheModelsFiles) {
  using namespace std::chrono_literals;
  const auto copy = work_ / "model";
  std::filesystem::copy(testing::data_folder() / "reference/bitnet-packed", copy);
  LoadOptions options;
  options.weights_cache = cache();
  (void)Model::load(copy, options);
  const auto old = std::filesystem::last_write_time(cache()) - 1h;
  std::filesystem::last_write_time(cache(), old);
  (void)Model::load(copy, options);
  EXPECT_EQ(std::filesystem::last_write_time(cache()), old);
  for (const auto& file : std::filesystem::directory_iterator(copy)) {
    if (file.path().extension() == ".safetensors") std::filesystem::last_write_time(file, old);
  }
  (void)Model::load(copy, options);
  EXPECT_NE(std::filesystem::last_write_time(cache()), old);
}

TEST_F(WeightsCache, RefusesOtherModelsAndOtherFiles) {
  (void)load({}, "llama-packed");
  const std::string other = content();
  EXPECT_EQ(load_error(), ErrorCode::kUnsupported);
  EXPECT_EQ(content(), other);
  put("a letter to a friend");
  EXPECT_EQ(load_error(), ErrorCode::kCorruptData);
  EXPECT_EQ(content(), "a letter to a friend");
  put("");
  EXPECT_EQ(load_error(), ErrorCode::kCorruptData);
}

TEST_F(WeightsCache, FindsDamage) {
  (void)load({});
  const std::string bytes = content();
  for (const size_t length : {size_t{7}, size_t{63}, size_t{64}, bytes.size() / 2, bytes.size() - 1}) {
    put(bytes.substr(0, length));
    EXPECT_EQ(load_error(), ErrorCode::kCorruptData) << length;
  }
  put(bytes + 'x');
  EXPECT_EQ(load_error(), ErrorCode::kCorruptData);
  for (size_t place = 0; place < bytes.size(); place += place < 80 ? 1 : bytes.size() / 61) {
    std::string changed = bytes;
    changed[place] = static_cast<char>(changed[place] ^ 0x10);
    put(changed);
    EXPECT_EQ(load_error(), ErrorCode::kCorruptData) << place;
  }
}

TEST_F(WeightsCache, AFileThatCannotBeWrittenIsAnError) {
  LoadOptions options;
  options.weights_cache = work_ / "no such folder/weights";
  try {
    (void)Model::load(testing::data_folder() / "reference/bitnet-packed", options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
  }
}

}  // namespace
}  // namespace bitnet
