#pragma once

// Products with at most 32 tokens at a time, which wait for the weights: one group at a time, so that they
// come as one stream. A chunk of codes is unpacked beside the products of the chunk before, which lies in the
// L1 cache: a tile that is loaded right behind its stores would wait for them.

#include "kernels/cpu/amx/tile_panel.h"
#include "kernels/cpu/panel_matmul.h"

#include <cstdint>

namespace bitnet::kernels::amx {
namespace {

template <class Tiles, bool kTight, int kTokenTiles>
class TileStream {
 public:
  explicit TileStream(const TernaryMatmulArgs& a)
      : a_(a), whole_cols_(kTight ? tight_units(a) * kTightUnitCols : a.padded_cols) {
    // The last columns with room for a whole tile; the codes behind them are zero.
    const int64_t tail = a.padded_cols % kTileCols;
    for (int64_t t = 0; t < a.tokens && tail != 0; ++t)
      __builtin_memcpy(tail_[t], a.q + t * a.q_stride + a.padded_cols - tail, static_cast<size_t>(tail));
  }

  void run() {
    Tiles::configure(kTokenTiles == 1 ? a_.tokens : kTileTokens,
                     kTokenTiles == 1 ? kTileTokens : a_.tokens - kTileTokens);
    Position next = {a_.first_group, 0};
    if (next.group < a_.last_group) unpack(next);
    for (int64_t group = a_.first_group; group < a_.last_group; ++group) {
      zero();
      for (int64_t first = 0; first < a_.padded_cols; first += kChunkCols) {
        next = first + kChunkCols < a_.padded_cols ? Position{group, first + kChunkCols}
                                                   : Position{group + 1, 0};
        multiply(first, next);
      }
      store(group);
    }
    Tiles::release();
  }

 private:
  // Whole tiles of whole units.
  static constexpr int64_t kChunkCols = kTight ? 2 * kTightUnitCols : 4 * kTileCols;
  static constexpr int64_t kChunkTiles = kChunkCols / kTileCols;
  static constexpr int64_t kFetchAhead = 8192;

  struct Position {
    int64_t group, first;
  };

  [[nodiscard]] const uint8_t* weights(Position at) const {
    if constexpr (kTight)
      return a_.weights + at.group * tight_group_bytes(a_) + at.first / kTightUnitCols * kTightUnitBytes;
    else
      return a_.weights + (at.group * a_.padded_cols + at.first) * 4;
  }
  [[nodiscard]] bool whole(Position at) const { return at.first + kChunkCols <= whole_cols_; }

  /// All codes of a chunk into the half that is free.
  void unpack(Position at) {
    const int64_t left = a_.padded_cols - at.first;
    unpack_slice<TilePanel<Tiles>, kTight>(a_, at.group, at.first, left < kChunkCols ? left : kChunkCols,
                                           codes_[free_]);
  }
  /// Of a whole chunk, what is to be unpacked beside the products of tile `part`.
  void unpack_part(const uint8_t* w, int64_t part) {
    constexpr int64_t kBytes = kTight ? kTightUnitBytes : kTileCols * 4;
    if (kTight && part * kTightUnitCols >= kChunkCols) return;
    w += part * kBytes;
    for (int64_t line = 0; line < kBytes; line += 64)
      __builtin_prefetch(w + kFetchAhead + line);  // a hint: never a fault
    if constexpr (kTight) {
      Tiles::unpack_unit(w, codes_[free_] + part * 16 * kTightUnitCols);
    } else {
      for (int64_t line = 0; line < kBytes; line += 64)
        Tiles::unpack(w + line, codes_[free_] + part * kTileBytes + 4 * line);
    }
  }

  /// The products of the chunk that was unpacked last, whose columns begin at `first`; then `next` is
  /// unpacked.
  void multiply(int64_t first, Position next) {
    const uint8_t* const codes = codes_[free_];
    free_ ^= 1;
    const bool more = next.group < a_.last_group, by_parts = more && whole(next);
    if (more && !by_parts) unpack(next);
    const uint8_t* const w = by_parts ? weights(next) : nullptr;
    int64_t part = 0;
    for (int64_t col = first; col < first + kChunkCols && col < a_.padded_cols; col += kTileCols, ++part) {
      if (by_parts) unpack_part(w, part);
      if (col + kTileCols <= a_.padded_cols)
        add_products(a_.q + col, a_.q_stride, codes + part * kTileBytes);
      else
        add_products(tail_[0], kTileCols, codes + part * kTileBytes);
    }
    for (; by_parts && part < kChunkTiles; ++part) unpack_part(w, part);
  }

  static void add_products(const int8_t* q, int64_t q_stride, const uint8_t* codes) {
    Tiles::template load<tokens_tile(0)>(q, q_stride);
    Tiles::template load<codes_tile(0)>(codes, kTileCols);
    Tiles::template multiply<sums_tile(0, 0), tokens_tile(0), codes_tile(0)>();
    if constexpr (kTokenTiles == 2) {
      Tiles::template load<tokens_tile(1)>(q + kTileTokens * q_stride, q_stride);
      Tiles::template multiply<sums_tile(1, 0), tokens_tile(1), codes_tile(0)>();
    }
  }

  static void zero() {
    Tiles::template zero<sums_tile(0, 0)>();
    if constexpr (kTokenTiles == 2) Tiles::template zero<sums_tile(1, 0)>();
  }
  void store(int64_t group) {
    Tiles::template store<sums_tile(0, 0)>(sums_[0], sizeof sums_[0]);
    if constexpr (kTokenTiles == 2)
      Tiles::template store<sums_tile(1, 0)>(sums_[kTileTokens], sizeof sums_[0]);
    for (int64_t t = 0; t < a_.tokens; ++t) Tiles::store_rows(a_, t, group, sums_[t]);
  }

  const TernaryMatmulArgs& a_;
  const int64_t whole_cols_;  ///< that chunks by parts may hold
  int free_ = 0;              ///< the half of codes_ that is unpacked next
  alignas(64) uint8_t codes_[2][16 * kChunkCols];
  alignas(64) int32_t sums_[kTokenTiles * kTileTokens][16];
  alignas(64) int8_t tail_[kTokenTiles * kTileTokens][kTileCols];
};

template <class Tiles, bool kTight>
void stream_matmul(const TernaryMatmulArgs& a) {
  if (a.tokens <= kTileTokens)
    TileStream<Tiles, kTight, 1>(a).run();
  else
    TileStream<Tiles, kTight, 2>(a).run();
}

// Up to here two streams are faster than panels, whose codes lie in the L2 cache (docs/BENCHMARKS.md).
constexpr int64_t kMostStreamed = 2 * kBlockTokens;

template <class Tiles, bool kTight>
void tile_matmul(const TernaryMatmulArgs& a) {
  if (a.tokens > kMostStreamed) return panel_matmul<TilePanel<Tiles>, kTight>(a);
  TernaryMatmulArgs part = a;
  for (int64_t left = a.tokens; left > 0; left -= part.tokens) {
    part.tokens = left < kBlockTokens ? left : kBlockTokens;
    stream_matmul<Tiles, kTight>(part);
    part.q += part.tokens * part.q_stride;
    part.scale += part.tokens;
    part.sum += part.tokens;
    part.y += part.tokens * part.y_stride;
  }
}

}  // namespace
}  // namespace bitnet::kernels::amx
