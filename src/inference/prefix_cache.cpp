#include "inference/prefix_cache.h"

#include "bitnet/core/atomic_file.h"
#include "bitnet/core/error.h"
#include "bitnet/core/mapped_file.h"
#include "core/little_endian.h"
#include "inference/content_hash.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string_view>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr std::string_view kMagic = "BITNETKV";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 32, kHashBytes = 8;

struct Header {
  std::array<std::byte, kHeaderBytes> bytes{};

  Header(DType dtype, uint64_t fingerprint, size_t tokens) {
    std::memcpy(bytes.data(), kMagic.data(), kMagic.size());
    store_le(bytes.data() + 8, kVersion);
    store_le(bytes.data() + 12, static_cast<uint32_t>(dtype));
    store_le(bytes.data() + 16, fingerprint);
    store_le(bytes.data() + 24, static_cast<uint64_t>(tokens));
  }
};

Error damaged(const std::filesystem::path& path, std::string_view what) {
  return Error(ErrorCode::kCorruptData,
               fmt::format("{} is not a usable prompt cache: {}", path.string(), what),
               "delete it; it is made anew");
}

/// The tokens' number, after the header has been checked against what the cache needs.
size_t check_header(const std::filesystem::path& path, std::span<const std::byte> file,
                    const Model::Impl& model, const KvCache& cache) {
  if (file.size() < kHeaderBytes + kHashBytes || std::memcmp(file.data(), kMagic.data(), kMagic.size()) != 0)
    throw damaged(path, "it does not begin with BITNETKV");
  if (const auto version = load_le<uint32_t>(file.data() + 8); version != kVersion)
    throw damaged(path, fmt::format("it has version {}, and this program reads {}", version, kVersion));
  if (load_le<uint64_t>(file.data() + 16) != model_fingerprint(model)) {
    throw Error(ErrorCode::kUnsupported, fmt::format("{} was made with another model", path.string()),
                "give each model a file of its own, or delete it");
  }
  if (load_le<uint32_t>(file.data() + 12) != static_cast<uint32_t>(cache.dtype())) {
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("{} holds a KV cache of another type than {}", path.string(), to_string(cache.dtype())),
        "use the --kv it was made with, or delete it");
  }
  const auto tokens = load_le<uint64_t>(file.data() + 24);
  if (tokens > static_cast<uint64_t>(cache.context())) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{} holds {} tokens, and the context {}", path.string(), tokens, cache.context()),
                "ask for a larger context, or delete it");
  }
  return static_cast<size_t>(tokens);
}

std::span<const std::byte> as_bytes_of(const std::vector<int32_t>& tokens) {
  return std::as_bytes(std::span(tokens));
}

}  // namespace

uint64_t model_fingerprint(const Model::Impl& model) {
  const ModelConfig& config = model.checkpoint.config();
  ContentHash hash;
  for (const int64_t value : {config.vocab_size, config.hidden_size, config.intermediate_size,
                              config.num_layers, config.num_heads, config.num_kv_heads, config.head_dim})
    hash.add_value(value);
  hash.add_value(std::bit_cast<uint64_t>(config.rope_theta));
  hash.add_value(std::bit_cast<uint32_t>(config.rms_norm_eps));
  hash.add(std::as_bytes(std::span(model.inv_freq)));
  hash.add(std::as_bytes(std::span(model.output_norm)));
  for (const int64_t row : {int64_t{0}, config.vocab_size / 2}) hash.add(model.embedding.row(row));
  for (const std::string& name : model.checkpoint.linear_names()) {
    const TernarySource& source = model.checkpoint.linear(name);
    std::vector<int8_t> trits(static_cast<size_t>(source.cols()));
    float scale = 0;
    source.read_rows(source.rows() / 2, 1, trits, {&scale, 1});
    hash.add(std::as_bytes(std::span(trits)));
    hash.add_value(std::bit_cast<uint32_t>(scale));
  }
  return hash.value();
}

void save_prefix(const std::filesystem::path& path, const Model::Impl& model, const KvCache& cache,
                 std::span<const int32_t> tokens) {
  AtomicFile file(path);
  ContentHash hash;
  const auto write = [&](std::span<const std::byte> bytes) {
    hash.add(bytes);
    file.write(bytes);
  };
  write(Header(cache.dtype(), model_fingerprint(model), tokens.size()).bytes);
  write(std::as_bytes(tokens));
  for (const std::span<const std::byte> part : cache.parts(std::ssize(tokens))) write(part);
  std::array<std::byte, kHashBytes> end{};
  store_le(end.data(), hash.value());
  file.write(end);
  file.commit();
}

std::vector<int32_t> load_prefix(const std::filesystem::path& path, const Model::Impl& model,
                                 KvCache& cache) {
  const MappedFile file = MappedFile::open(path);
  const std::span<const std::byte> bytes = file.bytes();
  const size_t count = check_header(path, bytes, model, cache);
  std::vector<int32_t> tokens(count);
  const std::vector<std::span<std::byte>> parts = cache.parts(static_cast<int64_t>(count));
  size_t expected = kHeaderBytes + as_bytes_of(tokens).size() + kHashBytes;
  for (const std::span<std::byte> part : parts) expected += part.size();
  if (bytes.size() != expected)
    throw damaged(path, fmt::format("it has {} bytes instead of {}", bytes.size(), expected));

  ContentHash hash;
  size_t offset = 0;
  const auto next = [&](size_t size) {
    const auto piece = bytes.subspan(offset, size);
    offset += size;
    hash.add(piece);
    return piece;
  };
  (void)next(kHeaderBytes);
  const auto token_bytes = next(as_bytes_of(tokens).size());
  for (const std::span<std::byte> part : parts) (void)next(part.size());
  if (load_le<uint64_t>(bytes.data() + offset) != hash.value())
    throw damaged(path, "its content has changed");
  std::memcpy(tokens.data(), token_bytes.data(), token_bytes.size());
  const int64_t vocab = model.checkpoint.config().vocab_size;
  if (std::any_of(tokens.begin(), tokens.end(), [vocab](int32_t id) { return id < 0 || id >= vocab; }))
    throw damaged(path, "a token lies outside the vocabulary");
  offset = kHeaderBytes + token_bytes.size();
  for (const std::span<std::byte> part : parts) {
    std::memcpy(part.data(), bytes.data() + offset, part.size());
    offset += part.size();
  }
  return tokens;
}

}  // namespace bitnet
