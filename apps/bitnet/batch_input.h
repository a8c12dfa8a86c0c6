#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace bitnet::cli {

enum class TableFormat { kText, kJsonLines, kCsv };
/// From the extension: .txt, .jsonl, .csv. Throws kInvalidArgument.
[[nodiscard]] TableFormat table_format(const std::filesystem::path& path);

struct BatchRow {
  int64_t number = 0;  ///< from 1
  int64_t line = 0;    ///< of the file
  std::string prompt;
  std::string id;     ///< "id" of a JSON row, as JSON; empty if it has none
  std::string error;  ///< why there is no prompt; empty if there is one
};

/// The rows of a file of prompts, one at a time. A bad row comes with its error.
///   txt    a line is a prompt
///   jsonl  a line is {"prompt": "...", "id": anything}
///   csv    the column "prompt" of the header; without such a header, the first column and no header
/// Blank lines are no rows. A byte order mark is skipped.
class BatchInput {
 public:
  virtual ~BatchInput() = default;
  /// Throws kNotFound or kIo.
  static std::unique_ptr<BatchInput> open(const std::filesystem::path& path);

  /// False at the end.
  bool next(BatchRow& row);
  /// For progress.
  [[nodiscard]] virtual int64_t bytes_read() const = 0;
  [[nodiscard]] int64_t bytes_total() const { return bytes_total_; }

 protected:
  [[nodiscard]] virtual bool read(BatchRow& row) = 0;

 private:
  int64_t rows_ = 0;
  int64_t bytes_total_ = 0;
};

}  // namespace bitnet::cli
