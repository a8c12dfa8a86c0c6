#pragma once

#include "inference/kv_cache.h"
#include "inference/model_impl.h"

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace bitnet {

/// A KV cache in a file. Little-endian:
///   "BITNETKV", u32 version, u32 KV type (DType), u64 model_fingerprint(), u64 number of tokens n, i32[n]
///   tokens, the parts of KvCache::parts(n) one after the other, u64 hash of all before.

/// Tells models apart: a hash of the shape and of a row of each weight.
[[nodiscard]] uint64_t model_fingerprint(const Model::Impl& model);

/// Writes the cache's first tokens.size() positions, atomically. Throws kIo.
void save_prefix(const std::filesystem::path& path, const Model::Impl& model, const KvCache& cache,
                 std::span<const int32_t> tokens);

/// Fills the cache from the file and returns the tokens. Throws kNotFound, kIo, kCorruptData (not such a
/// file, another version, cut off, damaged), kUnsupported (another model, KV type, or more tokens than the
/// cache holds). The cache keeps what it held unless the file is good.
[[nodiscard]] std::vector<int32_t> load_prefix(const std::filesystem::path& path, const Model::Impl& model,
                                               KvCache& cache);

}  // namespace bitnet
