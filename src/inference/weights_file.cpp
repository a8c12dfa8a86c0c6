#include "inference/weights_file.h"

#include "bitnet/core/atomic_file.h"
#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
#include "bitnet/kernels/cpu.h"
#include "core/little_endian.h"
#include "inference/content_hash.h"
#include "inference/prefix_cache.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr std::string_view kWeightsMagic = "BITNETWT";
constexpr uint32_t kWeightsVersion = 1;
constexpr size_t kWeightsHeader = 64, kHashed = kWeightsHeader - sizeof(uint64_t);
constexpr size_t kPiece = size_t{1} << 20;  // that has a hash

Error unusable(const std::filesystem::path& path, std::string_view what) {
  return Error(ErrorCode::kCorruptData,
               fmt::format("{} is not a usable weights cache: {}", path.string(), what),
               "delete it; it is made anew");
}

size_t pieces_of(size_t bytes) {
  return (bytes + kPiece - 1) / kPiece;
}

uint64_t hash_of(std::span<const std::byte> bytes) {
  ContentHash hash;
  hash.add(bytes);
  return hash.value();
}

/// Of names, sizes and times of a model's files: it changes where one of them is written anew.
uint64_t stamp_of(const std::filesystem::path& model) {
  std::vector<std::filesystem::path> files{model};
  if (std::filesystem::is_directory(model)) {
    files.clear();
    for (const auto& entry : std::filesystem::directory_iterator(model)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    std::ranges::sort(files);
  }
  ContentHash hash;
  for (const std::filesystem::path& file : files) {
    const std::string name = file.filename().string();
    hash.add(std::as_bytes(std::span(name)));
    hash.add_value(static_cast<uint64_t>(std::filesystem::file_size(file)));
    hash.add_value(static_cast<int64_t>(std::filesystem::last_write_time(file).time_since_epoch().count()));
  }
  return hash.value();
}

/// The fields of a header but for magic, version and its own hash.
struct Fields {
  bool head_copy = false;
  TernaryLayout whole = TernaryLayout::kBlocks;
  bool sparse = false;
  uint64_t fingerprint = 0, stamp = 0, kernels = 0, bytes = 0;

  Fields(const Model::Impl& model, TernaryLayout layout, bool skips, bool copies)
      : head_copy(copies),
        whole(layout),
        sparse(skips),
        fingerprint(model_fingerprint(model)),
        stamp(stamp_of(model.checkpoint.path())) {
    const std::string_view name = chosen_isa(model.options.isa);
    kernels = hash_of(std::as_bytes(std::span(name)));
  }
  [[nodiscard]] std::array<std::byte, kWeightsHeader> header() const {
    std::array<std::byte, kWeightsHeader> out{};
    std::memcpy(out.data(), kWeightsMagic.data(), kWeightsMagic.size());
    store_le(out.data() + 8, kWeightsVersion);
    store_le(out.data() + 12, static_cast<uint32_t>(head_copy));
    store_le(out.data() + 16, static_cast<uint32_t>(whole));
    store_le(out.data() + 20, static_cast<uint32_t>(sparse));
    store_le(out.data() + 24, fingerprint);
    store_le(out.data() + 32, stamp);
    store_le(out.data() + 40, kernels);
    store_le(out.data() + 48, bytes);
    store_le(out.data() + kHashed, hash_of(std::span(out).first(kHashed)));
    return out;
  }
};

/// Checks what must hold for every cache, and that it is this model's.
void check_file(const std::filesystem::path& path, std::span<const std::byte> file, uint64_t fingerprint) {
  if (file.size() < kWeightsHeader ||
      std::memcmp(file.data(), kWeightsMagic.data(), kWeightsMagic.size()) != 0)
    throw unusable(path, "it does not begin with BITNETWT");
  if (const auto version = load_le<uint32_t>(file.data() + 8); version != kWeightsVersion)
    throw unusable(path,
                   fmt::format("it has version {}, and this program reads {}", version, kWeightsVersion));
  if (load_le<uint64_t>(file.data() + kHashed) != hash_of(file.first(kHashed)))
    throw unusable(path, "its header has changed");
  if (const auto bytes = load_le<uint64_t>(file.data() + 48); bytes != file.size())
    throw unusable(path, fmt::format("it has {} bytes instead of {}", file.size(), bytes));
  if (load_le<uint64_t>(file.data() + 24) != fingerprint) {
    throw Error(ErrorCode::kUnsupported, fmt::format("{} keeps the weights of another model", path.string()),
                "give each model a file of its own, or delete it");
  }
}

}  // namespace

WeightsFile::WeightsFile(MappedFile file, TernaryLayout whole_layout)
    : file_(std::move(file)), whole_layout_(whole_layout), offset_(kWeightsHeader) {}

std::optional<WeightsFile> WeightsFile::open(const Model::Impl& model, bool sparse, bool head_copy) {
  const std::filesystem::path& path = model.options.weights_cache;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return std::nullopt;
  MappedFile file = MappedFile::open(path);
  const std::span<const std::byte> bytes = file.bytes();
  Fields wanted(model, model.options.layout.value_or(TernaryLayout::kBlocks), sparse, head_copy);
  check_file(path, bytes, wanted.fingerprint);
  wanted.bytes = bytes.size();
  const auto has_layout = load_le<uint32_t>(bytes.data() + 16);
  const bool tight = has_layout == static_cast<uint32_t>(TernaryLayout::kTight);
  if (model.options.layout.has_value()) {
    wanted.kernels = load_le<uint64_t>(bytes.data() + 40);  // which the choice was for: there is none
  } else {
    wanted.whole = tight ? TernaryLayout::kTight : TernaryLayout::kBlocks;
  }
  if (std::ranges::equal(wanted.header(), bytes.first(kWeightsHeader)))
    return WeightsFile(std::move(file), wanted.whole);
  log_message(LogLevel::kInfo,
              fmt::format("{}: the model's files, the layouts or the kernels are others than "
                          "it was made for; it is made anew",
                          path.string()));
  return std::nullopt;
}

void WeightsFile::read(std::span<std::byte> part, ThreadPool& pool) {
  const size_t pieces = pieces_of(part.size());
  const std::span<const std::byte> rest = file_.bytes().subspan(offset_);
  if (rest.size() < part.size() + pieces * sizeof(uint64_t))
    throw unusable(file_.path(), "it ends before the last weights");
  const std::byte* const hashes = rest.data() + part.size();
  pool.for_range(static_cast<int64_t>(pieces), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      const size_t size = std::min(kPiece, part.size() - i * kPiece);
      const std::span<const std::byte> piece = rest.subspan(i * kPiece, size);
      std::memcpy(part.data() + i * kPiece, piece.data(), size);
      if (hash_of(part.subspan(i * kPiece, size)) != load_le<uint64_t>(hashes + i * sizeof(uint64_t)))
        throw unusable(file_.path(), "its content has changed");
      MappedFile::drop_resident(piece);
    }
  });
  offset_ += part.size() + pieces * sizeof(uint64_t);
}

void write_weights_file(const Model::Impl& model, const HostWeights& weights) {
  Fields fields(model, weights.layouts.whole, weights.layouts.sparse, weights.rounded_head.has_value());
  AtomicFile file(model.options.weights_cache);
  file.write(fields.header());
  const auto write = [&](std::span<const std::byte> part) {
    file.write(part);
    for (size_t first = 0; first < part.size(); first += kPiece) {
      std::array<std::byte, sizeof(uint64_t)> hash{};
      store_le(hash.data(), hash_of(part.subspan(first, std::min(kPiece, part.size() - first))));
      file.write(hash);
    }
  };
  for (const Layer& layer : weights.layers) {
    for (const Linear* linear :
         {&layer.q, &layer.k, &layer.v, &layer.attn_output, &layer.gate, &layer.up, &layer.down}) {
      for (const std::span<const std::byte> part : linear->weight.parts()) write(part);
    }
  }
  if (weights.rounded_head) {
    for (const std::span<const std::byte> part : weights.rounded_head->parts()) write(part);
  }
  fields.bytes = static_cast<uint64_t>(file.size());
  file.write_at(0, fields.header());
  file.commit();
  log_message(LogLevel::kInfo, fmt::format("{} keeps the weights as laid out, {} bytes",
                                           model.options.weights_cache.string(), fields.bytes));
}

}  // namespace bitnet
