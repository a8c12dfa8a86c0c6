// Memory by pages: address ranges that grow, and caches that share a GPU's memory.

#include "bitnet/core/error.h"
#include "cuda_test.h"
#include "inference/cuda_cache.h"
#include "inference/cuda_pages.h"
#include "inference/fixtures.h"

#include <array>
#include <optional>
#include <string>
#include <vector>

namespace bitnet::cuda {
namespace {

class Pages : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (IsSkipped()) return;
    pool_ = PagePool::make(0);
    if (pool_ == nullptr) GTEST_SKIP() << "this GPU or its driver has no virtual memory management";
    page_ = pool_->page_bytes();
  }

  std::shared_ptr<PagePool> pool_;
  size_t page_ = 0;
};

void write(const PagedMemory& memory, size_t at, std::byte value) {
  run([&](Stream stream) { table().to_device(memory.as<std::byte>() + at, &value, 1, stream); });
}
std::byte read(const PagedMemory& memory, size_t at) {
  std::byte value{};
  run([&](Stream stream) { table().to_host(&value, memory.as<std::byte>() + at, 1, stream); });
  return value;
}

TEST_F(Pages, AreMappedWhereAskedForAndGivenBack) {
  std::optional<PagedMemory> memory(std::in_place, pool_, 10 * page_ + 1);
  EXPECT_EQ(pool_->taken_bytes(), 0U);
  std::vector<size_t> added;
  memory->map(page_ - 1, page_ + 1, added);
  memory->map(10 * page_, 10 * page_ + 1, added);
  EXPECT_EQ(added, (std::vector<size_t>{0, 1, 10}));
  EXPECT_EQ(pool_->taken_bytes(), 3 * page_);
  for (const size_t at : {size_t{0}, page_ - 1, page_, 10 * page_}) write(*memory, at, std::byte{42});
  memory->map(0, 4 * page_, added);
  memory->unmap(std::array<size_t, 1>{2});
  memory->map(0, 4 * page_, added);
  EXPECT_EQ(pool_->taken_bytes(), 5 * page_);
  write(*memory, 3 * page_, std::byte{7});
  for (const size_t at : {size_t{0}, page_ - 1, page_, 10 * page_})
    EXPECT_EQ(read(*memory, at), std::byte{42});
  PagedMemory other(pool_, page_);
  memory.reset();
  EXPECT_EQ(pool_->taken_bytes(), 0U);
  const int64_t free_before = table().memory().free_bytes;
  other.map(0, page_, added);  // one of those given back
  EXPECT_EQ(table().memory().free_bytes, free_before);
  write(other, page_ - 1, std::byte{9});
  EXPECT_EQ(read(other, page_ - 1), std::byte{9});
}

TEST_F(Pages, CachesHaveThoseOfTheirTokensAlone) {
  constexpr int64_t kContext = 200000;
  const auto model = Model::load(testing::bundled_model());
  const auto weights = model_on_device(model->impl(), 0, {});
  for (const DType type : {DType::kF32, DType::kF16, DType::kI8}) {
    SCOPED_TRACE(to_string(type));
    std::vector<std::unique_ptr<CudaCache>> caches;
    for (int i = 0; i < 4; ++i)
      caches.push_back(std::make_unique<CudaCache>(model->impl(), *weights, kContext, type, pool_));
    const auto full = static_cast<size_t>(caches.front()->bytes());
    caches[0]->reserve(1);
    const size_t least = pool_->taken_bytes();
    EXPECT_LT(least, full / 2);
    caches[1]->reserve(256);  // the same chunk
    EXPECT_EQ(pool_->taken_bytes(), 2 * least);
    caches[2]->reserve(kContext / 2);
    caches[2]->reserve(100);
    EXPECT_LT(pool_->taken_bytes(), 2 * least + full * 3 / 4);
    caches[3]->reserve(kContext);
    EXPECT_GE(pool_->taken_bytes(), full);
    caches.clear();
    EXPECT_EQ(pool_->taken_bytes(), 0U);
  }
}

/// The sequences that are there keep what they have, and the one that failed holds no more than before.
TEST_F(Pages, RunningOutOfMemorySaysWhatWasNeeded) {
  const auto model = Model::load(testing::bundled_model());
  const auto weights = model_on_device(model->impl(), 0, {});
  CudaCache first(model->impl(), *weights, 1 << 20, DType::kF32, pool_),
      second(model->impl(), *weights, 1 << 20, DType::kF32, pool_);
  first.reserve(10);
  const size_t taken = pool_->taken_bytes();
  constexpr int64_t kLeft = int64_t{200} << 20;
  const DeviceBuffer hog(static_cast<size_t>(table().memory().free_bytes - kLeft));
  try {
    second.reserve(1 << 20);
    FAIL() << "there was room";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("tokens of a sequence"), std::string::npos) << error.what();
  }
  EXPECT_EQ(pool_->taken_bytes(), taken);
  first.reserve(11);
  second.reserve(10);
}

}  // namespace
}  // namespace bitnet::cuda
