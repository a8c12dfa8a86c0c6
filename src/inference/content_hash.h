#pragma once

#include "core/little_endian.h"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace bitnet {

/// Four chains of multiply and rotate over 32 bytes a step, so that memory and not latency is the bound. It
/// finds damage, not malice.
class ContentHash {
 public:
  void add(std::span<const std::byte> bytes) {
    size_t i = 0;
    for (; i + 32 <= bytes.size(); i += 32) {
      for (size_t lane = 0; lane < 4; ++lane) mix(lane, load_le<uint64_t>(bytes.data() + i + 8 * lane));
    }
    for (; i < bytes.size(); ++i) mix(0, std::to_integer<uint64_t>(bytes[i]));
    mix(1, bytes.size());
  }
  template <class T>
  void add_value(T value) {
    std::array<std::byte, sizeof(T)> bytes{};
    store_le(bytes.data(), value);
    add(bytes);
  }
  [[nodiscard]] uint64_t value() const {
    uint64_t all = 0;
    for (const uint64_t lane : lanes_) {
      all = (all ^ lane) * kPrime;
      all ^= all >> 29;
    }
    return all;
  }

 private:
  static constexpr uint64_t kPrime = 0x9e3779b97f4a7c15ull;
  void mix(size_t lane, uint64_t word) { lanes_[lane] = std::rotl((lanes_[lane] ^ word) * kPrime, 31); }

  std::array<uint64_t, 4> lanes_ = {1, 2, 3, 4};
};

}  // namespace bitnet
