#pragma once

// Unrolls the loop that follows, before arrays it indexes would be kept in memory instead of registers.
#if defined(__clang__)
#define BITNET_UNROLL _Pragma("clang loop unroll(full)")
#else
#define BITNET_UNROLL _Pragma("GCC unroll 32")
#endif
