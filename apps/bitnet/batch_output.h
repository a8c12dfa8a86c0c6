#pragma once

#include "batch_input.h"

#include <cstdint>
#include <filesystem>
#include <string>

namespace bitnet::cli {

struct BatchResult {
  std::string text, stop_reason;
  int64_t prompt_tokens = 0, tokens = 0;
  std::string error;  ///< why there is no text; empty if there is one
};

/// The output of `bitnet batch`: one row for each input row, in order, each written at once, so that an
/// interruption leaves whole rows and at most one torn one behind them.
///   jsonl  {"row", "id" (if the input has one), "prompt", "text", "stop_reason", "prompt_tokens", "tokens"}
///          or {"row", "id", "prompt", "error"}
///   csv    columns row, prompt, text, stop_reason, prompt_tokens, tokens, error
///   txt    the text, or "[error] " and why; backslash, newline and carriage return as \\, \n, \r
class BatchOutput {
 public:
  enum class Existing { kRefuse, kResume, kOverwrite };
  /// kRefuse: throws kInvalidArgument if the file holds anything. kResume: keeps the whole rows of an earlier
  /// run and cuts a torn one off; throws kCorruptData if the file is not such an output.
  BatchOutput(std::filesystem::path path, Existing existing);
  BatchOutput(const BatchOutput&) = delete;
  BatchOutput& operator=(const BatchOutput&) = delete;
  ~BatchOutput();

  /// Throws kIo.
  void append(const BatchRow& row, const BatchResult& result);
  /// Rows of an earlier run, and how many of them are errors.
  [[nodiscard]] int64_t kept_rows() const { return kept_rows_; }
  [[nodiscard]] int64_t kept_failures() const { return kept_failures_; }

 private:
  /// Counts the whole rows and returns where they end.
  [[nodiscard]] int64_t scan();
  [[nodiscard]] int64_t scan_lines();
  [[nodiscard]] int64_t scan_csv();
  void keep(int64_t row, bool failed);

  std::filesystem::path path_;
  TableFormat format_;
  int fd_ = -1;
  int64_t kept_rows_ = 0, kept_failures_ = 0;
};

}  // namespace bitnet::cli
