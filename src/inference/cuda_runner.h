#pragma once

#include "bitnet/inference/session.h"
#include "inference/exchange.h"
#include "inference/runner.h"

#include <memory>
#include <span>

namespace bitnet {
namespace cuda {

/// A runner on one GPU that computes a share of a model, together with those of the other shares. Its logits
/// and candidates are those of its part of the vocabulary, counted from its begin.
class ShareRunner : public Runner {
 public:
  [[nodiscard]] virtual SharedVectors vectors() const = 0;
  /// Before the first run.
  virtual void join(Exchange& exchange) = 0;
  /// Memory for what the rows will store. Throws kOutOfMemory; run() then has nothing left to throw for that.
  virtual void reserve(std::span<const RunnerRow> rows) = 0;
  /// Waits until all that is queued has been computed.
  virtual void synchronize() = 0;
};

[[nodiscard]] std::unique_ptr<ShareRunner> make_share_runner(const Model::Impl& model,
                                                             const SessionOptions& options, int64_t context,
                                                             int device, Share share);

}  // namespace cuda

/// On the GPUs of these indices, one or several, all different. `context` and options.batch must be checked;
/// the model must outlive the runner.
[[nodiscard]] std::unique_ptr<Runner> make_cuda_runner(const Model::Impl& model,
                                                       const SessionOptions& options, int64_t context,
                                                       std::span<const int> devices);

}  // namespace bitnet
