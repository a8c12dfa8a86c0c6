// The next token from a row's highest logits, as Sampler draws it on the processor, bit for bit.

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/exp64.h"

namespace bitnet::cuda {
namespace {

constexpr int kThreads = 256;

/// A row's candidates in order: falling logits, ties by rising ids.
struct Ranked {
  float logits[kMostTopCandidates];
  int32_t ids[kMostTopCandidates];
  double weights[kMostTopCandidates];
};

/// The k first of them; false where a logit is not finite: then all logits must decide. A candidate's place
/// is the number of those before it.
__device__ bool rank_candidates(const TopCandidates& found, int count, int k, Ranked& ranked) {
  __shared__ float logits[kMostTopCandidates];
  __shared__ int32_t ids[kMostTopCandidates];
  bool finite = true;
  for (int i = threadIdx.x; i < count; i += kThreads) {
    logits[i] = found.logits[i];
    ids[i] = found.ids[i];
    finite = finite && isfinite(logits[i]);
  }
  if (__syncthreads_and(static_cast<int>(finite)) == 0) return false;
  for (int i = threadIdx.x; i < count; i += kThreads) {
    int place = 0;
    for (int j = 0; j < count; ++j)
      place += logits[j] > logits[i] || (logits[j] == logits[i] && ids[j] < ids[i]) ? 1 : 0;
    if (place >= k) continue;
    ranked.logits[place] = logits[i];
    ranked.ids[place] = ids[i];
  }
  __syncthreads();
  return true;
}

/// weights = the probabilities of the first `count`, as softmax of sampler.cpp: summed from the front.
__device__ void softmax(Ranked& ranked, int count, double temperature) {
  __shared__ double total;
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const double below = static_cast<double>(ranked.logits[i]) - static_cast<double>(ranked.logits[0]);
    ranked.weights[i] = kernels::exp64(below / temperature);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    double sum = 0;
    for (int i = 0; i < count; ++i) sum += ranked.weights[i];
    total = sum;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < count; i += kThreads) ranked.weights[i] /= total;
  __syncthreads();
}

/// The first of the candidates where the sum of the weights from the front reaches `share` (kReached) or
/// exceeds it; the last if none does. Thread 0's is right.
template <bool kReached>
__device__ int first_beyond(const Ranked& ranked, int count, double share) {
  double sum = 0;
  for (int i = 0; i < count; ++i) {
    sum += ranked.weights[i];
    if (kReached ? sum >= share : share < sum) return i;
  }
  return count - 1;
}

__device__ int32_t draw(Ranked& ranked, int count, const SampleRow& row) {
  __shared__ int kept;
  if (row.temperature == 0) return ranked.ids[0];
  if (row.top_p < 1) softmax(ranked, count, 1.0);
  if (threadIdx.x == 0) {
    kept = row.top_p < 1 ? first_beyond<true>(ranked, count, row.top_p) + 1 : count;
    const double least = static_cast<double>(ranked.logits[0]) + row.log_min_p;
    while (kept > 1 && static_cast<double>(ranked.logits[kept - 1]) < least) --kept;
  }
  __syncthreads();
  const int last = kept;
  softmax(ranked, last, row.temperature);
  return ranked.ids[threadIdx.x == 0 ? first_beyond<false>(ranked, last, row.number) : 0];
}

/// One block a row.
__global__ void __launch_bounds__(kThreads) sample_kernel(const SampleArgs args) {
  __shared__ Ranked ranked;
  wait_for_previous();
  const unsigned row = blockIdx.x;
  const SampleRow& how = args.rows[row];
  const TopCandidates& found = args.found[row];
  const int count = found.count, used = min(count, how.k);
  int32_t token = -1;
  if (count > 0 && count <= kMostTopCandidates && rank_candidates(found, count, used, ranked))
    token = draw(ranked, used, how);
  if (threadIdx.x != 0) return;
  args.tokens[row] = token;
  args.ids[row] = max(token, 0);
  if (args.advance != nullptr) ++args.advance[row].position;
}

}  // namespace

void sample(const SampleArgs& args, Stream stream) {
  launch(sample_kernel, dim3(static_cast<unsigned>(args.count)), kThreads, 0, Start::kOverlapped, stream,
         args);
}

}  // namespace bitnet::cuda
