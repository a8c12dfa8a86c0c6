#include "bitnet/kernels/cpu.h"

#include <cstdint>
#include <cstring>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <fstream>

#include <sys/auxv.h>
#endif

namespace bitnet {
namespace {

#if defined(__x86_64__)

struct CpuidLeaf {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

CpuidLeaf cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  CpuidLeaf out;
  __get_cpuid_count(leaf, subleaf, &out.eax, &out.ebx, &out.ecx,
                    &out.edx);  // zeros if the leaf does not exist
  return out;
}

bool bit(uint32_t word, int index) {
  return ((word >> index) & 1u) != 0;
}

// XCR0: which registers the operating system saves. Valid only if CPUID says OSXSAVE.
uint64_t saved_registers() {
  uint32_t low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

// Linux grants the large tile registers only to processes that ask, once, for all threads
// (Documentation/arch/x86/xstate.rst; numbers from asm/prctl.h, which older headers lack).
bool may_use_tiles() {
  constexpr long kArchRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kArchRequestPermission, kTileData) == 0;
}

void append_text(std::string& text, uint32_t word) {
  char bytes[4];
  std::memcpy(bytes, &word, sizeof bytes);
  text.append(bytes, sizeof bytes);
}

void read_names(CpuFeatures& features) {
  const CpuidLeaf vendor = cpuid(0);
  for (const uint32_t word : {vendor.ebx, vendor.edx, vendor.ecx}) append_text(features.vendor, word);
  if (cpuid(0x80000000u).eax < 0x80000004u) return;
  for (uint32_t leaf = 0x80000002u; leaf <= 0x80000004u; ++leaf) {
    const CpuidLeaf part = cpuid(leaf);
    for (const uint32_t word : {part.eax, part.ebx, part.ecx, part.edx}) append_text(features.model, word);
  }
  features.model.resize(std::strlen(features.model.c_str()));
}

// Bits: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, CPUID; volume 1, chapter 13
// (XCR0).
CpuFeatures detect() {
  constexpr uint64_t kYmmState = 0x6, kZmmState = 0xe6, kTileState = 0x60000;
  CpuFeatures features;
  read_names(features);
  const CpuidLeaf basic = cpuid(1), extended = cpuid(7), more = cpuid(7, 1);
  const bool osxsave = bit(basic.ecx, 27);
  const uint64_t saved = osxsave ? saved_registers() : 0;
  const auto saves = [saved](uint64_t state) { return (saved & state) == state; };

  const bool fma = bit(basic.ecx, 12), avx = bit(basic.ecx, 28), f16c = bit(basic.ecx, 29);
  features.avx2 = saves(kYmmState) && fma && avx && f16c && bit(extended.ebx, 5);
  features.avx_vnni = features.avx2 && bit(more.eax, 4);
  const bool foundation = bit(extended.ebx, 16), dq = bit(extended.ebx, 17);
  const bool bw = bit(extended.ebx, 30), vl = bit(extended.ebx, 31);
  features.avx512 = features.avx2 && saves(kZmmState) && foundation && dq && bw && vl;
  features.avx512_vnni = features.avx512 && bit(extended.ecx, 11);
  features.avx512_vbmi = features.avx512 && bit(extended.ecx, 1);
  features.amx_int8 = saves(kTileState) && bit(extended.edx, 24) && bit(extended.edx, 25) && may_use_tiles();
  return features;
}

#elif defined(__aarch64__)

// The first value of /proc/cpuinfo under this key, or nothing.
std::string cpuinfo(const std::string& key) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with(key) && colon != std::string::npos) return line.substr(colon + 2);
  }
  return {};
}

// Bits: Linux, arch/arm64/include/uapi/asm/hwcap.h.
CpuFeatures detect() {
  constexpr unsigned long kAsimd = 1ul << 1, kAsimdDotProduct = 1ul << 20, kI8mm = 1ul << 13;
  const unsigned long hwcap = getauxval(AT_HWCAP), hwcap2 = getauxval(AT_HWCAP2);
  CpuFeatures features;
  features.vendor = cpuinfo("CPU implementer");
  features.model = cpuinfo("CPU part");
  features.neon = (hwcap & kAsimd) != 0;
  features.neon_dotprod = features.neon && (hwcap & kAsimdDotProduct) != 0;
  features.neon_i8mm = features.neon_dotprod && (hwcap2 & kI8mm) != 0;
  return features;
}

#else

CpuFeatures detect() {
  return {};
}

#endif

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

}  // namespace bitnet
