#include "bitnet/core/atomic_file.h"
#include "bitnet/core/error.h"
#include "bitnet/io/gguf.h"
#include "io/ggml_types.h"
#include "io/tensor_stream.h"

#include <algorithm>
#include <limits>
#include <set>
#include <type_traits>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr uint32_t kVersion = 3;

template <class T>
void append(std::string& out, T value) {
  static_assert(std::is_arithmetic_v<T>);
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

void append_string(std::string& out, std::string_view text) {
  append(out, static_cast<uint64_t>(text.size()));
  out += text;
}

[[noreturn]] void throw_value(std::string message) {
  throw Error(ErrorCode::kInvalidArgument, std::move(message));
}

template <class Stored, class Held>
void append_integer(std::string& out, Held value) {
  if (!std::in_range<Stored>(value))
    throw_value(fmt::format("{} does not fit the integer type it is stored as", value));
  append(out, static_cast<Stored>(value));
}

/// A scalar as its GGUF type says; what `value` holds must agree with the type.
template <class Held>
void append_scalar(std::string& out, GgufType type, const Held& value) {
  if constexpr (std::is_same_v<Held, std::string>) {
    if (type == GgufType::kString) return append_string(out, value);
  } else if constexpr (std::is_same_v<Held, bool>) {
    if (type == GgufType::kBool) return append(out, static_cast<uint8_t>(value));
  } else if constexpr (std::is_same_v<Held, double>) {
    if (type == GgufType::kF32) return append(out, static_cast<float>(value));
    if (type == GgufType::kF64) return append(out, value);
  } else if constexpr (std::is_same_v<Held, uint64_t>) {
    if (type == GgufType::kU8) return append_integer<uint8_t>(out, value);
    if (type == GgufType::kU16) return append_integer<uint16_t>(out, value);
    if (type == GgufType::kU32) return append_integer<uint32_t>(out, value);
    if (type == GgufType::kU64) return append(out, value);
  } else {
    static_assert(std::is_same_v<Held, int64_t>);
    if (type == GgufType::kI8) return append_integer<int8_t>(out, value);
    if (type == GgufType::kI16) return append_integer<int16_t>(out, value);
    if (type == GgufType::kI32) return append_integer<int32_t>(out, value);
    if (type == GgufType::kI64) return append(out, value);
  }
  throw_value(
      fmt::format("the value held does not agree with its GGUF type {}", static_cast<uint32_t>(type)));
}

void append_array(std::string& out, GgufType element_type, const GgufArray& items) {
  append(out, static_cast<uint32_t>(element_type));
  std::visit(
      [&](const auto& values) {
        using Held = typename std::decay_t<decltype(values)>::value_type;
        append(out, static_cast<uint64_t>(values.size()));
        for (const Held& value : values) append_scalar<Held>(out, element_type, value);
      },
      items);
}

std::string encode_value(const GgufValue& value) {
  std::string out;
  append(out, static_cast<uint32_t>(value.type));
  std::visit(
      [&](const auto& held) {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, GgufArray>) {
          if (value.type != GgufType::kArray) throw_value("an array is held under a scalar GGUF type");
          append_array(out, value.element_type, held);
        } else {
          append_scalar<Held>(out, value.type, held);
        }
      },
      value.value);
  return out;
}

}  // namespace

struct GgufWriter::Impl {
  explicit Impl(const std::filesystem::path& path) : stream(path, kGgufDefaultAlignment) {}

  struct Tensor {
    uint32_t type;
    Shape shape;
  };

  TensorStream stream;
  std::set<std::string> keys;
  std::string metadata;  // encoded
  std::vector<Tensor> tensors;
};

GgufWriter::GgufWriter(const std::filesystem::path& path) : impl_(std::make_unique<Impl>(path)) {}
GgufWriter::~GgufWriter() = default;

void GgufWriter::add(std::string key, const GgufValue& value) {
  impl_->stream.require_open_header("GgufWriter::add");
  if (key == "general.alignment") {
    throw_value(fmt::format("general.alignment is the writer's own; it writes {}", kGgufDefaultAlignment));
  }
  std::string encoded;
  try {
    encoded = encode_value(value);
  } catch (Error& error) {
    error.with_context(fmt::format("metadata key {:?}", key));
    throw;
  }
  if (!impl_->keys.insert(key).second) throw_value(fmt::format("the metadata key {:?} is added twice", key));
  append_string(impl_->metadata, key);
  impl_->metadata += encoded;
}

void GgufWriter::add_tensor(std::string name, DType dtype, Shape shape) {
  const std::optional<uint32_t> type = ggml_from_dtype(dtype);
  if (!type) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("GGUF has no type for {} (tensor {:?})", to_string(dtype), name),
                "store it as i2_s, tq1_0 or tq2_0, or as a float type");
  }
  if (shape.size() > kGgufMaxDims) {
    throw Error(ErrorCode::kUnsupported, fmt::format("tensor {:?} has {} dimensions; GGUF holds up to {}",
                                                     name, shape.size(), kGgufMaxDims));
  }
  impl_->stream.add(std::move(name), storage_bytes(dtype, shape));
  impl_->tensors.push_back({*type, std::move(shape)});
}

void GgufWriter::begin() {
  std::string header;
  append(header, kGgufMagic);
  append(header, kVersion);
  append(header, static_cast<uint64_t>(impl_->tensors.size()));
  append(header, static_cast<uint64_t>(impl_->keys.size()));
  header += impl_->metadata;
  for (size_t i = 0; i < impl_->tensors.size(); ++i) {
    const auto& [type, shape] = impl_->tensors[i];
    append_string(header, impl_->stream.entry(i).name);
    append(header, static_cast<uint32_t>(shape.size()));
    for (size_t d = shape.size(); d-- > 0;) append(header, static_cast<uint64_t>(shape[d]));
    append(header, type);
    append(header, static_cast<uint64_t>(impl_->stream.entry(i).offset));
  }
  impl_->stream.begin(header);
}

void GgufWriter::write(std::span<const std::byte> bytes) {
  impl_->stream.write(bytes);
}

void GgufWriter::finish() {
  impl_->stream.finish();
}

}  // namespace bitnet
