#include "bitnet/ops/devices.h"

#include "bitnet/core/error.h"
#include "bitnet/tensor/create.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

template <class Call>
ErrorCode code_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

TEST(Devices, TheProcessorComesFirstAndEmptySlotsSayWhy) {
  const std::vector<DeviceInfo> infos = device_infos();
  ASSERT_GE(infos.size(), 4U);
  EXPECT_EQ(infos[0].device, kCpuDevice);
  EXPECT_TRUE(infos[0].available);
  EXPECT_GT(infos[0].total_bytes, infos[0].free_bytes);
  EXPECT_FALSE(infos[0].features.empty());
  for (const DeviceInfo& info : infos) {
    EXPECT_NE(info.available, !info.reason.empty()) << info.name;
    if (info.available) continue;
    EXPECT_EQ(code_of([&] { (void)device_info(info.device); }), ErrorCode::kDevice);
  }
  const auto is_mlx = [](const DeviceInfo& info) { return info.device.type == DeviceType::kMlx; };
  EXPECT_EQ(std::ranges::count_if(infos, is_mlx), 1);
  EXPECT_EQ(code_of([] { (void)device_info({DeviceType::kCuda, 63}); }), ErrorCode::kDevice);
}

TEST(Devices, WhatNoGpuHoldsGoesToTheProcessorWithAReason) {
  const SelectedDevice selected = select_device(int64_t{1} << 60);
  EXPECT_EQ(selected.device, kCpuDevice);
  EXPECT_FALSE(selected.reason.empty());
}

TEST(Devices, StayingIsNoCopyAndAnAbsentDeviceIsAnError) {
  const Tensor x = ones({3});
  EXPECT_TRUE(to_device(x, kCpuDevice).shares_storage(x));
  EXPECT_EQ(code_of([&] { (void)to_device(x, {DeviceType::kCuda, 63}); }), ErrorCode::kDevice);
  EXPECT_EQ(code_of([&] { (void)to_device(x, {DeviceType::kMetal, 0}); }), ErrorCode::kDevice);
  EXPECT_EQ(code_of([&] { (void)to_device(Tensor(), kCpuDevice); }), ErrorCode::kInvalidTensor);
}

TEST(Devices, TheProcessorsSpeedIsMeasuredOnce) {
  const DeviceSpeed& speed = device_speed(kCpuDevice);
  EXPECT_GT(speed.memory_bytes_per_second, 1e8);
  EXPECT_GT(speed.matmul_operations_per_second, 1e8);
  EXPECT_EQ(&device_speed(kCpuDevice), &speed);
}

}  // namespace
}  // namespace bitnet
