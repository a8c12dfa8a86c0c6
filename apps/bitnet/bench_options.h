#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace bitnet::cli {

struct BenchOptions {
  std::vector<int64_t> prefill = {512};
  std::vector<int64_t> decode = {128};
  std::vector<int64_t> depths = {0};
  std::vector<int64_t> sequences = {1};
  std::string fill_by = "batch";
  std::vector<int> threads;
  int repeats = 3;
  int warmup = 1;
  std::string kv = "f32";
  bool exact_head = false;
  bool sample = false;
  bool startup = false, roofline = false, kernels = false;
  std::string compare;              ///< a file of an earlier --json; empty: none
  std::string history;              ///< a file of earlier runs, to compare with and to add to; empty: none
  std::optional<double> threshold;  ///< percent
};

}  // namespace bitnet::cli
