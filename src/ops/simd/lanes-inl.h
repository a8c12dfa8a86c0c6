// Loading, storing and mapping of elements, 16-bit floats included, for the instruction set at hand: included
// once per target, hence no ordinary include guard.
#if defined(BITNET_OPS_SIMD_LANES_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef BITNET_OPS_SIMD_LANES_INL
#undef BITNET_OPS_SIMD_LANES_INL
#else
#define BITNET_OPS_SIMD_LANES_INL
#endif

#include "bitnet/tensor/dtype_of.h"
#include "ops/kernels.h"

#include <cstring>
#include <type_traits>

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace bitnet::ops::simd::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
inline constexpr bool kIsHalf = std::is_same_v<T, F16> || std::is_same_v<T, BF16>;
/// Whether the processor converts f16; Highway's substitute does not round to nearest, so there scalar
/// computes.
inline constexpr bool kConvertsF16 =
    HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON;

template <class T>
using Wide = std::conditional_t<kIsHalf<T>, float, T>;
template <class T>
using Tag = hn::ScalableTag<Wide<T>>;

template <class D, class T>
HWY_INLINE hn::Vec<D> load(D d, const T* from) {
  if constexpr (std::is_same_v<T, BF16>) {
    const hn::Rebind<uint16_t, D> half;
    const hn::Rebind<uint32_t, D> word;
    return hn::BitCast(
        d, hn::ShiftLeft<16>(hn::PromoteTo(word, hn::LoadU(half, reinterpret_cast<const uint16_t*>(from)))));
  } else if constexpr (std::is_same_v<T, F16>) {
    const hn::Rebind<hwy::float16_t, D> half;
    return hn::PromoteTo(d, hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(from)));
  } else {
    return hn::LoadU(d, from);
  }
}

template <class T, class D>
HWY_INLINE void store(hn::Vec<D> v, D d, T* to) {
  if constexpr (std::is_same_v<T, BF16>) {
    const hn::Rebind<uint16_t, D> half;
    const hn::Rebind<int32_t, D> word;
    const hn::Rebind<uint32_t, D> unsigned_word;
    const auto bits = hn::BitCast(unsigned_word, v);
    // To nearest even: half of the last place, less one where the last bit is 0.
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(unsigned_word, 1U));
    const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, odd), hn::Set(unsigned_word, 0x7fffU)));
    const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(unsigned_word, 0x40U));
    const auto is_nan = hn::RebindMask(unsigned_word, hn::IsNaN(v));
    const auto result = hn::BitCast(word, hn::IfThenElse(is_nan, quiet, rounded));
    hn::StoreU(hn::DemoteTo(half, result), half, reinterpret_cast<uint16_t*>(to));
  } else if constexpr (std::is_same_v<T, F16>) {
    const hn::Rebind<hwy::float16_t, D> half;
    hn::StoreU(hn::DemoteTo(half, v), half, reinterpret_cast<hwy::float16_t*>(to));
  } else {
    hn::StoreU(v, d, to);
  }
}

/// Where an operand is read next. Passed by value, so that it stays in registers: stores of vectors may alias
/// anything that has an address.
template <class T>
struct Cursor {
  const T* at;
  int64_t step;
  HWY_INLINE hn::Vec<Tag<T>> next() {
    const auto v = load(Tag<T>(), at);
    at += step;
    return v;
  }
};

/// An operand of stride 0 or 1, read a vector at a time: of stride 0 from a vector full of it.
template <class T>
class Reader {
 public:
  Reader(const std::byte* data, int64_t stride)
      : first_(reinterpret_cast<const T*>(data)),
        step_(stride == 0 ? 0 : static_cast<int64_t>(hn::Lanes(Tag<T>()))) {
    if (stride != 0) return;
    for (T& element : buffer_) element = *first_;
    first_ = buffer_;
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  [[nodiscard]] HWY_INLINE Cursor<T> cursor() const { return {first_, step_}; }
  /// The n < Lanes elements from element `begin` on, and any beyond them.
  HWY_INLINE hn::Vec<Tag<T>> rest(int64_t begin, int64_t n) {
    if (step_ != 0) std::memcpy(buffer_, first_ + begin, static_cast<size_t>(n) * sizeof(T));
    return load(Tag<T>(), buffer_);
  }

 private:
  const T* first_;
  int64_t step_;
  T buffer_[HWY_MAX_BYTES / sizeof(Wide<T>)] = {};
};

/// The whole vectors of map; returns how many elements they are.
template <class T, class F, class... Cursors>
HWY_INLINE int64_t map_vectors(int64_t n, T* y, F&& f, Cursors... cursors) {
  const Tag<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) store<T>(f(cursors.next()...), d, y + i);
  return i;
}

/// y[i] = f(element i of each reader). Writes exactly n elements.
template <class T, class F, class... Readers>
HWY_INLINE void map(int64_t n, std::byte* result, F&& f, Readers&... readers) {
  auto* y = reinterpret_cast<T*>(result);
  const int64_t i = map_vectors<T>(n, y, f, readers.cursor()...);
  if (i >= n) return;
  T buffer[HWY_MAX_BYTES / sizeof(Wide<T>)];
  store<T>(f(readers.rest(i, n - i)...), Tag<T>(), buffer);
  std::memcpy(y + i, buffer, static_cast<size_t>(n - i) * sizeof(T));
}

/// make.template operator()<op>() for the one of `ops` that is wanted; null if none is.
template <class Kernel, Op... ops, class Make>
Kernel find(Op wanted, Make&& make) {
  Kernel kernel = nullptr;
  (void)((wanted == ops && (kernel = make.template operator()<ops>(), true)) || ...);
  return kernel;
}

}  // namespace bitnet::ops::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
