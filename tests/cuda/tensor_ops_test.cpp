// Tensors on a GPU: transfers, and operations against the processor's.
#include "bitnet/core/error.h"
#include "bitnet/memory/pool.h"
#include "bitnet/ops/backend.h"
#include "bitnet/ops/contraction.h"
#include "bitnet/ops/devices.h"
#include "bitnet/ops/metrics.h"
#include "bitnet/ops/ops.h"
#include "bitnet/tensor/create.h"
#include "kernels/cuda_table.h"

#include <cmath>
#include <utility>
#include <vector>

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

TEST_F(GpuTensors, WhatAGpuCannotDoIsRepeatedOnTheHostLoggedAndCounted) {
  const Tensor x = randn(Shape{3, 40}, {.seed = 6}), whole = ones({3, 40}, DType::kI32);
  const Tensor gx = to_device(x, kGpu), gwhole = to_device(whole, kGpu);
  const uint64_t before = fallback_count();
  const Tensor there = softmax(gx);
  EXPECT_EQ(there.device(), kGpu);
  EXPECT_EQ(to_vector<float>(back(there)), to_vector<float>(softmax(x)));
  EXPECT_EQ(to_vector<int32_t>(back(add(gwhole, gwhole))), to_vector<int32_t>(add(whole, whole)));
  EXPECT_EQ(to_vector<float>(back(add(gx, gwhole))), to_vector<float>(add(x, whole)));  // of two types
  EXPECT_EQ(fallback_count(), before + 3);

  ExecutionContext context;
  context.strict = true;
  const ContextScope scope(context);
  EXPECT_THROW((void)softmax(gx), Error);
  EXPECT_THROW((void)add(gx, gwhole), Error);
}

TEST_F(GpuTensors, WhatIsAWrongCallStaysOne) {
  const Tensor x = to_device(ones({4}, DType::kI32), kGpu);
  EXPECT_THROW((void)add(to_device(ones({4}), kGpu), ones({4})), Error);
  EXPECT_THROW((void)add(x, to_device(ones({3}, DType::kI32), kGpu)), Error);
  EXPECT_THROW((void)std::as_const(x).data<int32_t>(), Error);
}

TEST_F(GpuTensors, TheContextsDeviceComputesForOperandsOfTheHost) {
  const Tensor a = randn(Shape{64, 32}, {.seed = 7}), b = randn(Shape{64, 32}, {.seed = 8});
  const Tensor wanted = add(a, b);
  AccelerationMetrics metrics;
  ExecutionContext context;
  context.device = kGpu;
  context.metrics = &metrics;
  context.check_numerics = NumericsCheck::kReport;
  const ContextScope scope(context);
  const Tensor found = add(a, b);
  EXPECT_EQ(found.device(), kGpu);
  EXPECT_EQ(metrics.backend_used, "cuda");
  EXPECT_EQ(to_vector<float>(back(found)), to_vector<float>(wanted));
  EXPECT_THROW((void)div(a, zeros({1})), Error);  // infinities are looked for on a GPU too
}

TEST_F(GpuTensors, TakeTheirTurnInTheCallersStream) {
  constexpr int64_t kMany = 1 << 28;
  const Tensor large = empty({kMany}, DType::kU8, kGpu);
  Tensor x = to_device(ones({1000}), kGpu);
  const cuda::Stream stream = cuda::table().create_stream();
  ExecutionContext context;
  context.stream = stream;
  // The zeros are written milliseconds from now; who does not wait adds to ones.
  for (int i = 0; i < 50; ++i) cuda::table().clear(const_cast<std::byte*>(large.bytes()), kMany, stream);
  cuda::table().clear(x.bytes(), static_cast<size_t>(x.nbytes()), stream);
  std::vector<float> found(1000, 0);
  {
    const ContextScope scope(context);
    const Tensor sum = add(x, 2);
    cuda::table().to_host(found.data(), sum.bytes(), sizeof(float) * found.size(), stream);
    cuda::table().synchronize(stream);
  }
  cuda::table().destroy_stream(stream);
  EXPECT_EQ(found, std::vector<float>(1000, 2));
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
