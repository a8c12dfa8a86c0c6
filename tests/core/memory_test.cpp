#include "bitnet/core/memory.h"

#include "bitnet/core/error.h"

#include <cstdint>
#include <limits>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

bool is_aligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % kAlignment == 0;
}

TEST(AlignedBuffer, IsAlignedZeroAndMovable) {
  for (const size_t bytes : {size_t{1}, size_t{100}, size_t{3} << 20}) {
    AlignedBuffer buffer(bytes);
    EXPECT_TRUE(is_aligned(buffer.data()));
    for (size_t i = 0; i < bytes; i += 37) EXPECT_EQ(buffer.data()[i], std::byte{0});
    const std::byte* data = buffer.data();
    const AlignedBuffer moved = std::move(buffer);
    EXPECT_EQ(moved.data(), data);
    EXPECT_EQ(moved.size(), bytes);
  }
  EXPECT_EQ(AlignedBuffer(0).data(), nullptr);
}

TEST(AlignedBuffer, AnImpossibleSizeIsOutOfMemory) {
  try {
    AlignedBuffer buffer(size_t{1} << 60);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
  }
}

TEST(Arena, PiecesAreAlignedAndDisjointAndEndWithTheBuffer) {
  Arena arena(256);
  const auto a = arena.allocate<float>(3);
  const auto b = arena.allocate<int8_t>(65);
  EXPECT_TRUE(is_aligned(a.data()) && is_aligned(b.data()));
  EXPECT_EQ(reinterpret_cast<const std::byte*>(b.data()) - reinterpret_cast<const std::byte*>(a.data()), 64);
  EXPECT_EQ(arena.used_bytes(), 64u + 128u);
  EXPECT_THROW((void)arena.allocate<double>(9), Error);
  EXPECT_THROW((void)arena.allocate<double>(std::numeric_limits<size_t>::max() / 4), Error);
  (void)arena.allocate<int8_t>(64);
  EXPECT_THROW((void)arena.allocate<int8_t>(1), Error);
  arena.reset();
  EXPECT_EQ(arena.allocate<float>(64).data(), a.data());
}

TEST(ProcessMemory, IsRealAndPeakIsNoLess) {
  const ProcessMemory memory = process_memory();
  EXPECT_GT(memory.resident_bytes, 0);
  EXPECT_GE(memory.peak_resident_bytes, memory.resident_bytes);
}

}  // namespace
}  // namespace bitnet
