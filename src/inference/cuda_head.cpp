#include "inference/cuda_head.h"

#include "inference/top_rows.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace bitnet::cuda {
namespace {

constexpr int64_t kMost = Runner::kMaxLogits;
static_assert(kMost <= kMostTopTokens);
constexpr size_t kMostLogits = 16;  // rows whose logits have room at once

size_t logit_bytes(const CudaModel& model) {
  return kMostLogits * static_cast<size_t>(model.head.count) * sizeof(float);
}

void sort_unique(std::vector<int32_t>& ids) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
}

/// What a query names, from all logits.
void choose(std::span<const float> logits, const TopQuery& query, std::vector<Candidate>& out) {
  std::vector<int32_t> always(query.always.begin(), query.always.end());
  sort_unique(always);
  TopRows best;
  best.reset(query.k, always);
  best.add(0, logits, logits);
  std::vector<int32_t> ids(always);
  for (const TopRows::Interval& row : TopRows::merge({&best, 1})) ids.push_back(row.row);
  std::sort(ids.begin(), ids.end());
  out.clear();
  for (const int32_t id : ids) out.push_back({id, logits[static_cast<size_t>(id)]});
}

}  // namespace

CudaHead::CudaHead(const ModelConfig& config, const CudaModel& model, bool exact_only, void* workspace)
    : config_(config),
      model_(model),
      exact_only_(exact_only),
      workspace_(workspace),
      queries_(kMost * sizeof(TopQueryRow)),
      always_(kMost * kMostTopCandidates * sizeof(int32_t)),
      found_(kMost * sizeof(TopCandidates)),
      host_logits_(logit_bytes(model)),
      host_queries_(queries_.bytes()),
      host_always_(always_.bytes()),
      host_found_(found_.bytes()) {}

int64_t CudaHead::bytes() const {
  return static_cast<int64_t>(queries_.bytes() + always_.bytes() + found_.bytes());
}

size_t CudaHead::workspace_bytes(const CudaModel& model) {
  return std::max(logit_bytes(model), table().head_top_scratch(model.head));
}

Norms CudaHead::norms() const {
  return {.first = model_.output_norm.as<float>(), .first_eps = config_.rms_norm_eps};
}

std::span<const float> CudaHead::some_logits(const float* x, int64_t stride, std::span<const int64_t> rows,
                                             Stream stream) {
  const auto vocab = static_cast<size_t>(config_.vocab_size);
  auto* const logits = static_cast<float*>(workspace_);
  for (size_t begin = 0, end = 0; begin < rows.size(); begin = end) {  // runs of neighbours
    for (end = begin + 1; end < rows.size() && rows[end] == rows[end - 1] + 1;) ++end;
    table().head({.head = model_.head,
                  .x = x + rows[begin] * stride,
                  .x_stride = stride,
                  .tokens = static_cast<int64_t>(end - begin),
                  .norms = norms(),
                  .y = logits + begin * vocab,
                  .y_stride = model_.head.count},
                 stream);
  }
  const size_t count = rows.size() * vocab;
  table().to_host(host_logits_.as<float>(), logits, count * sizeof(float), stream);
  table().synchronize(stream);
  return {host_logits_.as<const float>(), count};
}

void CudaHead::logits(const float* x, int64_t stride, std::span<const int64_t> rows, std::span<float> out,
                      Stream stream) {
  const auto vocab = static_cast<size_t>(config_.vocab_size);
  for (size_t done = 0; done < rows.size(); done += kMostLogits) {
    const auto part = rows.subspan(done, std::min(rows.size() - done, kMostLogits));
    const std::span<const float> found = some_logits(x, stride, part, stream);
    std::copy(found.begin(), found.end(), out.begin() + static_cast<std::ptrdiff_t>(done * vocab));
  }
}

void CudaHead::top(const float* x, int64_t stride, std::span<const int64_t> rows,
                   std::span<const TopQuery> queries, std::span<std::vector<Candidate>> out, Stream stream) {
  if (can_scan(queries) && scan(x, stride, rows, queries, out, stream)) return;
  const auto vocab = static_cast<size_t>(config_.vocab_size);
  for (size_t done = 0; done < rows.size(); done += kMostLogits) {
    const auto part = rows.subspan(done, std::min(rows.size() - done, kMostLogits));
    const std::span<const float> all = some_logits(x, stride, part, stream);
    for (size_t i = 0; i < part.size(); ++i)
      choose(all.subspan(i * vocab, vocab), queries[done + i], out[done + i]);
  }
}

bool CudaHead::can_draw(int64_t k) const {
  // The threshold is the k-th highest of a value for 16 rows each: with many of them wanted, it says little.
  return !exact_only_ && k <= std::min(model_.int8_head.groups / 4, kMostTopCandidates / 2);
}

bool CudaHead::can_scan(std::span<const TopQuery> queries) const {
  return std::all_of(queries.begin(), queries.end(),
                     [&](const TopQuery& query) { return can_draw(query.k + std::ssize(query.always)); });
}

void CudaHead::find(const float* x, int64_t stride, int64_t tokens, Stream stream) {
  table().head_top({.head = model_.head,
                    .copy = model_.int8_head,
                    .x = x,
                    .x_stride = stride,
                    .tokens = tokens,
                    .norms = norms(),
                    .queries = queries_.as<TopQueryRow>(),
                    .always = always_.as<int32_t>(),
                    .scratch = workspace_,
                    .out = found_.as<TopCandidates>()},
                   stream);
}

void CudaHead::draw(const float* x, int64_t stride, int64_t first, std::span<const TokenDraw> draws,
                    int32_t* tokens, int32_t* ids, DecodeRow* advance, Stream stream) {
  std::vector<TopQueryRow> queries;
  SampleArgs args = {.found = found_.as<TopCandidates>(),
                     .count = std::ssize(draws),
                     .tokens = tokens,
                     .ids = ids,
                     .advance = advance,
                     .rows = {}};
  for (size_t i = 0; i < draws.size(); ++i) {
    const TokenDraw& draw = draws[i];
    queries.push_back(
        {.row = static_cast<int32_t>(first + static_cast<int64_t>(i)), .k = draw.k, .always = 0});
    args.rows[i] = {.temperature = draw.temperature,
                    .top_p = draw.top_p,
                    .log_min_p = draw.log_min_p,
                    .number = draw.number,
                    .k = draw.k};
  }
  const auto same = [](const TopQueryRow& a, const TopQueryRow& b) { return a.row == b.row && a.k == b.k; };
  if (!std::ranges::equal(queries, drawn_queries_, same)) {  // seldom: once a text
    table().synchronize(stream);                             // what is queued may read the pinned buffer
    std::ranges::copy(queries, host_queries_.as<TopQueryRow>());
    table().to_device(queries_.data(), host_queries_.as<TopQueryRow>(), queries.size() * sizeof(TopQueryRow),
                      stream);
    drawn_queries_ = std::move(queries);
  }
  find(x, stride, std::ssize(draws), stream);
  table().sample(args, stream);
}

bool CudaHead::scan(const float* x, int64_t stride, std::span<const int64_t> rows,
                    std::span<const TopQuery> queries, std::span<std::vector<Candidate>> out, Stream stream) {
  drawn_queries_.clear();
  auto* const host_queries = host_queries_.as<TopQueryRow>();
  bool any_always = false;
  for (size_t i = 0; i < rows.size(); ++i) {
    std::vector<int32_t> always(queries[i].always.begin(), queries[i].always.end());
    sort_unique(always);
    std::copy(always.begin(), always.end(), host_always_.as<int32_t>() + i * kMostTopCandidates);
    host_queries[i] = {.row = static_cast<int32_t>(rows[i]),
                       .k = static_cast<int32_t>(queries[i].k),
                       .always = static_cast<int32_t>(always.size())};
    any_always = any_always || !always.empty();
  }
  table().to_device(queries_.data(), host_queries, rows.size() * sizeof(TopQueryRow), stream);
  if (any_always) {
    table().to_device(always_.data(), host_always_.as<int32_t>(),
                      rows.size() * kMostTopCandidates * sizeof(int32_t), stream);
  }
  find(x, stride, std::ssize(rows), stream);
  table().to_host(host_found_.as<TopCandidates>(), found_.data(), rows.size() * sizeof(TopCandidates),
                  stream);
  table().synchronize(stream);
  for (size_t i = 0; i < rows.size(); ++i) {
    const TopCandidates& found = host_found_.as<TopCandidates>()[i];
    if (found.count > kMostTopCandidates) return false;
    out[i].clear();
    for (int32_t c = 0; c < found.count; ++c) {
      if (!std::isfinite(found.logits[c])) return false;
      out[i].push_back({found.ids[c], found.logits[c]});
    }
    const auto by_id = [](const Candidate& a, const Candidate& b) { return a.id < b.id; };
    const auto same_id = [](const Candidate& a, const Candidate& b) { return a.id == b.id; };
    std::sort(out[i].begin(), out[i].end(), by_id);
    out[i].erase(std::unique(out[i].begin(), out[i].end(), same_id), out[i].end());
  }
  return true;
}

}  // namespace bitnet::cuda
