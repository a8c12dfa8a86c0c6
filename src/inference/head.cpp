#include "inference/head.h"

#include "bitnet/core/mapped_file.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bitnet {
namespace {

// Rows whose bounds are computed before they are looked at: a multiple of 16.
constexpr int64_t kScanRows = 512;
constexpr int64_t kAhead = 4;
constexpr int64_t kLikeliest = 4;       // times k
constexpr int64_t kMostNeighbours = 8;  // rows that are read from the file together

const RoundedHead* rounded(const Model::Impl& model) {
  const HostWeights& host = model.host();
  return host.rounded_head ? &*host.rounded_head : nullptr;
}

}  // namespace

Head::Head(const Model::Impl& model, Executor executor, bool exact_only)
    : model_(model),
      executor_(executor),
      exact_only_(exact_only),
      normed_(scratch<float>(kMaxTokens * round_up(model.head.cols, 16))),
      scan_(model.head.cols, rounded(model), executor.table, kMaxTokens),
      workers_(static_cast<size_t>(executor.pool.size())),
      always_(kMaxTokens) {
  normed_rows_ = {normed_.as<float>(), round_up(model.head.cols, 16)};
}

void Head::normalize(Rows x, std::span<const int64_t> tokens) {
  const ModelConfig& config = model_.checkpoint.config();
  for (size_t i = 0; i < tokens.size(); ++i) {
    executor_.table.rms_norm({.x = x.row(tokens[i]),
                              .tokens = 1,
                              .cols = config.hidden_size,
                              .weight = model_.output_norm.data(),
                              .eps = config.rms_norm_eps,
                              .y = normed_rows_.row(static_cast<int64_t>(i))});
  }
}

void Head::multiply(int64_t tokens, std::span<float> out) {
  const DenseMatrix& head = model_.head;
  executor_.pool.for_pieces(head.rows, kScanRows, [&](int64_t begin, int64_t end, int) {
    executor_.table.dense_matmul({.dtype = head.dtype,
                                  .weights = reinterpret_cast<const uint8_t*>(head.bytes.data()),
                                  .row_bytes = head.row_bytes,
                                  .cols = head.cols,
                                  .first_row = begin,
                                  .last_row = end,
                                  .tokens = tokens,
                                  .x = normed_rows_.data,
                                  .x_stride = normed_rows_.stride,
                                  .y = out.data(),
                                  .y_stride = head.rows});
  });
}

void Head::logits(Rows x, std::span<const int64_t> tokens, std::span<float> out) {
  normalize(x, tokens);
  multiply(std::ssize(tokens), out);
}

void Head::top(Rows x, std::span<const int64_t> tokens, std::span<const TopQuery> queries,
               std::span<std::vector<Candidate>> out) {
  const int64_t count = std::ssize(tokens);
  normalize(x, tokens);
  bool found = can_scan(queries);
  if (found) {
    scan(count);
    // Each token's candidates on a thread of their own; within, what forks runs inline. One token forks
    // itself.
    std::vector<char> exact(tokens.size());
    const auto rescore_token = [&](int64_t t) {
      const auto i = static_cast<size_t>(t);
      exact[i] = rescore(t, queries[i].k, out[i]);
    };
    if (count == 1) {
      rescore_token(0);
    } else {
      executor_.pool.for_range(count, 1, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) rescore_token(t);
      });
    }
    found = std::ranges::find(exact, char{false}) == exact.end();
  }
  if (found) return;
  const auto rows = static_cast<size_t>(model_.head.rows);
  all_.resize(std::max(all_.size(), tokens.size() * rows));
  multiply(count, all_);
  for (size_t t = 0; t < tokens.size(); ++t) {
    out[t].resize(rows);
    for (size_t n = 0; n < rows; ++n) out[t][n] = {static_cast<int32_t>(n), all_[t * rows + n]};
  }
}

bool Head::can_scan(std::span<const TopQuery> queries) {
  const DenseMatrix& head = model_.head;
  if (exact_only_ || !scan_.possible()) return false;
  for (size_t t = 0; t < queries.size(); ++t) {
    // A good part of the vocabulary is computed faster in one go.
    if (queries[t].k + std::ssize(queries[t].always) > head.rows / 8) return false;
    const auto token = static_cast<int64_t>(t);
    if (!scan_.set(token, {normed_rows_.row(token), static_cast<size_t>(head.cols)})) return false;
    always_[t].assign(queries[t].always.begin(), queries[t].always.end());
    std::sort(always_[t].begin(), always_[t].end());
    always_[t].erase(std::unique(always_[t].begin(), always_[t].end()), always_[t].end());
    for (Worker& worker : workers_) {
      worker.top.resize(std::max(worker.top.size(), queries.size()));
      worker.top[t].reset(queries[t].k, always_[t]);
    }
  }
  return true;
}

void Head::scan(int64_t tokens) {
  executor_.pool.for_pieces(model_.head.rows, kScanRows, [&](int64_t begin, int64_t end, int index) {
    Worker& worker = workers_[static_cast<size_t>(index)];
    worker.lower.resize(static_cast<size_t>(tokens * kScanRows));
    worker.upper.resize(worker.lower.size());
    for (int64_t first = begin; first < end; first += kScanRows) {
      const int64_t last = std::min(first + kScanRows, end);
      scan_.intervals(first, last, tokens, kScanRows, worker.lower.data(), worker.upper.data());
      const auto rows = static_cast<size_t>(last - first);
      for (int64_t t = 0; t < tokens; ++t) {
        const std::span lower(worker.lower.data() + t * kScanRows, rows);
        const std::span upper(worker.upper.data() + t * kScanRows, rows);
        worker.top[static_cast<size_t>(t)].add(first, lower, upper);
      }
    }
  });
}

void Head::refine(int64_t token, std::span<TopRows::Interval> rows) {
  executor_.pool.for_range(std::ssize(rows), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      // Rows lie apart: the processor cannot know the next.
      if (i + kAhead < end) scan_.prefetch(rows[static_cast<size_t>(i + kAhead)].row);
      rows[static_cast<size_t>(i)] = scan_.refine(token, rows[static_cast<size_t>(i)]);
    }
  });
}

/// The rows that can be among the k highest, after a closer look at those that a scan left over: first at the
/// likeliest, whose narrower intervals leave out most of the others.
std::vector<TopRows::Interval> Head::narrowed(int64_t token, int64_t k) {
  const auto t = static_cast<size_t>(token);
  std::vector<TopRows> parts;
  for (Worker& worker : workers_) parts.push_back(std::move(worker.top[t]));
  std::vector<TopRows::Interval> rows = TopRows::merge(parts);
  for (size_t i = 0; i < workers_.size(); ++i) workers_[i].top[t] = std::move(parts[i]);

  const size_t likeliest = std::min(rows.size(), static_cast<size_t>(kLikeliest * k));
  // Of NaN, nothing is known: first of all.
  const auto promise = [](const TopRows::Interval& row) {
    return std::isnan(row.upper) ? std::numeric_limits<float>::infinity() : row.upper;
  };
  std::nth_element(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(likeliest), rows.end(),
                   [&](const auto& a, const auto& b) { return promise(a) > promise(b); });
  std::vector<TopRows> top(1);
  top[0].reset(k, {});
  const auto look_at = [&](std::span<TopRows::Interval> some) {
    refine(token, some);
    for (const TopRows::Interval& row : some) top[0].add(row.row, {&row.lower, 1}, {&row.upper, 1});
  };
  look_at(std::span(rows).first(likeliest));
  const auto out = std::remove_if(rows.begin() + static_cast<std::ptrdiff_t>(likeliest), rows.end(),
                                  [&](const auto& row) { return row.upper < top[0].threshold(); });
  rows.erase(out, rows.end());
  look_at(std::span(rows).subspan(likeliest));
  return TopRows::merge(top);
}

/// False if a logit is not finite: the threshold then says nothing of the k highest finite ones.
bool Head::rescore(int64_t token, int64_t k, std::vector<Candidate>& out) {
  const auto t = static_cast<size_t>(token);
  std::vector<int32_t> rows(always_[t]);
  for (const TopRows::Interval& row : narrowed(token, k)) rows.push_back(row.row);
  std::sort(rows.begin(), rows.end());
  out.resize(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) out[i] = {rows[i], 0};
  executor_.pool.for_range(std::ssize(out), 1, [&](int64_t begin, int64_t end) {
    std::vector<std::byte> bytes(static_cast<size_t>(kMostNeighbours * model_.head.row_bytes));
    for (int64_t first = begin; first < end;) {
      // Neighbouring rows in one call.
      int64_t last = first + 1;
      while (last < end && out[static_cast<size_t>(last)].id == out[static_cast<size_t>(last) - 1].id + 1 &&
             last - first < kMostNeighbours)
        ++last;
      compute_rows(token,
                   std::span(out).subspan(static_cast<size_t>(first), static_cast<size_t>(last - first)),
                   bytes);
      first = last;
    }
  });
  return std::all_of(out.begin(), out.end(), [](const Candidate& c) { return std::isfinite(c.logit); });
}

/// From the file, not from its mapping: a copy of the head stands beside it, and both together must not
/// become resident; and a page mapped for each row costs more than reading it.
void Head::compute_rows(int64_t token, std::span<Candidate> run, std::span<std::byte> bytes) {
  const DenseMatrix& head = model_.head;
  const auto size = run.size() * static_cast<size_t>(head.row_bytes);
  MappedFile::read(head.bytes.subspan(static_cast<size_t>(run.front().id * head.row_bytes), size),
                   bytes.data());
  float y[kMostNeighbours];
  executor_.table.dense_matmul({.dtype = head.dtype,
                                .weights = reinterpret_cast<const uint8_t*>(bytes.data()),
                                .row_bytes = head.row_bytes,
                                .cols = head.cols,
                                .first_row = 0,
                                .last_row = std::ssize(run),
                                .tokens = 1,
                                .x = normed_rows_.row(token),
                                .x_stride = normed_rows_.stride,
                                .y = y,
                                .y_stride = kMostNeighbours});
  for (size_t i = 0; i < run.size(); ++i) run[i].logit = y[i];
}

}  // namespace bitnet
