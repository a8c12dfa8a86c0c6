#pragma once

#include "bitnet/core/mapped_file.h"
#include "bitnet/core/thread_pool.h"
#include "inference/model_impl.h"

#include <cstddef>
#include <optional>
#include <span>

namespace bitnet {

/// HostWeights' matrices in a file, as they lie in memory. Little-endian:
///   "BITNETWT", u32 version, u32 head copy (0, 1), u32 layout of whole matrices, u32 sparse (0, 1),
///   u64 model_fingerprint(), u64 hash of the model files' names, sizes and times, u64 hash of the kernels'
///   name, u64 bytes of this file, u64 hash of all before;
///   parts() of each layer's q, k, v, attention output, gate, up, down, then of the head copy: each part is
///   its bytes and a u64 hash of every MiB of them.
class WeightsFile {
 public:
  /// Opens the model's LoadOptions::weights_cache if it was made for such a load; nothing where there is no
  /// file, or one of this model's that has to be made anew (logged). Throws kCorruptData on a file that is
  /// none, or has another size than it was written with; kUnsupported on one of another model.
  [[nodiscard]] static std::optional<WeightsFile> open(const Model::Impl& model, bool sparse, bool head_copy);

  [[nodiscard]] TernaryLayout whole_layout() const { return whole_layout_; }
  /// Copies the next part out, on all threads. Throws kCorruptData where it is damaged.
  void read(std::span<std::byte> part, ThreadPool& pool);

 private:
  WeightsFile(MappedFile file, TernaryLayout whole_layout);

  MappedFile file_;
  TernaryLayout whole_layout_;
  size_t offset_;
};

/// Writes the file, atomically. Throws kIo.
void write_weights_file(const Model::Impl& model, const HostWeights& weights);

}  // namespace bitnet
