#include "model/ternary_source.h"

#include "bitnet/core/error.h"
#include "bitnet/core/mapped_file.h"
#include "bitnet/quant/block_formats.h"
#include "bitnet/quant/ternary_formats.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace bitnet {
namespace {

void check_request(const LinearBytes& tensor, int64_t first, int64_t count, size_t values) {
  const bool inside = first >= 0 && count >= 0 && first <= tensor.rows && count <= tensor.rows - first;
  if (!inside || static_cast<int64_t>(values) != count * tensor.cols) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} rows from {} on, into {} values, of a matrix [{}, {}]", count, first, values,
                            tensor.rows, tensor.cols));
  }
}

void check_request(const LinearBytes& tensor, int64_t first, int64_t count, size_t trits, size_t scales) {
  check_request(tensor, first, count, trits);
  if (static_cast<int64_t>(scales) != count) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{} rows into {} scales", count, scales));
  }
}

class SourceBase : public TernarySource {
 public:
  explicit SourceBase(LinearBytes tensor) : tensor_(std::move(tensor)) {}
  [[nodiscard]] DType stored_dtype() const override { return tensor_.dtype; }
  [[nodiscard]] int64_t rows() const override { return tensor_.rows; }
  [[nodiscard]] int64_t cols() const override { return tensor_.cols; }
  void drop_resident() const override { MappedFile::drop_resident(tensor_.bytes); }

 protected:
  /// Calls body(stored row, index of the row in the request).
  template <class Body>
  void for_rows(int64_t first, int64_t count, Body&& body) const {
    for (int64_t i = 0; i < count; ++i) body(tensor_.order.stored(first + i), static_cast<size_t>(i));
  }

  /// Runs `body`; errors get the tensor's name.
  template <class Body>
  void labelled(Body&& body) const {
    try {
      body();
    } catch (Error& error) {
      error.with_context(tensor_.label);
      throw;
    }
  }

  LinearBytes tensor_;
};

class PackedSource final : public SourceBase {
 public:
  using SourceBase::SourceBase;
  [[nodiscard]] Kind kind() const override { return Kind::kPacked; }

  void read_rows(int64_t first, int64_t count, std::span<int8_t> trits,
                 std::span<float> scales) const override {
    check_request(tensor_, first, count, trits.size(), scales.size());
    const TernaryBytes matrix = {tensor_.dtype, tensor_.rows, tensor_.cols, tensor_.bytes};
    const auto cols = static_cast<size_t>(tensor_.cols);
    labelled([&] {
      for_rows(first, count, [&](int64_t stored, size_t i) {
        scales[i] = decode_ternary_row(matrix, stored, trits.subspan(i * cols, cols)) * tensor_.factor;
      });
    });
  }

  void read_float_rows(int64_t, int64_t, std::span<float>) const override {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("{}: read_float_rows of a tensor packed as {}", tensor_.label, to_string(tensor_.dtype)),
        "use read_rows()");
  }
};

/// The magnitude bits that every non-zero element shares, 0 if all are zero, or nothing if they differ.
template <class Bits>
std::optional<Bits> common_magnitude(std::span<const std::byte> bytes) {
  constexpr Bits kMask = std::numeric_limits<Bits>::max() >> 1;
  Bits magnitude = 0;
  for (size_t offset = 0; offset < bytes.size(); offset += sizeof(Bits)) {
    Bits bits;
    std::memcpy(&bits, bytes.data() + offset, sizeof(Bits));
    bits &= kMask;
    if (bits == 0 || bits == magnitude) continue;
    if (magnitude != 0) return std::nullopt;
    magnitude = bits;
  }
  return magnitude;
}

template <class Bits>
void decode_signs(const std::byte* row, std::span<int8_t> trits) {
  for (size_t i = 0; i < trits.size(); ++i) {
    Bits bits;
    std::memcpy(&bits, row + i * sizeof(Bits), sizeof(Bits));
    const bool negative = bits >> (8 * sizeof(Bits) - 1) != 0;
    const bool zero = static_cast<Bits>(bits << 1) == 0;
    trits[i] = static_cast<int8_t>(zero ? 0 : negative ? -1 : 1);
  }
}

/// Float weights: taken as they are if they are {-s, 0, +s}, else quantized. Which of the two needs a pass
/// over the whole tensor; it is made at the first use, once, by whichever thread comes first.
class FloatSource final : public SourceBase {
 public:
  using SourceBase::SourceBase;

  [[nodiscard]] Kind kind() const override {
    analyze();
    return exact_ ? Kind::kExactFloat : Kind::kMaster;
  }

  void read_rows(int64_t first, int64_t count, std::span<int8_t> trits,
                 std::span<float> scales) const override {
    check_request(tensor_, first, count, trits.size(), scales.size());
    analyze();
    for_rows(first, count,
             [&](int64_t stored, size_t i) { read_row(stored, trits.subspan(i * width(), width())); });
    std::fill(scales.begin(), scales.end(), scale_ * tensor_.factor);
  }

  void read_float_rows(int64_t first, int64_t count, std::span<float> values) const override {
    check_request(tensor_, first, count, values.size());
    for_rows(first, count, [&](int64_t stored, size_t i) {
      load(stored * tensor_.cols, values.subspan(i * width(), width()));
    });
    for (float& value : values) value *= tensor_.factor;
  }

 private:
  [[nodiscard]] size_t width() const { return static_cast<size_t>(tensor_.cols); }
  [[nodiscard]] size_t element_bytes() const {
    return static_cast<size_t>(dtype_info(tensor_.dtype).block_bytes);
  }

  void load(int64_t first_element, std::span<float> out) const {
    const size_t offset = static_cast<size_t>(first_element) * element_bytes();
    dequantize_row(tensor_.dtype, tensor_.bytes.subspan(offset, out.size() * element_bytes()), out);
  }

  void read_row(int64_t stored, std::span<int8_t> trits) const {
    if (exact_) return read_signs(stored, trits);
    std::array<float, 1024> values;
    for (size_t done = 0; done < trits.size();) {
      const std::span<float> part(values.data(), std::min(values.size(), trits.size() - done));
      load(stored * tensor_.cols + static_cast<int64_t>(done), part);
      ternarize(part, scale_, trits.subspan(done, part.size()));
      done += part.size();
    }
  }

  /// Exactly ternary weights need no arithmetic: the bits say zero, plus or minus.
  void read_signs(int64_t stored, std::span<int8_t> trits) const {
    const std::byte* row =
        tensor_.bytes.data() + static_cast<size_t>(stored) * trits.size() * element_bytes();
    switch (element_bytes()) {
      case 2:
        return decode_signs<uint16_t>(row, trits);
      case 4:
        return decode_signs<uint32_t>(row, trits);
      default:
        return decode_signs<uint64_t>(row, trits);
    }
  }

  void analyze() const {
    labelled([this] { std::call_once(once_, [this] { find_scale(); }); });
  }

  void find_scale() const {
    const auto count = static_cast<size_t>(tensor_.rows) * width();
    const auto bytes = tensor_.bytes.first(count * element_bytes());
    exact_ = is_exact(bytes);
    if (exact_) return;
    if (!tensor_.may_quantize) {
      throw Error(
          ErrorCode::kUnsupported,
          "the weights are not ternary, and the configuration does not say that the model is a BitNet",
          "if it was trained as one, add a quantization_config of quant_method bitnet to config.json");
    }
    std::vector<float> values(count);
    load(0, values);
    if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) {
      throw Error(ErrorCode::kCorruptData, "the weights hold a NaN or an infinity", "the file is damaged");
    }
    scale_ = absmean(values);
  }

  /// Sets scale_ where the answer is yes.
  bool is_exact(std::span<const std::byte> bytes) const {
    bool exact = false;
    switch (element_bytes()) {
      case 2:
        exact = common_magnitude<uint16_t>(bytes).has_value();
        break;
      case 4:
        exact = common_magnitude<uint32_t>(bytes).has_value();
        break;
      default:
        exact = common_magnitude<uint64_t>(bytes).has_value();
        break;
    }
    if (!exact) return false;
    scale_ = first_magnitude();
    if (std::isfinite(scale_)) return true;
    throw Error(ErrorCode::kCorruptData, fmt::format("the weights are {}", scale_), "the file is damaged");
  }

  /// |w| of the first weight that is not zero. If there is none, any scale will do: the reference's smallest.
  float first_magnitude() const {
    std::array<float, 256> values;
    const int64_t count = tensor_.rows * tensor_.cols;
    for (int64_t first = 0; first < count; first += std::ssize(values)) {
      const std::span<float> part(values.data(),
                                  static_cast<size_t>(std::min(std::ssize(values), count - first)));
      load(first, part);
      for (const float value : part) {
        if (value != 0) return std::fabs(value);
      }
    }
    return 1e-5f;
  }

  mutable std::once_flag once_;
  mutable bool exact_ = false;
  mutable float scale_ = 0.0f;
};

}  // namespace

RowOrder RowOrder::interleaved(int64_t head_dim) {
  RowOrder order;
  order.head_dim_ = head_dim;
  return order;
}

int64_t RowOrder::stored(int64_t row) const {
  if (identity()) return row;
  const int64_t in_head = row % head_dim_, half = head_dim_ / 2;
  return row - in_head + 2 * (in_head % half) + in_head / half;
}

int64_t RowOrder::engine(int64_t stored_row) const {
  if (identity()) return stored_row;
  const int64_t in_head = stored_row % head_dim_, half = head_dim_ / 2;
  return stored_row - in_head + in_head / 2 + in_head % 2 * half;
}

std::unique_ptr<TernarySource> make_ternary_source(LinearBytes tensor) {
  if (is_ternary(tensor.dtype)) return std::make_unique<PackedSource>(std::move(tensor));
  switch (tensor.dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kF64:
      return std::make_unique<FloatSource>(std::move(tensor));
    default:
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("a linear layer must be ternary or float, found {}", to_string(tensor.dtype)),
                  "quantized types have lost the ternary values; convert from the original model");
  }
}

}  // namespace bitnet
