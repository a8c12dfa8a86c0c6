#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define BITNET_POOL_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BITNET_POOL_POISONS 1
#endif
#endif
#ifdef BITNET_POOL_POISONS
#include <sanitizer/asan_interface.h>
#endif

namespace bitnet::memory {

// Under AddressSanitizer free blocks are poisoned, so that their use is reported, and every call of the pool
// takes the slow path, which knows of it.
#ifdef BITNET_POOL_POISONS
inline constexpr bool kPoisons = true;
inline void poison(void* block, size_t bytes) {
  __asan_poison_memory_region(block, bytes);
}
inline void unpoison(void* block, size_t bytes) {
  __asan_unpoison_memory_region(block, bytes);
}
#else
inline constexpr bool kPoisons = false;
inline void poison(void* /*block*/, size_t /*bytes*/) {}
inline void unpoison(void* /*block*/, size_t /*bytes*/) {}
#endif

}  // namespace bitnet::memory
