// The highest logits without the others (docs/NUMERICS.md, "The head"): a scan of the int8 copy bounds every
// logit; the k-th highest of the lower ends, taken over groups of 16 rows, is a threshold that k logits
// reach; rows whose upper end reaches it are computed as head.cu computes them, and of those only the
// highest are kept. Five kernels: split the hidden states into two int8 digits, scan (many tokens on sm_90:
// head_wgmma.cu), select, compute, trim. With many tokens computing would take as long as the scan: two
// kernels more first compute the likeliest k rows, whose lowest logit is a threshold far higher.

#include "kernels/cuda/dense.cuh"
#include "kernels/cuda/head_scan.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/norm.cuh"

#include <algorithm>

namespace bitnet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kScanTokens = 16;                              // of one scan by mma.sync
constexpr int kSelectThreads = 1024, kMostSelectBlocks = 8;  // blocks: of a token
constexpr int kRescoreThreads = 256, kRescoreBlocks = 16;    // blocks: at least, of a token
constexpr int kRescoreRows = 4;                              // at once

HeadParts carve(const HeadTopArgs& args) {
  auto* bytes = static_cast<std::byte*>(args.scratch);
  const auto take = [&](int64_t count, int64_t size) {
    std::byte* part = bytes;
    bytes += (kMostTopTokens * count * size + 255) / 256 * 256;
    return part;
  };
  const int64_t cols = padded_cols(args.head.cols), groups = args.copy.groups;
  HeadParts parts{};
  parts.normed = reinterpret_cast<float*>(take(cols, sizeof(float)));
  parts.digits = reinterpret_cast<int8_t*>(take(2 * (cols + kSkew), 1));
  parts.states = reinterpret_cast<SplitState*>(take(1, sizeof(SplitState)));
  parts.upper = reinterpret_cast<float*>(take(groups * kInt8GroupRows, sizeof(float)));
  parts.group_lower = reinterpret_cast<float*>(take(groups, sizeof(float)));
  parts.group_upper = reinterpret_cast<float*>(take(groups, sizeof(float)));
  parts.threshold = reinterpret_cast<float*>(take(1, sizeof(float)));
  parts.probes = reinterpret_cast<TopCandidates*>(take(1, sizeof(TopCandidates)));
  return parts;
}

/// m roundings in a row: m u / (1 - m u).
__device__ __forceinline__ double gamma_of(double roundings) {
  return roundings * 0x1p-24 / (1 - roundings * 0x1p-24);
}
__device__ __forceinline__ float round_up(double value) {
  return __double2float_ru(value * (1 + 0x1p-14));
}

/// One block a token; the candidates begin with those always wanted.
__global__ void __launch_bounds__(kThreads) split_kernel(const HeadScanArgs args) {
  extern __shared__ float4 row[];
  __shared__ RowReduction<kThreads> reduction;
  const int64_t token = blockIdx.x, cols = padded_cols(args.head.head.cols);
  const int vectors = static_cast<int>(cols / 4);
  let_next_start();
  wait_for_previous();
  normalize_row<kThreads>(args.head.x + args.head.queries[token].row * args.head.x_stride, vectors,
                          args.head.head.cols, args.head.norms,
                          reinterpret_cast<const float4*>(args.head.norms.first), row, reduction);
  uint32_t magnitude = 0;
  auto* normed = reinterpret_cast<float4*>(args.parts.normed + token * cols);
  for (int i = threadIdx.x; i < vectors; i += kThreads) {
    const float4 v = row[i];
    normed[i] = v;
    magnitude = max(max(magnitude, max(magnitude_bits(v.x), magnitude_bits(v.y))),
                    max(magnitude_bits(v.z), magnitude_bits(v.w)));
  }
  magnitude = __reduce_max_sync(0xffffffffu, magnitude);
  if (threadIdx.x % kWarp == 0) reduction.magnitude[threadIdx.x / kWarp] = magnitude;
  __syncthreads();
  for (int w = 0; w < kThreads / kWarp; ++w) magnitude = max(magnitude, reduction.magnitude[w]);
  const float largest = __uint_as_float(magnitude);
  const bool known = largest >= 1e-10f && largest <= 1e10f;
  const float scale = known ? __fdiv_rn(largest, static_cast<float>(kLimit)) : 1.0f;
  const double inverse = 1.0 / static_cast<double>(scale);
  double squares = 0, errors = 0;
  const auto digit = [&](int which, int i) -> int8_t& {
    if (args.image) return args.parts.digits[image_quad_offset(2 * token + which, i / 4, kDigitRows) + i % 4];
    return args.parts.digits[(2 * token + which) * (cols + kSkew) + i];
  };
  const auto* values = reinterpret_cast<const float*>(row);
  for (int i = threadIdx.x; i < cols; i += kThreads) {
    const double value = known ? static_cast<double>(values[i]) : 0.0;
    const int q = max(-kLimit, min(kLimit, __double2int_rn(value * inverse)));
    const int hi = (q + (q < 0 ? -kDigit : kDigit)) / kBase;
    digit(0, i) = static_cast<int8_t>(hi);
    digit(1, i) = static_cast<int8_t>(q - kBase * hi);
    const double difference = value - static_cast<double>(scale) * q;
    squares = fma(value, value, squares);
    errors = fma(difference, difference, errors);
  }
  __syncthreads();  // the last use of reduction.squares has been read
  const double norm = sqrt(block_sum<kThreads>(squares, reduction.squares[0]));
  const double distance = sqrt(block_sum<kThreads>(errors, reduction.squares[1]));
  TopCandidates& out = args.head.out[token];
  const int always = args.head.queries[token].always;
  for (int i = threadIdx.x; i < always; i += kThreads)
    out.ids[i] = args.head.always[token * kMostTopCandidates + i];
  if (threadIdx.x != 0) return;
  out.count = known ? always : kMostTopCandidates + 1;
  const double exact_kernel = gamma_of(static_cast<double>(args.head.head.cols) / 16 + 5);
  args.parts.states[token] = {scale, round_up(norm),
                              round_up(distance + (12 * 0x1p-24 + exact_kernel) * (norm + distance)), known};
}

/// A warp's groups of the int8 copy, one after another: the next blocks of 16 rows x 64 columns are in flight
/// while one is multiplied and while a group's bounds are written.
struct BlockStream {
  static constexpr int kAhead = 4;
  uint4 ahead[kAhead][2];

  __device__ __forceinline__ void load(int i, const uint4* block) {
    ahead[i][0] = load_stream(block);
    ahead[i][1] = load_stream(block + 32);
  }
  __device__ __forceinline__ void start(const Int8Copy& copy, int64_t group) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (group < copy.groups && i < copy.blocks) load(i, weights_of(copy, group) + i * 64);
    }
  }
  [[nodiscard]] static __device__ __forceinline__ const uint4* weights_of(const Int8Copy& copy,
                                                                          int64_t group) {
    return reinterpret_cast<const uint4*>(copy.tiles + group * copy.blocks * kInt8BlockBytes) +
           threadIdx.x % kWarp;
  }
};

/// Sums of hi and lo digits of 4 kTiles tokens with the 16 rows of a group; lane (g, t) gets rows g and g + 8
/// of tokens 4j + t: hi, lo, hi, lo. `stream` has the group's first blocks, and then those of next_group.
template <int kTiles>
__device__ __forceinline__ void scan_group(const Int8Copy& copy, int64_t group, int64_t next_group,
                                           const int8_t* digits, int stride, BlockStream& stream,
                                           int (&sums)[kTiles][4]) {
  constexpr int kAhead = BlockStream::kAhead;
  const int lane = threadIdx.x % kWarp, blocks = static_cast<int>(copy.blocks);
  const uint4* const weights = BlockStream::weights_of(copy, group);
  const int8_t* my_digits = digits + lane / 4 * stride + lane % 4 * 16;
  for (int base = 0; base < blocks; base += kAhead) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int block = base + i;
      if (block >= blocks) break;
      const uint4 first = stream.ahead[i][0], second = stream.ahead[i][1];
      if (block + kAhead < blocks) stream.load(i, weights + (block + kAhead) * 64);
      const uint32_t a[2][4] = {{first.x, second.x, first.y, second.y},
                                {first.z, second.z, first.w, second.w}};
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        const int4 b = *reinterpret_cast<const int4*>(my_digits + j * 8 * stride + block * 64);
        mma_s8(sums[j], a[0], b.x, b.y);
        mma_s8(sums[j], a[1], b.z, b.w);
      }
    }
  }
  stream.start(copy, next_group);
}

/// A warp takes a group of rows; digits of the kScanTokens tokens from kScanTokens * blockIdx.y lie in shared
/// memory.
template <int kTiles>
__global__ void __launch_bounds__(kThreads, 2) scan_kernel(const HeadScanArgs args) {
  extern __shared__ int4 shared[];
  __shared__ SplitState states[kMostTopTokens];
  const Int8Copy& copy = args.head.copy;
  const int stride = static_cast<int>(padded_cols(args.head.head.cols)) + kSkew;
  const int first = static_cast<int>(blockIdx.y) * kScanTokens;
  const int64_t warps = int64_t{gridDim.x} * (kThreads / kWarp);
  const int64_t first_group = int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
  BlockStream stream;
  stream.start(copy,
               first_group);  // the copy was made long before: while the kernel in front splits the state
  let_next_start();
  wait_for_previous();
  const auto* digits = reinterpret_cast<const int4*>(args.parts.digits + int64_t{2 * first} * stride);
  for (int i = threadIdx.x; i < kTiles * 8 * stride / 16; i += kThreads) shared[i] = __ldcg(digits + i);
  if (threadIdx.x < args.head.tokens) states[threadIdx.x] = args.parts.states[threadIdx.x];
  __syncthreads();
  for (int64_t group = first_group; group < copy.groups; group += warps) {
    int sums[kTiles][4] = {};
    scan_group<kTiles>(copy, group, group + warps, reinterpret_cast<const int8_t*>(shared), stride, stream,
                       sums);
    write_bounds<kTiles>(args, group, states, first, &sums[0][0]);
  }
}

/// Unsigned integers in the order of the floats; no NaN comes here.
__device__ __forceinline__ uint32_t ordered(float value) {
  const uint32_t bits = __float_as_uint(value);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float unordered(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

/// The k-th highest of `count` values, byte by byte from the top; all kThreads of the block get it.
template <int kThreads>
__device__ float kth_highest(const float* values, int count, int k) {
  __shared__ int bins[256];
  __shared__ uint32_t chosen;
  __shared__ int left;
  uint32_t prefix = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = threadIdx.x; i < 256; i += kThreads) bins[i] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += kThreads) {
      const uint32_t key = ordered(values[i]);
      if (shift == 24 || key >> (shift + 8) == prefix) atomicAdd(&bins[key >> shift & 255u], 1);
    }
    __syncthreads();
    if (threadIdx.x < kWarp) {  // lane l sums bins 255 - 8l downwards
      const int lane = threadIdx.x;
      int sum = 0;
      for (int i = 0; i < 8; ++i) sum += bins[255 - 8 * lane - i];
      int above = sum;
#pragma unroll
      for (int distance = 1; distance < kWarp; distance *= 2) {
        const int other = __shfl_up_sync(0xffffffffu, above, distance);
        if (lane >= distance) above += other;
      }
      above -= sum;  // values in higher bins than this lane's
      for (int i = 0; i < 8; ++i) {
        const int bin = 255 - 8 * lane - i;
        if (above < k && above + bins[bin] >= k) {
          chosen = prefix << 8 | static_cast<uint32_t>(bin);
          left = k - above;
        }
        above += bins[bin];
      }
    }
    __syncthreads();
    prefix = chosen;
    k = left;
    __syncthreads();
  }
  return unordered(prefix);
}

__device__ float highest(const float* values, int count) {
  __shared__ uint32_t warps[kSelectThreads / kWarp];
  uint32_t key = 0;
#pragma unroll 8
  for (int i = threadIdx.x; i < count; i += kSelectThreads) key = max(key, ordered(values[i]));
  key = __reduce_max_sync(0xffffffffu, key);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = key;
  __syncthreads();
  return unordered(__reduce_max_sync(0xffffffffu, warps[threadIdx.x % kWarp]));
}

/// The k-th highest lower end among the groups, or -inf with fewer of them.
__device__ float scanned_threshold(const HeadScanArgs& args, int64_t token, int k) {
  const int groups = static_cast<int>(args.head.copy.groups);
  const float* lower = args.parts.group_lower + token * groups;
  if (k > groups) return -INFINITY;
  return k == 1 ? highest(lower, groups) : kth_highest<kSelectThreads>(lower, groups, k);
}

/// That, or the k-th highest of the probes' logits where it is higher. `logits` has room for the probes.
__device__ float probed_threshold(const HeadScanArgs& args, int64_t token, int k, float* logits) {
  const TopCandidates& probes = args.parts.probes[token];
  const int count = __ldcg(&probes.count);
  const float threshold = __ldcg(args.parts.threshold + token);
  if (count < k) return threshold;
  for (int i = threadIdx.x; i < count; i += kSelectThreads) {
    const float logit = __ldcg(&probes.logits[i]);
    logits[i] = isnan(logit) ? -INFINITY : logit;
  }
  __syncthreads();
  return fmaxf(threshold, k == 1 ? highest(logits, count) : kth_highest<kSelectThreads>(logits, count, k));
}

/// Rows that are always wanted do not count among the k: at most `always` of the groups' highest are theirs.
__device__ __forceinline__ int wanted(const TopQueryRow& query) {
  return query.k + query.always;
}

/// One block a token: of each group that reaches the threshold, the row that may be the highest.
__global__ void __launch_bounds__(kSelectThreads) probe_kernel(const HeadScanArgs args) {
  __shared__ int found;
  const int64_t token = blockIdx.x;
  let_next_start();
  wait_for_previous();
  TopCandidates& probes = args.parts.probes[token];
  const int groups = static_cast<int>(args.head.copy.groups), k = wanted(args.head.queries[token]);
  if (threadIdx.x == 0) found = 0;
  if (args.parts.states[token].known == 0 || k > groups) {
    if (threadIdx.x == 0) probes.count = 0, args.parts.threshold[token] = -INFINITY;
    return;
  }
  const float threshold = scanned_threshold(args, token, k);
  for (int group = threadIdx.x; group < groups; group += kSelectThreads) {
    if (args.parts.group_lower[token * groups + group] < threshold) continue;
    const int64_t first = group * kInt8GroupRows;
    const float* upper = args.parts.upper + token * groups * kInt8GroupRows + first;
    int best = 0;
    for (int row = 1; row < kInt8GroupRows && first + row < args.head.head.count; ++row) {
      if (upper[row] > upper[best]) best = row;
    }
    const int place = atomicAdd(&found, 1);
    if (place < kMostTopCandidates) probes.ids[place] = static_cast<int32_t>(first) + best;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  probes.count = min(found, static_cast<int>(kMostTopCandidates));
  args.parts.threshold[token] = threshold;
}

/// Some blocks a token: each finds the threshold, and in its share of the groups the rows that reach it,
/// which follow those always wanted (split_kernel).
__global__ void __launch_bounds__(kSelectThreads) select_kernel(const HeadScanArgs args) {
  __shared__ int32_t ids[kMostTopCandidates];
  __shared__ float logits[kMostTopCandidates];
  __shared__ int found, first;
  const int64_t token = blockIdx.y;
  let_next_start();
  wait_for_previous();
  if (args.parts.states[token].known == 0) return;
  const int groups = static_cast<int>(args.head.copy.groups), k = wanted(args.head.queries[token]);
  const float* group_upper = args.parts.group_upper + token * groups;
  const float* upper = args.parts.upper + token * groups * kInt8GroupRows;
  TopCandidates& out = args.head.out[token];
  const float threshold =
      args.probed ? probed_threshold(args, token, k, logits) : scanned_threshold(args, token, k);
  if (threadIdx.x == 0) found = 0;
  __syncthreads();
  const auto take = [&](int row, float upper_end) {
    if (row >= args.head.head.count || upper_end < threshold) return;  // a NaN is taken
    const int place = atomicAdd(&found, 1);
    if (place < kMostTopCandidates) ids[place] = row;
  };
  const int threads = kSelectThreads * static_cast<int>(gridDim.x);
  for (int group = blockIdx.x * kSelectThreads + threadIdx.x; group < groups; group += threads) {
    if (group_upper[group] < threshold) continue;
    const auto* rows = reinterpret_cast<const float4*>(upper + group * kInt8GroupRows);
    const float4 four[4] = {rows[0], rows[1], rows[2], rows[3]};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int row = group * static_cast<int>(kInt8GroupRows) + 4 * j;
      take(row, four[j].x);
      take(row + 1, four[j].y);
      take(row + 2, four[j].z);
      take(row + 3, four[j].w);
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) first = atomicAdd(&out.count, found);
  __syncthreads();
  for (int i = threadIdx.x; i < found && first + i < kMostTopCandidates; i += kSelectThreads)
    out.ids[first + i] = ids[i];
}

struct RescoreArgs {
  HeadScanArgs scan;
  TopCandidates* candidates;  ///< [tokens]
  int rows;                   ///< that shared memory has room for, at most kRescoreRows
};

/// Logits of candidates; a block takes as many at a time as keep all blocks at work: all threads decode the
/// rows, sixteen lanes of a warp run a row's chains.
template <DType kType>
__global__ void __launch_bounds__(kRescoreThreads) rescore_kernel(const RescoreArgs rescore) {
  extern __shared__ float4 decoded[];
  const HeadScanArgs& args = rescore.scan;
  const int64_t token = blockIdx.y;
  const int cols = static_cast<int>(padded_cols(args.head.head.cols)), vectors = cols / 4;
  const int chunks = static_cast<int>((args.head.head.cols + 15) / 16 * 2);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  let_next_start();
  wait_for_previous();
  TopCandidates& out = rescore.candidates[token];
  const int count = __ldcg(&out.count), blocks = static_cast<int>(gridDim.x);
  const int rows = min((count + blocks - 1) / blocks, rescore.rows);
  if (count > kMostTopCandidates || static_cast<int>(blockIdx.x) * rows >= count) return;
  const auto* normed = reinterpret_cast<const float4*>(args.parts.normed + token * cols);
  for (int i = threadIdx.x; i < chunks * 2; i += kRescoreThreads) decoded[i] = __ldcg(normed + i);
  const auto* x = reinterpret_cast<const float*>(decoded);
  for (int first = static_cast<int>(blockIdx.x) * rows; first < count; first += blocks * rows) {
    const int here = min(rows, count - first);
#pragma unroll 4
    for (int i = threadIdx.x; i < here * chunks; i += kRescoreThreads) {
      const int row = i / chunks, chunk = i % chunks;
      const int64_t id = __ldcg(&out.ids[first + row]);
      float w[8];
      DenseFormat<kType>::load8(
          static_cast<const uint8_t*>(args.head.head.rows) + id * args.head.head.row_bytes, chunk, w);
      float4* to = decoded + (row + 1) * vectors + 2 * chunk;
      to[0] = make_float4(w[0], w[1], w[2], w[3]);
      to[1] = make_float4(w[4], w[5], w[6], w[7]);
    }
    __syncthreads();
    if (warp < here) {
      const float* weights = x + (warp + 1) * cols;
      float sum = 0;
#pragma unroll 8
      for (int i = threadIdx.x % 16; i < chunks * 8; i += 16) sum = fmaf(x[i], weights[i], sum);
#pragma unroll
      for (int mask = 8; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
      if (threadIdx.x % kWarp == 0) out.logits[first + warp] = sum;
    }
    __syncthreads();
  }
}

/// One block a token: drops candidates below the k-th highest logit. One that is not a number stays, and has
/// the host compute all logits.
__global__ void __launch_bounds__(kThreads) trim_kernel(const HeadScanArgs args) {
  __shared__ float logits[kMostTopCandidates];
  __shared__ int32_t ids[kMostTopCandidates];
  __shared__ int kept;
  let_next_start();
  wait_for_previous();
  TopCandidates& out = args.head.out[blockIdx.x];
  const TopQueryRow query = args.head.queries[blockIdx.x];
  const int count = __ldcg(&out.count), others = count - query.always;
  const int k = wanted(query);  // as many of the others as are always wanted may be the same rows again
  if (count > kMostTopCandidates || others <= k) return;
  for (int i = threadIdx.x; i < others; i += kThreads) {
    logits[i] = __ldcg(&out.logits[query.always + i]);
    ids[i] = __ldcg(&out.ids[query.always + i]);
  }
  if (threadIdx.x == 0) kept = query.always;
  __syncthreads();
  const float threshold = kth_highest<kThreads>(logits, others, k);
  for (int i = threadIdx.x; i < others; i += kThreads) {
    if (logits[i] < threshold) continue;
    const int place = atomicAdd(&kept, 1);
    out.ids[place] = ids[i];
    out.logits[place] = logits[i];
  }
  __syncthreads();
  if (threadIdx.x == 0) out.count = kept;
}

template <int kTiles>
void run_scan(const HeadScanArgs& args, Stream stream) {
  const auto bytes = static_cast<size_t>(kTiles * 8 * (padded_cols(args.head.head.cols) + kSkew));
  const int64_t blocks = std::min<int64_t>(ceil_div<int64_t>(args.head.copy.groups, kThreads / kWarp),
                                           int64_t{2} * device_limits().multiprocessors);
  const dim3 grid(static_cast<unsigned>(blocks),
                  static_cast<unsigned>(ceil_div<int64_t>(args.head.tokens, kScanTokens)));
  launch(scan_kernel<kTiles>, grid, kThreads, bytes, Start::kOverlapped, stream, args);
}

}  // namespace

size_t head_top_scratch(const DenseRows& head) {
  const int64_t cols = padded_cols(head.cols), groups = ceil_div(head.count, kInt8GroupRows);
  const int64_t token = cols * 4 + 2 * (cols + kSkew) + static_cast<int64_t>(sizeof(SplitState)) +
                        groups * (kInt8GroupRows + 2) * 4 + 4 + static_cast<int64_t>(sizeof(TopCandidates));
  return static_cast<size_t>(kMostTopTokens * token + 8 * 256);
}

void head_top(const HeadTopArgs& head, Stream stream) {
  const bool many = head.tokens > kScanTokens;
  const HeadScanArgs args{head, carve(head), device_limits().wgmma && many, many};
  const auto row_bytes = static_cast<size_t>(padded_cols(head.head.cols)) * sizeof(float);
  const auto tokens = static_cast<unsigned>(head.tokens);
  launch(split_kernel, dim3(tokens), kThreads, row_bytes, Start::kOverlapped, stream, args);
  if (args.image) {
    wgmma_head_scan(args, stream);
  } else if (head.tokens <= 4) {
    run_scan<1>(args, stream);
  } else if (head.tokens <= 8) {
    run_scan<2>(args, stream);
  } else {
    run_scan<4>(args, stream);
  }
  const auto blocks = static_cast<unsigned>(
      std::max<int64_t>(4 * device_limits().multiprocessors / head.tokens, kRescoreBlocks));
  const int64_t rows = std::clamp<int64_t>(device_limits().shared_bytes / static_cast<int64_t>(row_bytes) - 1,
                                           1, kRescoreRows);
  const auto rescore = [&](TopCandidates* candidates) {
    for_dense_type(head.head.dtype, [&](auto type) {
      launch(rescore_kernel<decltype(type)::kType>, dim3(blocks, tokens), kRescoreThreads,
             static_cast<size_t>(rows + 1) * row_bytes, Start::kOverlapped, stream,
             {args, candidates, static_cast<int>(rows)});
    });
  };
  if (many) {
    launch(probe_kernel, dim3(tokens), kSelectThreads, 0, Start::kOverlapped, stream, args);
    rescore(args.parts.probes);
  }
  const auto selecting = static_cast<unsigned>(
      std::clamp<int64_t>(int64_t{2} * device_limits().multiprocessors / head.tokens, 1, kMostSelectBlocks));
  launch(select_kernel, dim3(selecting, tokens), kSelectThreads, 0, Start::kOverlapped, stream, args);
  rescore(head.out);
  launch(trim_kernel, dim3(tokens), kThreads, 0, Start::kOverlapped, stream, args);
}

}  // namespace bitnet::cuda
