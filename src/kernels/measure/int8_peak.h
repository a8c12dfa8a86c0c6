#pragma once

#include <cstdint>
#include <string_view>

namespace bitnet::kernels {

/// The fastest int8 dot product of an instruction set, on registers: the ceiling of a matrix product.
struct Int8Peak {
  std::string_view instruction;
  int64_t macs_per_round;
  int64_t most_rounds;  ///< a call beyond this could overflow a 32-bit lane
  /// Multiplies ones by ones, `rounds` times macs_per_round of them, and returns the sum: their number.
  int64_t (*run)(int64_t rounds);
};

/// The peak for a kernel table's name; the plain one for names without an instruction of their own (scalar).
/// The caller has made sure that this machine runs the table.
[[nodiscard]] const Int8Peak& int8_peak(std::string_view isa);

/// Plain C++: what the scalar table has.
extern const Int8Peak kPlainPeak;
/// The peak of this architecture's table `isa`, or null. One definition per architecture.
[[nodiscard]] const Int8Peak* architecture_peak(std::string_view isa);

}  // namespace bitnet::kernels
