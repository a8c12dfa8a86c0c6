#include "inference/cuda_upload.h"

#include "bitnet/core/error.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace bitnet::cuda {

DeviceBuffer Uploader::allocate(size_t bytes) {
  constexpr size_t kChunkBytes = size_t{32} << 20, kAlignment = 256;
  if (bytes >= kChunkBytes / 2) return DeviceBuffer(bytes);
  auto chunk = std::find_if(chunks_.begin(), chunks_.end(),
                            [&](const Chunk& each) { return kChunkBytes - each.used >= bytes; });
  if (chunk == chunks_.end())
    chunk = chunks_.insert(chunk, {std::make_shared<const DeviceBuffer>(kChunkBytes), 0});
  const size_t offset = chunk->used;
  chunk->used += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return {chunk->memory, offset, bytes};
}

DeviceBuffer Uploader::copy(int64_t units, size_t unit_bytes, const Fill& fill) {
  const auto piece = static_cast<int64_t>(kStagingBytes / unit_bytes);
  if (piece == 0) {
    throw Error(ErrorCode::kUnsupported, fmt::format("a row of {} bytes exceeds the upload's buffer of {}",
                                                     unit_bytes, kStagingBytes));
  }
  DeviceBuffer device = allocate(static_cast<size_t>(units) * unit_bytes);
  for (int64_t first = 0; first < units; first += piece) {
    Staging& staging = staging_[turn_++ % staging_.size()];
    table().synchronize(staging.stream.get());
    const int64_t count = std::min(piece, units - first);
    fill(first, count, staging.buffer.as<std::byte>());
    table().to_device(device.as<std::byte>() + static_cast<size_t>(first) * unit_bytes,
                      staging.buffer.as<std::byte>(), static_cast<size_t>(count) * unit_bytes,
                      staging.stream.get());
    done_ += count * static_cast<int64_t>(unit_bytes);
    if (progress_) progress_(std::min(done_, total_), total_);  // norms and scales are not in the total
  }
  return device;
}

DeviceBuffer Uploader::vector(std::span<const float> values) {
  if (values.empty()) return {};
  const int64_t padded = (std::ssize(values) + kPad - 1) / kPad * kPad;
  return copy(padded, sizeof(float), [&](int64_t first, int64_t count, std::byte* staging) {
    auto* out = reinterpret_cast<float*>(staging);
    for (int64_t i = 0; i < count; ++i) {
      const auto index = static_cast<size_t>(first + i);
      out[i] = index < values.size() ? values[index] : 0.0f;
    }
  });
}

DeviceBuffer Uploader::rows(const DenseMatrix& matrix, int64_t row_bytes) {
  return copy(matrix.rows, static_cast<size_t>(row_bytes),
              [&](int64_t first, int64_t count, std::byte* staging) {
                pool_.for_range(count, 1, [&](int64_t begin, int64_t end) {
                  for (int64_t i = begin; i < end; ++i) {
                    const std::span<const std::byte> row = matrix.row(first + i);
                    std::byte* out = staging + i * row_bytes;
                    std::memcpy(out, row.data(), row.size());
                    std::memset(out + row.size(), 0, static_cast<size_t>(row_bytes) - row.size());
                  }
                });
              });
}

DeviceBuffer Uploader::tiles(const std::vector<TernaryRows>& parts, bool paired, TernaryWeights& weights,
                             DeviceBuffer& row_scales) {
  const TernaryTiles tiles(parts, paired ? TernaryTiles::Order::kPaired : TernaryTiles::Order::kStacked);
  const auto words = static_cast<size_t>(tiles.group_words());
  DeviceBuffer device =
      copy(tiles.groups(), words * sizeof(uint32_t), [&](int64_t first, int64_t count, std::byte* staging) {
        pool_.for_range(count, 1, [&](int64_t begin, int64_t end) {
          auto* out = reinterpret_cast<uint32_t*>(staging) + static_cast<size_t>(begin) * words;
          tiles.pack(first + begin, first + end, std::span(out, static_cast<size_t>(end - begin) * words));
        });
      });
  row_scales = vector(tiles.row_scales());
  weights = {.tiles = device.data(),
             .row_scale = row_scales.as<float>(),
             .groups = tiles.groups(),
             .k_tiles = tiles.k_tiles(),
             .outputs = tiles.outputs()};
  return device;
}

void Uploader::finish() {
  for (Staging& staging : staging_) table().synchronize(staging.stream.get());
}

}  // namespace bitnet::cuda
