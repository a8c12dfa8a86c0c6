#include "bitnet/core/error.h"
#include "bitnet/core/mapped_file.h"
#include "bitnet/io/safetensors.h"
#include "io/byte_reader.h"
#include "io/json_guard.h"
#include "io/safetensors_types.h"

#include <algorithm>
#include <limits>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace bitnet {

struct SafetensorsFile::Impl {
  std::vector<MappedFile> files;
  std::vector<SafetensorsEntry> tensors;  // sorted by name
  std::map<std::string, std::string> metadata;

  void add(MappedFile file);
  /// All shards that the folder's index names, and a check that each has what the index promises.
  void add_shards(const std::filesystem::path& folder);
};

namespace {

using Json = nlohmann::json;

constexpr std::string_view kSingleName = "model.safetensors";
constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr int kHeaderDepth = 3;  // header, tensor, shape
constexpr int kIndexDepth = 4;   // index, weight_map or metadata, and room for nested metadata

[[noreturn]] void throw_damaged(std::string message) {
  throw Error(ErrorCode::kCorruptData, std::move(message), "the file is damaged; download it again");
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

const Json& member(const Json& object, const char* key) {
  const auto at = object.find(key);
  if (at == object.end()) throw_damaged(fmt::format("{:?} is missing", key));
  return *at;
}

/// A JSON array of integers in [0, 2^63).
std::vector<int64_t> integers(const Json& array, const char* key) {
  if (!array.is_array()) throw_damaged(fmt::format("{:?} is not an array", key));
  std::vector<int64_t> values;
  values.reserve(array.size());
  for (const Json& item : array) {
    constexpr auto kMax = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    if (!item.is_number_unsigned() || item.get<uint64_t>() > kMax) {
      throw_damaged(fmt::format("{:?} has an entry that is no integer from 0 to 2^63 - 1", key));
    }
    values.push_back(item.get<int64_t>());
  }
  return values;
}

DType entry_dtype(const Json& description) {
  const Json& name = member(description, "dtype");
  if (!name.is_string()) throw_damaged("\"dtype\" is not a string");
  const auto& text = name.get_ref<const std::string&>();
  const std::optional<DType> dtype = dtype_from_safetensors(text);
  if (!dtype) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("dtype {:?} is not supported; supported are {}", text, safetensors_dtype_list()),
                "use a bf16, f16, f32 or packed uint8 version of the model");
  }
  return *dtype;
}

SafetensorsEntry read_entry(const std::string& name, const Json& description,
                            std::span<const std::byte> data) {
  if (!description.is_object()) throw_damaged("the description is not an object");
  SafetensorsEntry entry;
  entry.name = name;
  entry.dtype = entry_dtype(description);
  entry.shape = integers(member(description, "shape"), "shape");
  const std::vector<int64_t> offsets = integers(member(description, "data_offsets"), "data_offsets");
  if (offsets.size() != 2 || offsets[0] > offsets[1]) throw_damaged("\"data_offsets\" is not [begin, end]");
  if (offsets[1] > std::ssize(data)) {
    throw_damaged(fmt::format("the data ends at byte {}, but the file has {}", offsets[1], data.size()));
  }
  const int64_t size = offsets[1] - offsets[0];
  const int64_t wanted = storage_bytes(entry.dtype, entry.shape);
  if (size != wanted) {
    throw_damaged(fmt::format("shape {} of {} takes {} bytes, but the offsets span {}",
                              to_string(entry.shape), to_string(entry.dtype), wanted, size));
  }
  entry.bytes = data.subspan(static_cast<size_t>(offsets[0]), static_cast<size_t>(size));
  return entry;
}

void read_metadata(const Json& object, std::map<std::string, std::string>& metadata) {
  if (!object.is_object()) throw_damaged("\"__metadata__\" is not an object");
  for (const auto& [key, value] : object.items()) {
    if (!value.is_string()) throw_damaged(fmt::format("metadata {:?} is not a string", key));
    metadata.emplace(key, value.get<std::string>());  // of several shards, the first one counts
  }
}

/// The format lets no byte of the data be shared or unused.
void check_cover(std::vector<SafetensorsEntry> tensors, std::span<const std::byte> data) {
  const auto place = [](const SafetensorsEntry& entry) {
    return std::pair(entry.bytes.data(), entry.bytes.size());
  };
  std::sort(tensors.begin(), tensors.end(),
            [&](const auto& a, const auto& b) { return place(a) < place(b); });
  const std::byte* end = data.data();
  for (const SafetensorsEntry& entry : tensors) {
    if (entry.bytes.data() != end) {
      throw_damaged(
          fmt::format("tensor {:?} begins at byte {} of the data, where {} was expected: an overlap or a gap",
                      entry.name, entry.bytes.data() - data.data(), end - data.data()));
    }
    end += entry.bytes.size();
  }
  if (end != data.data() + data.size()) {
    throw_damaged(fmt::format("{} bytes after the last tensor", data.data() + data.size() - end));
  }
}

/// Appends the tensors of one file.
void parse_file(std::span<const std::byte> bytes, std::vector<SafetensorsEntry>& tensors,
                std::map<std::string, std::string>& metadata) {
  ByteReader reader(bytes);
  const auto length = reader.read<uint64_t>("the header length");
  if (length > kSafetensorsMaxHeaderBytes || length > reader.remaining()) {
    throw Error(ErrorCode::kCorruptData,
                fmt::format("the header claims {} bytes; the file has {} more, and {} are the limit", length,
                            reader.remaining(), kSafetensorsMaxHeaderBytes),
                "it is no safetensors file, or cut off, or a Git LFS pointer");
  }
  const auto header_size = static_cast<size_t>(length);
  const Json header = parse_json_guarded(as_text(bytes.subspan(8, header_size)), kHeaderDepth, "the header");
  if (!header.is_object()) throw_damaged("the header is not a JSON object");
  const std::span<const std::byte> data = bytes.subspan(8 + header_size);
  std::vector<SafetensorsEntry> found;
  found.reserve(header.size());
  for (const auto& [name, description] : header.items()) {
    if (name == kSafetensorsMetadataKey) {
      read_metadata(description, metadata);
      continue;
    }
    try {
      found.push_back(read_entry(name, description, data));
    } catch (Error& error) {
      error.with_context(fmt::format("tensor {:?}", name));
      throw;
    }
  }
  check_cover(found, data);
  tensors.insert(tensors.end(), std::make_move_iterator(found.begin()), std::make_move_iterator(found.end()));
}

/// Sorts, and throws if two shards hold the same tensor.
void sort_by_name(std::vector<SafetensorsEntry>& tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  const auto same = std::adjacent_find(tensors.begin(), tensors.end(),
                                       [](const auto& a, const auto& b) { return a.name == b.name; });
  if (same != tensors.end()) throw_damaged(fmt::format("tensor {:?} is in two shards", same->name));
}

const SafetensorsEntry* find_by_name(const std::vector<SafetensorsEntry>& sorted, std::string_view name) {
  const auto at =
      std::lower_bound(sorted.begin(), sorted.end(), name,
                       [](const auto& entry, std::string_view wanted) { return entry.name < wanted; });
  return at != sorted.end() && at->name == name ? &*at : nullptr;
}

/// A shard lies beside its index: a plain file name, so that an index cannot reach other folders or itself.
void check_shard_name(const std::string& name) {
  const bool plain = name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
  if (!plain || !name.ends_with(".safetensors")) {
    throw Error(
        ErrorCode::kCorruptData,
        fmt::format(
            "the index names the shard {:?}; only names of .safetensors files in its own folder are allowed",
            name));
  }
}

/// Tensor -> shard, as the index says.
std::map<std::string, std::string> read_index(const std::filesystem::path& path) {
  const MappedFile file = MappedFile::open(path);
  if (file.bytes().size() > kSafetensorsMaxHeaderBytes) throw_damaged("the index is longer than 100 MB");
  const Json index = parse_json_guarded(as_text(file.bytes()), kIndexDepth, "the index");
  if (!index.is_object()) throw_damaged("the index is not a JSON object");
  const Json& weight_map = member(index, "weight_map");
  if (!weight_map.is_object() || weight_map.empty())
    throw_damaged("\"weight_map\" is not an object with entries");
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, shard] : weight_map.items()) {
    if (!shard.is_string()) throw_damaged(fmt::format("the shard of tensor {:?} is not a string", tensor));
    check_shard_name(shard.get_ref<const std::string&>());
    shards.emplace(tensor, shard.get<std::string>());
  }
  return shards;
}

template <class Work>
auto with_path(const std::filesystem::path& path, Work&& work) {
  try {
    return work();
  } catch (Error& error) {
    error.with_context(path.string());
    throw;
  }
}

MappedFile open_shard(const std::filesystem::path& path) {
  try {
    return MappedFile::open(path);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kNotFound) throw;
    throw Error(
        ErrorCode::kNotFound,
        fmt::format("the shard {} is missing from {}", path.filename().string(), path.parent_path().string()),
        "the index names it; download the model again, completely");
  }
}

}  // namespace

void SafetensorsFile::Impl::add(MappedFile file) {
  with_path(file.path(), [&] { parse_file(file.bytes(), tensors, metadata); });
  files.push_back(std::move(file));
}

void SafetensorsFile::Impl::add_shards(const std::filesystem::path& folder) {
  with_path(folder / kIndexName, [&] {
    const std::map<std::string, std::string> shard_of = read_index(folder / kIndexName);
    std::set<std::string> shards;
    for (const auto& [tensor, shard] : shard_of) shards.insert(shard);
    for (const std::string& shard : shards) add(open_shard(folder / shard));
    sort_by_name(tensors);
    for (const auto& [tensor, shard] : shard_of) {
      if (find_by_name(tensors, tensor) == nullptr) {
        throw_damaged(fmt::format("tensor {:?} should be in shard {}, but is not", tensor, shard));
      }
    }
  });
}

SafetensorsFile::SafetensorsFile() : impl_(std::make_unique<Impl>()) {}
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;
SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&&) noexcept = default;
SafetensorsFile::~SafetensorsFile() = default;

SafetensorsFile SafetensorsFile::parse(std::span<const std::byte> bytes) {
  SafetensorsFile result;
  parse_file(bytes, result.impl_->tensors, result.impl_->metadata);
  sort_by_name(result.impl_->tensors);
  return result;
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile result;
  Impl& impl = *result.impl_;
  std::error_code ignored;  // an unreadable path is reported by MappedFile::open
  if (!std::filesystem::is_directory(path, ignored)) {
    impl.add(MappedFile::open(path));
  } else if (std::filesystem::exists(path / kSingleName, ignored)) {
    impl.add(MappedFile::open(path / kSingleName));
  } else if (std::filesystem::exists(path / kIndexName, ignored)) {
    impl.add_shards(path);
    return result;
  } else {
    throw Error(ErrorCode::kNotFound,
                fmt::format("{} has neither {} nor {}", path.string(), kSingleName, kIndexName),
                "give the folder of a Hugging Face model in safetensors format");
  }
  sort_by_name(impl.tensors);
  return result;
}

const std::vector<SafetensorsEntry>& SafetensorsFile::tensors() const {
  return impl_->tensors;
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  return find_by_name(impl_->tensors, name);
}

const std::map<std::string, std::string>& SafetensorsFile::metadata() const {
  return impl_->metadata;
}

}  // namespace bitnet
