// Tensors to and from other libraries and files.
#include "bitnet/core/error.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/create.h"
#include "bitnet/tensor/dlpack.h"
#include "bitnet/tensor/safetensors_tensors.h"
#include "temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bitnet {
namespace {

using ::testing::ElementsAre;

TEST(DLPack, GoesThereAndBackWithoutACopy) {
  const Tensor x = from_values<float>({1, 2, 3, 4, 5, 6}, {2, 3}).transpose(0, 1).slice(0, {}, {}, -1);
  const Tensor y = from_dlpack(to_dlpack(x));
  EXPECT_EQ(y.bytes(), x.bytes());
  EXPECT_EQ(to_vector<float>(y), to_vector<float>(x));
  EXPECT_THAT(y.strides(), ElementsAre(-1, 3));
}

TEST(DLPack, CoversEveryPlainTypeAndRefusesTheRest) {
  for (int i = 0; i <= static_cast<int>(DType::kBool); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(from_dlpack(to_dlpack(ones({2}, dtype))).dtype(), dtype);
  }
  EXPECT_THROW((void)to_dlpack(zeros({4}, DType::kTernary)), Error);
  EXPECT_THROW((void)to_dlpack(Tensor()), Error);
}

/// An exported tensor that counts its deletions, for the importer's side.
struct Foreign {
  dlpack::DLManagedTensor managed{};
  std::array<float, 6> values{};
  std::array<int64_t, 2> shape{2, 3}, strides{3, 1};
  int deleted = 0;

  Foreign() {
    managed.dl_tensor = {values.data(), {1, 0}, 2, {2, 32, 1}, shape.data(), nullptr, 0};
    managed.manager_ctx = this;
    managed.deleter = [](dlpack::DLManagedTensor* self) {
      ++static_cast<Foreign*>(self->manager_ctx)->deleted;
    };
  }
};

TEST(DLPack, TheDeleterRunsOnceWhenTheLastTensorGoes) {
  Foreign foreign;
  foreign.managed.dl_tensor.byte_offset = 8;
  foreign.shape = {2, 2};
  {
    Tensor x = from_dlpack(&foreign.managed);
    Tensor view = x.select(0, 1);
    x = Tensor();
    view.data<float>()[0] = 3;
    EXPECT_EQ(foreign.deleted, 0);
  }
  EXPECT_EQ(foreign.deleted, 1);
  EXPECT_EQ(foreign.values[4], 3);
}

TEST(DLPack, NonsenseIsRefusedAndReleased) {
  const auto refused = [](auto&& spoil) {
    Foreign foreign;
    spoil(foreign);
    EXPECT_THROW((void)from_dlpack(&foreign.managed), Error);
    EXPECT_EQ(foreign.deleted, 1);
  };
  refused([](Foreign& f) { f.managed.dl_tensor.dtype.lanes = 4; });
  refused([](Foreign& f) { f.managed.dl_tensor.dtype.bits = 128; });
  refused([](Foreign& f) { f.managed.dl_tensor.device.device_type = 10; });
  refused([](Foreign& f) { f.managed.dl_tensor.ndim = -1; });
  refused([](Foreign& f) { f.managed.dl_tensor.ndim = 9; });
  refused([](Foreign& f) { f.managed.dl_tensor.data = nullptr; });
  refused([](Foreign& f) { f.managed.dl_tensor.byte_offset = 2; });
  refused([](Foreign& f) {
    f.managed.dl_tensor.strides = f.strides.data();
    f.strides[0] = INT64_MAX;
    f.shape[0] = 3;
  });
  EXPECT_THROW((void)from_dlpack(nullptr), Error);
}

TEST(SafetensorsTensors, GoThroughAFileBitForBit) {
  const testing::TemporaryFolder folder;
  const auto path = folder.path() / "t.safetensors";
  const Tensor x = from_values<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  save_safetensors(
      path, {{"x", x}, {"turned", x.transpose(0, 1)}, {"bytes", ones({3}, DType::kU8)}, {"none", zeros({0})}},
      {{"format", "pt"}});
  const auto tensors = load_safetensors(path);
  ASSERT_EQ(tensors.size(), 4U);
  EXPECT_EQ(to_vector<float>(tensors.at("x")), to_vector<float>(x));
  EXPECT_EQ(to_vector<float>(tensors.at("turned")), to_vector<float>(x.transpose(0, 1)));
  EXPECT_FALSE(tensors.at("x").writable());
  EXPECT_EQ(tensors.at("bytes").at({2}), 1);
  EXPECT_THROW(save_safetensors(path, {{"t", zeros({4}, DType::kTernary)}}), Error);
}

}  // namespace
}  // namespace bitnet
