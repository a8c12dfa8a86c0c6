#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet {

/// What this processor can do, as far as the kernels care.
struct CpuFeatures {
  std::string vendor, model;
  bool avx2 = false;  ///< with FMA and F16C, and the operating system saving the registers
  bool avx_vnni = false;
  bool avx512 = false;  ///< F, BW, VL, DQ
  bool avx512_vnni = false, avx512_vbmi = false;
  bool amx_int8 = false;  ///< with the permission to use the tiles, which detection asks the kernel for
  bool neon = false, neon_dotprod = false, neon_i8mm = false;
};

[[nodiscard]] const CpuFeatures& cpu_features();
/// Names of the kernel tables that this build has and this machine can run, best first; "scalar" is always
/// last.
[[nodiscard]] std::vector<std::string_view> available_isas();

/// The name of the kernel table that a session takes: `forced`, or if that is empty the environment variable
/// BITNET_ISA, or if that is empty the best here. Throws kUnsupported if it cannot run here.
[[nodiscard]] std::string_view chosen_isa(std::string_view forced = {});

struct MeasuredIsa {
  std::string_view name;
  double seconds;  ///< of two small ternary products
};
/// What an unforced choice rests on where features do not decide, measured once in a process; otherwise
/// empty.
[[nodiscard]] std::vector<MeasuredIsa> measured_isas();

/// How a matrix that is multiplied as a whole lies in memory: in two bits a weight, or in 1.67, which cost a
/// lookup more (quant/packed_ternary.h).
struct MeasuredLayouts {
  double t2x16, t53x16;  ///< seconds of one token's products with 256 million weights in memory
  bool t53x16_pays;
};
/// What an unforced choice of layout rests on: both measured with so many threads (0: all available), once in
/// a process for each number. Nothing where the kernels (chosen_isa()) take one layout only.
[[nodiscard]] std::optional<MeasuredLayouts> measured_layouts(std::string_view forced_isa = {},
                                                              int threads = 0);

}  // namespace bitnet
