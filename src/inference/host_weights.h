#pragma once

#include "bitnet/core/memory.h"
#include "bitnet/core/thread_pool.h"
#include "bitnet/inference/model.h"
#include "bitnet/model/checkpoint.h"
#include "bitnet/quant/packed_ternary.h"
#include "inference/dense_matrix.h"
#include "inference/rounded_head.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace bitnet {

/// One linear layer, with the RMSNorm of its own input where the model has one (use_rms_norm).
struct Linear {
  PackedTernary weight;
  std::vector<float> norm_in;  ///< [cols] or empty
  float max_row_scale = 0;
};

struct Layer {
  std::vector<float> attn_norm, attn_sub_norm, ffn_norm, ffn_sub_norm;  ///< sub norms may be empty
  Linear q, k, v, attn_output, gate, up, down;
};

class WeightsFile;

/// Bytes done and in all.
using OnProgress = std::function<void(int64_t done, int64_t total)>;

/// How a model's ternary matrices lie.
struct Layouts {
  TernaryLayout whole = TernaryLayout::kBlocks;  ///< of those that are multiplied as wholes
  bool sparse = false;  ///< the feed-forward weights in the layouts for zeros that are left out
};

/// Reads layers of a checkpoint in the processor's layouts, on all threads, and drops the file's pages behind
/// them.
class LayerReader {
 public:
  /// `arena` may be null; else it is made large enough for all layers, and must outlive them. With `kept`,
  /// layers are copied from there, and have to be read in their order.
  LayerReader(const Checkpoint& checkpoint, int threads, Layouts layouts, Arena* arena, OnProgress progress,
              WeightsFile* kept = nullptr);

  [[nodiscard]] Layer read(int64_t index);

 private:
  [[nodiscard]] Linear linear(int64_t layer, const char* name, TernaryLayout layout);
  [[nodiscard]] PackedTernary pack(const TernarySource& source, TernaryLayout layout);

  const Checkpoint& checkpoint_;
  Layouts layouts_;
  Arena* arena_;
  WeightsFile* kept_;
  OnProgress progress_;
  ThreadPool pool_;
  int64_t done_ = 0, total_ = 0;
};

/// What only the processor's kernels read.
struct HostWeights {
  /// With the model's LoadOptions: threads, sparse, layout, isa, head_copy and weights_cache. Throws
  /// kInvalidArgument on a layout that whole matrices cannot have, and what WeightsFile throws.
  HostWeights(const Model::Impl& model, const OnProgress& progress);

  Layouts layouts;
  Arena arena{0};  ///< of all layers
  std::vector<Layer> layers;
  std::optional<RoundedHead> rounded_head;  ///< to find the highest logits with

  [[nodiscard]] int64_t linear_bytes() const;
  [[nodiscard]] int64_t head_copy_bytes() const { return rounded_head ? rounded_head->bytes() : 0; }
};

}  // namespace bitnet
