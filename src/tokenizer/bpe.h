#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bitnet::text {

/// Token text -> id. Holds no text: the tokens must outlive it and stay where they are.
class TokenMap {
 public:
  TokenMap() = default;
  /// Empty texts are left out. Throws kCorruptData if two tokens have the same text.
  explicit TokenMap(const std::vector<std::string>& tokens);
  /// The id, or -1.
  [[nodiscard]] int32_t find(std::string_view text) const;

 private:
  struct Slot {
    uint32_t hash = 0;
    int32_t id = -1;
  };
  const std::vector<std::string>* tokens_ = nullptr;
  std::vector<Slot> slots_;  // open addressing, size a power of two, at most half full
};

inline constexpr uint32_t kNoMerge = 0xFFFFFFFF;

/// What a pair of neighbours merges into. The lowest rank goes first.
struct Merge {
  uint32_t rank = kNoMerge;
  int32_t id = -1;
};

/// Merge rules by the ids of the two parts.
class MergeTable {
 public:
  MergeTable() = default;
  /// Throws kCorruptData if a part or the whole of a merge is not in the vocabulary.
  MergeTable(const std::vector<std::pair<std::string, std::string>>& merges, const TokenMap& tokens);
  [[nodiscard]] Merge find(int32_t left, int32_t right) const {
    if (slots_.empty() || left < 0 || right < 0) return {};
    const uint64_t key = key_of(left, right);
    for (size_t at = home(key);; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].key == key) return slots_[at].merge;
      if (slots_[at].key == kFree) return {};
    }
  }

 private:
  static constexpr uint64_t kFree = ~uint64_t{0};
  struct Slot {
    uint64_t key = kFree;
    Merge merge;
  };
  static uint64_t key_of(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  [[nodiscard]] size_t home(uint64_t key) const {
    return static_cast<size_t>((key * 0x9E3779B97F4A7C15U) >> 20) & (slots_.size() - 1);
  }
  void insert(uint64_t key, Merge merge);

  std::vector<Slot> slots_;
};

/// A run of the text that is one token so far; the runs form a doubly linked list in text order.
struct Symbol {
  uint32_t begin = 0, length = 0;  ///< bytes; length 0: absorbed by its left neighbour
  int32_t id = -1;                 ///< -1: not in the vocabulary
  int32_t previous = -1, next = -1;
};

/// Scratch memory of merge_symbols(), reused from piece to piece.
struct MergeScratch {
  struct Candidate {
    uint32_t rank, left, total_length;
    int32_t id;
    /// Orders a heap whose top is the lowest rank and, among equals, the leftmost.
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
  uint64_t candidates = 0;  ///< ever pushed: the work done, for tests of the bound below
};

/// Links symbols in the order they stand.
void link_symbols(std::vector<Symbol>& symbols);

/// Merges neighbours, lowest rank first and leftmost among equals, until no rule applies. For n symbols at
/// most n - 1 + 2 (n - 1) candidates enter the heap (each merge removes a symbol and makes two new pairs):
/// O(n log n).
template <class FindMerge>
void merge_symbols(MergeScratch& scratch, const FindMerge& find_merge) {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  heap.clear();
  const auto consider = [&](int32_t left) {
    if (left < 0 || symbols[left].next < 0) return;
    const Symbol &a = symbols[left], &b = symbols[a.next];
    const Merge merge = find_merge(a, b);
    if (merge.rank == kNoMerge) return;
    heap.push_back({merge.rank, static_cast<uint32_t>(left), a.length + b.length, merge.id});
    std::push_heap(heap.begin(), heap.end());
    ++scratch.candidates;
  };
  for (size_t i = 0; i + 1 < symbols.size(); ++i) consider(static_cast<int32_t>(i));
  while (!heap.empty()) {
    const auto best = heap.front();
    std::pop_heap(heap.begin(), heap.end());
    heap.pop_back();
    Symbol& a = symbols[best.left];
    // A symbol only ever grows to the right, so an unchanged total length means an unchanged pair.
    if (a.length == 0 || a.next < 0 || a.length + symbols[a.next].length != best.total_length) continue;
    Symbol& b = symbols[a.next];
    a.length = best.total_length;
    a.id = best.id;
    b.length = 0;
    a.next = b.next;
    if (a.next >= 0) symbols[a.next].previous = static_cast<int32_t>(best.left);
    consider(a.previous);
    consider(static_cast<int32_t>(best.left));
  }
}

}  // namespace bitnet::text
