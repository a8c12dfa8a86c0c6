#include "bitnet/core/error.h"
#include "bitnet/io/safetensors.h"
#include "core/little_endian.h"
#include "io/safetensors_types.h"
#include "io/tensor_stream.h"

#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace bitnet {
namespace {

/// The header is padded with spaces so that the data begin at a multiple of this, as the format asks for.
constexpr size_t kHeaderAlignment = 8;

std::string quoted(const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{:?} is no UTF-8 and cannot stand in a header", text));
  }
}

}  // namespace

struct SafetensorsWriter::Impl {
  explicit Impl(const std::filesystem::path& path) : stream(path, 1) {}

  void add_member(const std::string& name, std::string_view value) {
    members += fmt::format("{}{}:{}", members.empty() ? "" : ",", quoted(name), value);
  }

  TensorStream stream;
  size_t tensors = 0;
  std::string members;  // of the header object, as JSON
};

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     const std::map<std::string, std::string>& metadata)
    : impl_(std::make_unique<Impl>(path)) {
  if (metadata.empty()) return;
  std::string strings;
  for (const auto& [key, value] : metadata) {
    strings += fmt::format("{}{}:{}", strings.empty() ? "" : ",", quoted(key), quoted(value));
  }
  impl_->add_member(std::string(kSafetensorsMetadataKey), "{" + strings + "}");
}

SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::add_tensor(std::string name, DType dtype, Shape shape) {
  const std::optional<std::string_view> type = safetensors_from_dtype(dtype);
  if (!type) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("safetensors has no type for {} (tensor {:?}); it has {}", to_string(dtype), name,
                            safetensors_dtype_list()),
                "packed ternary weights are stored as u8 of shape [rows / 4, cols]");
  }
  if (name == kSafetensorsMetadataKey)
    throw Error(ErrorCode::kInvalidArgument, "a tensor cannot be named __metadata__");
  (void)quoted(name);  // throws before anything is changed
  impl_->stream.add(name, storage_bytes(dtype, shape));
  const TensorStream::Entry& entry = impl_->stream.entry(impl_->tensors++);
  impl_->add_member(name, fmt::format(R"({{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", *type,
                                      fmt::join(shape, ","), entry.offset, entry.offset + entry.size));
}

void SafetensorsWriter::begin() {
  std::string header(sizeof(uint64_t), '\0');
  header += "{" + impl_->members + "}";
  header.append((kHeaderAlignment - header.size() % kHeaderAlignment) % kHeaderAlignment, ' ');
  store_le(reinterpret_cast<std::byte*>(header.data()),
           static_cast<uint64_t>(header.size() - sizeof(uint64_t)));
  impl_->stream.begin(header);
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  impl_->stream.write(bytes);
}

void SafetensorsWriter::finish() {
  impl_->stream.finish();
}

}  // namespace bitnet
