#pragma once

#include "bitnet/kernels/cuda.h"
#include "inference/cuda_memory.h"
#include "kernels/kernel_table.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include <gtest/gtest.h>

namespace bitnet::cuda {

/// Runs on GPU 0, or skips with the reason.
class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    const CudaDevices found = cuda_devices();
    if (found.devices.empty()) GTEST_SKIP() << found.reason;
    table().use_device(0);
  }
};

using Random = std::mt19937;

inline std::vector<float> random_floats(Random& random, int64_t count, float low = -1, float high = 1) {
  std::uniform_real_distribution<float> uniform(low, high);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = uniform(random);
  return values;
}

template <class T>
DeviceBuffer to_device(std::span<const T> values) {
  DeviceBuffer buffer(values.size_bytes());
  const OwnedStream stream;
  table().to_device(buffer.data(), values.data(), values.size_bytes(), stream.get());
  table().synchronize(stream.get());
  return buffer;
}
template <class T>
DeviceBuffer to_device(const std::vector<T>& values) {
  return to_device(std::span(values));
}

template <class T>
std::vector<T> to_host(const DeviceBuffer& buffer) {
  std::vector<T> values(buffer.bytes() / sizeof(T));
  const OwnedStream stream;
  table().to_host(values.data(), buffer.data(), buffer.bytes(), stream.get());
  table().synchronize(stream.get());
  return values;
}

template <class T>
DeviceBuffer filled(int64_t count, T value = {}) {
  return to_device(std::vector<T>(static_cast<size_t>(count), value));
}

/// Queues work and waits for it.
template <class Body>
void run(Body&& body) {
  const OwnedStream stream;
  body(stream.get());
  table().synchronize(stream.get());
}

constexpr int64_t padded(int64_t elements) {
  return (elements + kPad - 1) / kPad * kPad;
}

/// Rows of `cols` elements at a stride of padded(cols), zeros behind each.
inline std::vector<float> padded_rows(std::span<const float> values, int64_t rows, int64_t cols) {
  std::vector<float> out(static_cast<size_t>(rows * padded(cols)));
  for (int64_t r = 0; r < rows; ++r)
    std::copy_n(values.begin() + r * cols, cols, out.begin() + r * padded(cols));
  return out;
}

inline const kernels::KernelTable& scalar() {
  return kernels::select_kernels("scalar");
}

}  // namespace bitnet::cuda
