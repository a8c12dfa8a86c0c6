#include "bitnet/core/error.h"
#include "bitnet/core/mapped_file.h"
#include "bitnet/io/gguf.h"
#include "io/byte_reader.h"
#include "io/ggml_types.h"

#include <algorithm>
#include <bit>
#include <concepts>
#include <limits>
#include <numeric>
#include <type_traits>

#include <fmt/format.h>

namespace bitnet {

struct GgufFile::Impl {
  MappedFile file;
  std::span<const std::byte> bytes;
  uint32_t version = 0;
  std::vector<std::pair<std::string, GgufValue>> metadata;
  std::vector<GgufTensor> tensors;
  // Indices sorted by name. Not hash tables: a hostile file could choose names that collide.
  std::vector<size_t> metadata_by_name, tensors_by_name;
};

namespace {

constexpr uint64_t kLeastKeyValueBytes = 8 + 4 + 1;
constexpr uint64_t kLeastTensorInfoBytes = 8 + 4 + 4 + 8;
constexpr std::string_view kDamaged = "the file is damaged; download it again";

[[noreturn]] void throw_corrupt(std::string message) {
  throw Error(ErrorCode::kCorruptData, std::move(message), std::string(kDamaged));
}

uint32_t read_version(ByteReader& reader) {
  if (reader.read<uint32_t>("the magic number") != kGgufMagic) {
    throw Error(ErrorCode::kCorruptData, "the file does not begin with the letters GGUF",
                "it is no GGUF file, or the download is an error page or a Git LFS pointer");
  }
  const auto version = reader.read<uint32_t>("the version");
  if (version == 2 || version == 3) return version;
  if ((version & 0xffffu) == 0 && version != 0) {
    throw Error(ErrorCode::kUnsupported, "the file is a big-endian GGUF file", "use the little-endian one");
  }
  throw Error(ErrorCode::kUnsupported, fmt::format("GGUF version {}; versions 2 and 3 are read", version),
              "convert the model again with a current tool");
}

bool read_bool(ByteReader& reader, std::string_view what) {
  const auto byte = reader.read<uint8_t>(what);
  if (byte > 1) throw_corrupt(fmt::format("{} is a bool of value {}; 0 and 1 are allowed", what, byte));
  return byte == 1;
}

/// Calls visit(read) with a function that reads one value of the scalar type and widens it as GgufValue holds
/// it.
template <class Visit>
auto visit_scalar(GgufType type, Visit&& visit) {
  using Reader = ByteReader&;
  using Name = std::string_view;
  switch (type) {
    case GgufType::kU8:
      return visit([](Reader r, Name n) -> uint64_t { return r.read<uint8_t>(n); });
    case GgufType::kU16:
      return visit([](Reader r, Name n) -> uint64_t { return r.read<uint16_t>(n); });
    case GgufType::kU32:
      return visit([](Reader r, Name n) -> uint64_t { return r.read<uint32_t>(n); });
    case GgufType::kU64:
      return visit([](Reader r, Name n) -> uint64_t { return r.read<uint64_t>(n); });
    case GgufType::kI8:
      return visit([](Reader r, Name n) -> int64_t { return r.read<int8_t>(n); });
    case GgufType::kI16:
      return visit([](Reader r, Name n) -> int64_t { return r.read<int16_t>(n); });
    case GgufType::kI32:
      return visit([](Reader r, Name n) -> int64_t { return r.read<int32_t>(n); });
    case GgufType::kI64:
      return visit([](Reader r, Name n) -> int64_t { return r.read<int64_t>(n); });
    case GgufType::kF32:
      return visit([](Reader r, Name n) -> double { return r.read<float>(n); });
    case GgufType::kF64:
      return visit([](Reader r, Name n) -> double { return r.read<double>(n); });
    case GgufType::kBool:
      return visit([](Reader r, Name n) -> bool { return read_bool(r, n); });
    case GgufType::kString:
      return visit([](Reader r, Name n) -> std::string { return r.read_string(n); });
    default:
      throw Error(ErrorCode::kInternal, "visit_scalar of a type that is none");
  }
}

GgufType read_type(ByteReader& reader, std::string_view what) {
  const auto number = reader.read<uint32_t>(what);
  if (number > static_cast<uint32_t>(GgufType::kF64)) {
    throw_corrupt(fmt::format("{} has the value type {}; types 0 to 12 exist", what, number));
  }
  return static_cast<GgufType>(number);
}

GgufArray read_array(ByteReader& reader, GgufType type, std::string_view what) {
  const uint64_t count = reader.read_count(static_cast<uint64_t>(gguf_value_bytes(type)), what);
  return visit_scalar(type, [&](auto read) -> GgufArray {
    std::vector<std::invoke_result_t<decltype(read), ByteReader&, std::string_view>> values;
    values.reserve(static_cast<size_t>(count));
    for (uint64_t i = 0; i < count; ++i) values.push_back(read(reader, what));
    return values;
  });
}

GgufValue read_value(ByteReader& reader, const std::string& key) {
  GgufValue value;
  const std::string what = fmt::format("the value of {:?}", key);
  value.type = read_type(reader, what);
  if (value.type != GgufType::kArray) {
    value.value =
        visit_scalar(value.type, [&](auto read) -> decltype(value.value) { return read(reader, what); });
    return value;
  }
  value.element_type = read_type(reader, what);
  if (value.element_type == GgufType::kArray) {
    throw Error(ErrorCode::kUnsupported, fmt::format("{} is an array of arrays, which no model uses", what));
  }
  value.value = read_array(reader, value.element_type, what);
  return value;
}

Shape read_shape(ByteReader& reader) {
  const auto count = reader.read<uint32_t>("the number of dimensions");
  if (count > kGgufMaxDims)
    throw_corrupt(fmt::format("{} dimensions; at most {} are allowed", count, kGgufMaxDims));
  Shape shape(count);
  for (size_t d = count; d-- > 0;) {  // innermost first in the file
    const auto dim = reader.read<uint64_t>("a dimension");
    if (dim > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      throw_corrupt(fmt::format("dimension {} overflows 63 bits", dim));
    }
    shape[d] = static_cast<int64_t>(dim);
  }
  return shape;
}

struct TensorPlace {
  uint64_t offset = 0;
  uint64_t size = 0;
};

GgufTensor read_tensor_info(ByteReader& reader, uint64_t index, TensorPlace& place) {
  GgufTensor tensor;
  tensor.name = reader.read_string(fmt::format("the name of tensor {}", index));
  try {
    tensor.shape = read_shape(reader);
    const auto type = reader.read<uint32_t>("the type");
    const std::optional<DType> dtype = dtype_from_ggml(type);
    if (!dtype) throw_unsupported_ggml_type(type);
    tensor.dtype = *dtype;
    place.offset = reader.read<uint64_t>("the offset");
    place.size = static_cast<uint64_t>(storage_bytes(tensor.dtype, tensor.shape));
  } catch (Error& error) {
    error.with_context(fmt::format("tensor {:?}", tensor.name));
    throw;
  }
  return tensor;
}

/// Indices of `named` in order of name. Throws if two have the same.
template <class T, class NameOf>
std::vector<size_t> sorted_by_name(const std::vector<T>& named, std::string_view what, NameOf name_of) {
  std::vector<size_t> order(named.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return name_of(named[a]) < name_of(named[b]); });
  for (size_t i = 1; i < order.size(); ++i) {
    if (name_of(named[order[i]]) == name_of(named[order[i - 1]])) {
      throw_corrupt(fmt::format("the {} {:?} is there twice", what, name_of(named[order[i]])));
    }
  }
  return order;
}

std::string_view key_of(const std::pair<std::string, GgufValue>& entry) {
  return entry.first;
}

std::string_view tensor_name_of(const GgufTensor& tensor) {
  return tensor.name;
}

/// The index of `name`, or nothing.
template <class T, class NameOf>
std::optional<size_t> find_by_name(const std::vector<T>& named, const std::vector<size_t>& order,
                                   std::string_view name, NameOf name_of) {
  const auto at = std::lower_bound(order.begin(), order.end(), name, [&](size_t i, std::string_view wanted) {
    return name_of(named[i]) < wanted;
  });
  if (at == order.end() || name_of(named[*at]) != name) return std::nullopt;
  return *at;
}

uint64_t alignment_of(const GgufValue* value) {
  if (value == nullptr) return kGgufDefaultAlignment;
  const auto* alignment = std::get_if<uint64_t>(&value->value);
  if (alignment == nullptr || !std::has_single_bit(*alignment)) {
    throw_corrupt("general.alignment must be an unsigned power of two");
  }
  return *alignment;
}

/// Checks where the tensors lie and gives each its bytes.
void place_tensors(std::vector<GgufTensor>& tensors, const std::vector<TensorPlace>& places,
                   std::span<const std::byte> data, uint64_t alignment) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto [offset, size] = places[i];
    if (offset % alignment != 0) {
      throw_corrupt(fmt::format("tensor {:?} lies at offset {}, which is no multiple of the alignment {}",
                                tensors[i].name, offset, alignment));
    }
    if (offset > data.size() || size > data.size() - offset) {
      throw_corrupt(fmt::format("tensor {:?} ends at byte {} + {} of the data, which has {} bytes",
                                tensors[i].name, offset, size, data.size()));
    }
    tensors[i].bytes = data.subspan(static_cast<size_t>(offset), static_cast<size_t>(size));
  }
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::pair(places[a].offset, places[a].size) < std::pair(places[b].offset, places[b].size);
  });
  for (size_t i = 1; i < order.size(); ++i) {
    const TensorPlace& before = places[order[i - 1]];
    if (before.offset + before.size > places[order[i]].offset) {
      throw_corrupt(
          fmt::format("tensors {:?} and {:?} overlap", tensors[order[i - 1]].name, tensors[order[i]].name));
    }
  }
}

}  // namespace

GgufFile::GgufFile() : impl_(std::make_unique<Impl>()) {}
GgufFile::GgufFile(GgufFile&&) noexcept = default;
GgufFile& GgufFile::operator=(GgufFile&&) noexcept = default;
GgufFile::~GgufFile() = default;

GgufFile GgufFile::parse(std::span<const std::byte> bytes) {
  GgufFile file;
  Impl& impl = *file.impl_;
  impl.bytes = bytes;
  ByteReader reader(bytes);
  impl.version = read_version(reader);
  const auto tensor_count = reader.read<uint64_t>("the tensor count");
  const uint64_t metadata_count = reader.read_count(kLeastKeyValueBytes, "the metadata");
  reader.check_count(tensor_count, kLeastTensorInfoBytes, "the list of tensors");
  impl.metadata.reserve(static_cast<size_t>(metadata_count));
  for (uint64_t i = 0; i < metadata_count; ++i) {
    std::string key = reader.read_string(fmt::format("metadata key {}", i));
    GgufValue value = read_value(reader, key);
    impl.metadata.emplace_back(std::move(key), std::move(value));
  }
  impl.metadata_by_name = sorted_by_name(impl.metadata, "metadata key", key_of);
  reader.check_count(tensor_count, kLeastTensorInfoBytes, "the list of tensors");
  impl.tensors.reserve(static_cast<size_t>(tensor_count));
  std::vector<TensorPlace> places(static_cast<size_t>(tensor_count));
  for (uint64_t i = 0; i < tensor_count; ++i) {
    impl.tensors.push_back(read_tensor_info(reader, i, places[static_cast<size_t>(i)]));
  }
  impl.tensors_by_name = sorted_by_name(impl.tensors, "tensor", tensor_name_of);
  const uint64_t alignment = alignment_of(file.find("general.alignment"));
  // A file without tensors may end before the padding.
  const uint64_t padding = (alignment - reader.position() % alignment) % alignment;
  const std::span<const std::byte> data = bytes.subspan(
      padding < reader.remaining() ? reader.position() + static_cast<size_t>(padding) : bytes.size());
  place_tensors(impl.tensors, places, data, alignment);
  return file;
}

GgufFile GgufFile::open(const std::filesystem::path& path) {
  MappedFile mapped = MappedFile::open(path);
  try {
    GgufFile file = parse(mapped.bytes());
    file.impl_->file = std::move(mapped);
    return file;
  } catch (Error& error) {
    error.with_context(path.string());
    throw;
  }
}

uint32_t GgufFile::version() const {
  return impl_->version;
}

std::span<const std::byte> GgufFile::file_bytes() const {
  return impl_->bytes;
}

const std::vector<std::pair<std::string, GgufValue>>& GgufFile::metadata() const {
  return impl_->metadata;
}

const std::vector<GgufTensor>& GgufFile::tensors() const {
  return impl_->tensors;
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto index = find_by_name(impl_->metadata, impl_->metadata_by_name, key, key_of);
  return index ? &impl_->metadata[*index].second : nullptr;
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto index = find_by_name(impl_->tensors, impl_->tensors_by_name, name, tensor_name_of);
  return index ? &impl_->tensors[*index] : nullptr;
}

}  // namespace bitnet
