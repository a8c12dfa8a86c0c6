// Tensors on a GPU: transfers, and operations against the processor's.
#include "bitnet/core/error.h"
#include "bitnet/memory/pool.h"
#include "bitnet/ops/contraction.h"
#include "bitnet/ops/devices.h"
#include "bitnet/ops/ops.h"
#include "bitnet/tensor/create.h"

#include <cmath>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

constexpr Device kGpu{DeviceType::kCuda, 0};

class GpuTensors : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!register_gpu_memory()) GTEST_SKIP() << select_device().reason;
  }
};

Tensor back(const Tensor& tensor) {
  return to_device(tensor, kCpuDevice);
}

TEST_F(GpuTensors, TravelThereAndBackInEverySize) {
  for (const int64_t count : {0, 1, 1000, 1 << 20, (1 << 20) + 1, 5'000'003}) {
    const Tensor x = rand(Shape{count}, {.seed = 1});
    EXPECT_EQ(to_vector<float>(back(to_device(x, kGpu))), to_vector<float>(x)) << count;
    const Tensor pinned = to_device(x, {DeviceType::kPinned, 0});
    EXPECT_EQ(to_vector<float>(back(to_device(to_device(pinned, kGpu), {DeviceType::kPinned, 0}))),
              to_vector<float>(x));
  }
  const Tensor turned = arange(0, 6).reshape({2, 3}).transpose(0, 1);
  EXPECT_EQ(to_vector<float>(back(to_device(turned, kGpu))), to_vector<float>(turned));
  EXPECT_EQ(back(zeros({70000}, DType::kF32, kGpu)).at({69999}), 0);
}

TEST_F(GpuTensors, OperationsAgreeWithTheProcessor) {
  const Tensor a = randn(Shape{5, 7, 300}, {.seed = 2}), b = randn(Shape{7, 1}, {.seed = 3});
  const Tensor ga = to_device(a, kGpu), gb = to_device(b, kGpu);
  EXPECT_EQ(add(ga, gb).device(), kGpu);
  for (const Op op : {Op::kAdd, Op::kSub, Op::kMul, Op::kDiv, Op::kMaximum}) {
    EXPECT_EQ(to_vector<float>(back(binary(op, ga, gb))), to_vector<float>(binary(op, a, b)))
        << op_info(op).name;
  }
  EXPECT_EQ(to_vector<bool>(back(less(ga, gb))), to_vector<bool>(less(a, b)));
  EXPECT_EQ(to_vector<float>(back(relu_squared(ga.transpose(0, 2)))),
            to_vector<float>(relu_squared(a.transpose(0, 2))));
  // Both round f64 sums once; sums of 300 f32 in another order differ by bits below f32's.
  for (const AxisList axes : {AxisList{}, AxisList{0}, AxisList{2}, AxisList{0, 2}}) {
    const Tensor here = sum(a, axes), there = back(sum(ga, axes));
    EXPECT_LE(max(abs(sub(here, there))).item(), 0x1p-22 * max(abs(here)).item());
  }
}

TEST_F(GpuTensors, ProductsAgreeWithTheProcessorInEveryForm) {
  const Tensor a = randn(Shape{3, 2, 17, 33}, {.seed = 4}), b = randn(Shape{2, 33, 9}, {.seed = 5});
  const Tensor ga = to_device(a, kGpu), gb = to_device(b, kGpu);
  const auto expect_near = [](const Tensor& there, const Tensor& here) {
    // 33 products of unit variance, each sum rounded 33 times.
    EXPECT_LE(max(abs(sub(back(there), here))).item(), 33 * 33 * 0x1p-24);
  };
  expect_near(matmul(ga, gb), matmul(a, b));
  const Tensor at = a.transpose(2, 3), bt = b.transpose(1, 2);
  expect_near(matmul(gb.transpose(1, 2), ga.transpose(2, 3)), matmul(bt, at));
  expect_near(matmul(ga.select(0, 1).select(0, 1), gb.select(0, 0).select(1, 3)),
              matmul(a.select(0, 1).select(0, 1), b.select(0, 0).select(1, 3)));
  EXPECT_EQ(back(matmul(zeros({2, 0}, DType::kF32, kGpu), zeros({0, 3}, DType::kF32, kGpu))).at({1, 2}), 0);
  EXPECT_EQ(to_vector<float>(back(add(ga, 1.5))), to_vector<float>(add(a, 1.5)));
}

TEST_F(GpuTensors, WhatIsNotThereYetSaysSo) {
  const Tensor x = to_device(ones({4}, DType::kI32), kGpu);
  EXPECT_THROW((void)add(x, x), Error);
  EXPECT_THROW((void)add(to_device(ones({4}), kGpu), ones({4})), Error);
  EXPECT_THROW((void)std::as_const(x).data<int32_t>(), Error);
}

TEST_F(GpuTensors, ThePoolServesAgainWhatTensorsGaveBack) {
  HybridMemoryPool& pool = HybridMemoryPool::instance(kGpu);
  (void)zeros({1 << 20}, DType::kF32, kGpu);
  const uint64_t requests = pool.stats().system_requests;
  for (int i = 0; i < 100; ++i) (void)zeros({1 << 20}, DType::kF32, kGpu);
  EXPECT_EQ(pool.stats().system_requests, requests);
  EXPECT_GT(pool.trim().released_bytes, 0);
  EXPECT_THROW((void)empty({int64_t{1} << 50}, DType::kU8, kGpu), Error);
}

TEST_F(GpuTensors, SpeedIsMeasured) {
  const DeviceSpeed& speed = device_speed(kGpu);
  EXPECT_GT(speed.memory_bytes_per_second, 1e11);
  EXPECT_GT(speed.matmul_operations_per_second, 1e12);
  RecordProperty("memory_bytes_per_second", std::to_string(speed.memory_bytes_per_second));
}

}  // namespace
}  // namespace bitnet
