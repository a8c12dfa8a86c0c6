#pragma once

// Panels (cpu/panel_matmul.h) on a matrix unit of 8 tiles of 16 rows x 64 bytes. The activations are operands
// as they lie: 16 tokens x 64 columns. A block of codes, shifted and masked, is 4 of the 16 rows of the other
// operand: [column / 4][16 rows x 4 columns]. 32 tokens x 32 rows are summed in 2 x 2 tiles.
//
// Tiles is the instructions: tiles.h, or their emulation in tests/kernels/tile_panel_test.cpp.
//   configure(n0, n1)       tokens of the tiles with i = 0 and 1; clears all tiles
//   release()               ends the use of the unit
//   zero<C>(), load<T>(p, stride), store<C>(p, stride), multiply<C, A, B>()
//   unpack(block, codes)    4 x 64 bytes: the codes of columns 4s .. 4s + 3, s = 0..3
//   unpack_unit(unit, codes)   24 x 64 bytes of a t53x16 unit, likewise
//   store_rows              see panel_matmul.h

#include "kernels/cpu/panel_matmul.h"
#include "kernels/cpu/unroll.h"

#include <cstdint>

namespace bitnet::kernels::amx {
namespace {

constexpr int64_t kTileCols = 64, kTileTokens = 16, kTileBytes = 1024, kBlockTokens = 2 * kTileTokens;

// Numbers of the tiles: i counts tokens by 16, j groups.
constexpr int sums_tile(int i, int j) {
  return 2 * i + j;
}
constexpr int tokens_tile(int i) {
  return 4 + i;
}
constexpr int codes_tile(int j) {
  return 6 + j;
}

template <class Tiles>
struct TilePanel : Tiles {
  // Whole columns keep the sums in tiles, and each page of activations is entered once: what matters for many
  // tokens. For few, the codes that are written and soon read again shall not leave the L1 cache.
  static constexpr int64_t kPanelGroups = 2, kSliceCols = 4096, kUnitCols = kTileCols;
  static int64_t slice_cols(int64_t tokens) { return tokens < 128 ? 512 : kSliceCols; }
  // A batch: most of the L2 cache (2 MiB) of the processors with AMX.
  static constexpr int64_t kBatchTokens = 512, kBatchBytes = int64_t{3} << 19;

  // 32 tokens at a time, then what is left.
  static void multiply(PanelProduct p) {
    if (p.tokens >= kBlockTokens) Tiles::configure(kTileTokens, kTileTokens);
    for (; p.tokens >= kBlockTokens; p.tokens -= kBlockTokens) {
      multiply_groups<2>(p, kBlockTokens);
      p.q += kBlockTokens * p.q_stride;
      p.sums += kBlockTokens * p.sums_stride;
    }
    if (p.tokens > kTileTokens) {
      Tiles::configure(kTileTokens, p.tokens - kTileTokens);
      multiply_groups<2>(p, p.tokens);
    } else if (p.tokens > 0) {
      Tiles::configure(p.tokens, kTileTokens);
      multiply_groups<1>(p, p.tokens);
    }
  }

 private:
  template <int kTokenTiles>
  static void multiply_groups(PanelProduct p, int64_t tokens) {
    for (; p.groups >= 2; p.groups -= 2, p.codes += 2 * p.group_bytes, p.sums += 2 * 16)
      multiply_block<kTokenTiles, 2>(p, tokens);
    if (p.groups == 1) multiply_block<kTokenTiles, 1>(p, tokens);
  }

  template <int kTokenTiles, int kGroups>
  static void multiply_block(const PanelProduct& p, int64_t tokens) {
    start_sums<kTokenTiles, kGroups>(p);
    const int64_t whole = p.cols / kTileCols, tail = p.cols % kTileCols;
    add_products<kTokenTiles, kGroups>(p.q, p.q_stride, p.codes, p.group_bytes, whole);
    if (tail != 0) {
      // Room for 64 columns; the codes beyond the tail are zero.
      alignas(64) int8_t q[kBlockTokens][kTileCols] = {};
      for (int64_t t = 0; t < tokens; ++t)
        __builtin_memcpy(q[t], p.q + t * p.q_stride + whole * kTileCols, static_cast<size_t>(tail));
      add_products<kTokenTiles, kGroups>(q[0], kTileCols, p.codes + whole * kTileBytes, p.group_bytes, 1);
    }
    store_sums<kTokenTiles, kGroups>(p);
  }

  template <int kTokenTiles, int kGroups>
  static void add_products(const int8_t* q, int64_t q_stride, const uint8_t* codes, int64_t group_bytes,
                           int64_t tiles) {
    if (tiles == 0) return;
    Tiles::template load<tokens_tile(0)>(q, q_stride);
    Tiles::template load<codes_tile(0)>(codes, kTileCols);
    if constexpr (kGroups == 2) Tiles::template load<codes_tile(1)>(codes + group_bytes, kTileCols);
    if constexpr (kTokenTiles == 2)
      Tiles::template load<tokens_tile(1)>(q + kTileTokens * q_stride, q_stride);
    for (; tiles > 1; --tiles) {
      q += kTileCols;
      codes += kTileBytes;
      add_tile<kTokenTiles, kGroups, true>(q, q_stride, codes, group_bytes);
    }
    add_tile<kTokenTiles, kGroups, false>(q, q_stride, codes, group_bytes);
  }

  // The products of the loaded operands. Each tile takes its next operand as soon as nothing else waits for
  // the one that it holds, and the lines of the operand behind that are asked for. A processor that shares
  // its core has next to no tiles beside the named ones, so that what it can load ahead, and from where,
  // decides (docs/BENCHMARKS.md, "Processors of unequal speed").
  template <int kTokenTiles, int kGroups, bool kMore>
  static void add_tile(const int8_t* q, int64_t q_stride, const uint8_t* codes, int64_t group_bytes) {
    Tiles::template multiply<sums_tile(0, 0), tokens_tile(0), codes_tile(0)>();
    if constexpr (kGroups == 2) Tiles::template multiply<sums_tile(0, 1), tokens_tile(0), codes_tile(1)>();
    if constexpr (kMore) load_tokens<0>(q, q_stride);
    if constexpr (kTokenTiles == 2)
      Tiles::template multiply<sums_tile(1, 0), tokens_tile(1), codes_tile(0)>();
    if constexpr (kMore) Tiles::template load<codes_tile(0)>(codes, kTileCols);
    if constexpr (kTokenTiles == 2 && kGroups == 2)
      Tiles::template multiply<sums_tile(1, 1), tokens_tile(1), codes_tile(1)>();
    if constexpr (kMore && kGroups == 2) Tiles::template load<codes_tile(1)>(codes + group_bytes, kTileCols);
    if constexpr (kMore && kTokenTiles == 2) load_tokens<1>(q + kTileTokens * q_stride, q_stride);
  }
  template <int i>
  static void load_tokens(const int8_t* q, int64_t q_stride) {
    Tiles::template load<tokens_tile(i)>(q, q_stride);
    BITNET_UNROLL for (int t = 0; t < kTileTokens; ++t)
        __builtin_prefetch(q + kTileCols + t * q_stride);  // a hint: never a fault
  }

  template <int kTokenTiles, int kGroups>
  static void start_sums(const PanelProduct& p) {
    start_tile<0, 0>(p);
    if constexpr (kGroups == 2) start_tile<0, 1>(p);
    if constexpr (kTokenTiles == 2) start_tile<1, 0>(p);
    if constexpr (kTokenTiles == 2 && kGroups == 2) start_tile<1, 1>(p);
  }
  template <int i, int j>
  static void start_tile(const PanelProduct& p) {
    if (p.first)
      Tiles::template zero<sums_tile(i, j)>();
    else
      Tiles::template load<sums_tile(i, j)>(sums_of<i, j>(p), p.sums_stride * 4);
  }
  template <int kTokenTiles, int kGroups>
  static void store_sums(const PanelProduct& p) {
    store_tile<0, 0>(p);
    if constexpr (kGroups == 2) store_tile<0, 1>(p);
    if constexpr (kTokenTiles == 2) store_tile<1, 0>(p);
    if constexpr (kTokenTiles == 2 && kGroups == 2) store_tile<1, 1>(p);
  }
  template <int i, int j>
  static void store_tile(const PanelProduct& p) {
    Tiles::template store<sums_tile(i, j)>(sums_of<i, j>(p), p.sums_stride * 4);
  }
  template <int i, int j>
  static int32_t* sums_of(const PanelProduct& p) {
    return p.sums + i * kTileTokens * p.sums_stride + j * 16;
  }
};

}  // namespace
}  // namespace bitnet::kernels::amx
