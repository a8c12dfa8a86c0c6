#pragma once

#include "inference/cuda_memory.h"
#include "inference/share.h"

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace bitnet::cuda {

/// Vectors of a layer of which every GPU computes a part, and needs the whole.
enum class Shared { kAttention, kHidden, kFfn };

/// Where a GPU has the rows of each of them, padded with zeros to kPad elements.
struct SharedRows {
  float* rows;
  int64_t stride;
};
using SharedVectors = std::array<SharedRows, 3>;

/// One GPU's side of an exchange with the others of a model. All take part in the same passes and gathers, in
/// the same order.
class Exchange {
 public:
  virtual ~Exchange() = default;
  /// "peers": kernels that reach the other GPUs' memory; "nccl".
  [[nodiscard]] virtual std::string_view name() const = 0;
  /// Queues the begin of a pass over the layers, with kGathers gathers in each.
  virtual void begin(Stream stream) = 0;
  static constexpr int64_t kGathers = 4;
  /// Queues that the first `tokens` rows of `which` become whole.
  virtual void gather(Shared which, int64_t tokens, Stream stream) = 0;
  /// After so many passes, and before another begins anywhere, all sides are renewed; 0: never.
  [[nodiscard]] virtual int64_t passes() const = 0;
  virtual void renew() = 0;
};

/// A GPU of an exchange, in order of rank.
struct ExchangePlace {
  int device;
  SharedVectors vectors;
};

/// The sides of an exchange for rows up to `batch`, by $BITNET_EXCHANGE ("peers", "nccl") or else by peers
/// where all GPUs reach each other and by NCCL where not. Throws kUnsupported where that cannot be,
/// kInvalidArgument on another name. All GPUs are different.
[[nodiscard]] std::vector<std::unique_ptr<Exchange>> make_exchanges(const ModelConfig& config,
                                                                    std::span<const ExchangePlace> places,
                                                                    int64_t batch);

/// Where the parts of `which` begin, [places + 1]. Later elements are 0.
using PartBegins = std::array<int64_t, kMostGpus + 1>;
[[nodiscard]] PartBegins part_begins(const ModelConfig& config, Shared which, int size);

[[nodiscard]] std::vector<std::unique_ptr<Exchange>> make_peer_exchanges(
    const ModelConfig& config, std::span<const ExchangePlace> places);
[[nodiscard]] std::vector<std::unique_ptr<Exchange>> make_nccl_exchanges(
    const ModelConfig& config, std::span<const ExchangePlace> places, int64_t batch);

}  // namespace bitnet::cuda
