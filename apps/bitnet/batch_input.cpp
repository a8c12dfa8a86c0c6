#include "batch_input.h"

#include "bitnet/core/error.h"
#include "csv.h"
#include "terminal.h"
#include "text.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

/// The base of txt and jsonl.
class LineInput : public BatchInput {
 public:
  explicit LineInput(std::ifstream file) : file_(std::move(file)) {}
  [[nodiscard]] int64_t bytes_read() const override { return bytes_read_; }

 protected:
  virtual void parse(std::string line, BatchRow& row) = 0;

  [[nodiscard]] bool read(BatchRow& row) override {
    std::string line;
    while (std::getline(file_, line)) {
      ++line_;
      bytes_read_ += static_cast<int64_t>(line.size()) + 1;
      if (line.ends_with('\r')) line.pop_back();
      if (is_blank(line)) continue;
      row.line = line_;
      parse(std::move(line), row);
      return true;
    }
    return false;
  }

 private:
  std::ifstream file_;
  int64_t line_ = 0;
  int64_t bytes_read_ = 0;
};

class TextInput : public LineInput {
 public:
  using LineInput::LineInput;

 protected:
  void parse(std::string line, BatchRow& row) override { row.prompt = std::move(line); }
};

class JsonLinesInput : public LineInput {
 public:
  using LineInput::LineInput;

 protected:
  void parse(std::string line, BatchRow& row) override {
    // The parser would say so too, but not with the byte.
    if (const auto at = find_invalid_utf8(line)) {
      row.error = fmt::format("invalid UTF-8 at byte {}", *at);
      return;
    }
    try {
      const Json json = Json::parse(line);
      if (!json.is_object()) {
        row.error = "not a JSON object";
        return;
      }
      if (json.contains("id")) row.id = json["id"].dump();
      if (!json.contains("prompt")) {
        row.error = "no field \"prompt\"";
      } else if (!json["prompt"].is_string()) {
        row.error = "\"prompt\" is not a string";
      } else {
        row.prompt = json["prompt"];
      }
    } catch (const Json::exception& error) {
      row.error = fmt::format("invalid JSON: {}", error.what());
    }
  }
};

class CsvInput : public BatchInput {
 public:
  explicit CsvInput(std::ifstream file) : file_(std::move(file)), reader_(file_) {
    if (!reader_.next(record_)) return;
    for (size_t i = 0; i < record_.fields.size(); ++i) {
      if (record_.fields[i] == "prompt") column_ = i;
    }
    pending_ = !column_;
  }
  [[nodiscard]] int64_t bytes_read() const override { return reader_.offset(); }

 protected:
  [[nodiscard]] bool read(BatchRow& row) override {
    do {
      if (!std::exchange(pending_, false) && !reader_.next(record_)) return false;
    } while (record_.fields.size() == 1 && is_blank(record_.fields[0]) && record_.error.empty());
    row.line = record_.line;
    const size_t column = column_.value_or(0);
    if (!record_.error.empty()) {
      row.error = fmt::format("invalid CSV: {}", record_.error);
    } else if (column >= record_.fields.size()) {
      row.error = fmt::format("no column \"prompt\": the row has {} of {} columns", record_.fields.size(),
                              column + 1);
    } else {
      row.prompt = std::move(record_.fields[column]);
    }
    return true;
  }

 private:
  std::ifstream file_;
  CsvReader reader_;
  CsvRecord record_;
  bool pending_ = false;  ///< record_ is a row that was read while looking for the header
  std::optional<size_t> column_;
};

std::ifstream open_file(const std::filesystem::path& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path)) {
    const int reason = file ? EISDIR : errno;
    throw Error(reason == ENOENT || reason == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo,
                fmt::format("cannot open {}: {}", path.string(), std::strerror(reason)),
                "check the path and its permissions");
  }
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  std::string start(kByteOrderMark.size(), '\0');
  file.read(start.data(), static_cast<std::streamsize>(start.size()));
  if (start != kByteOrderMark) {
    file.clear();
    file.seekg(0);
  }
  return file;
}

std::unique_ptr<BatchInput> make_input(TableFormat format, std::ifstream file) {
  switch (format) {
    case TableFormat::kText:
      return std::make_unique<TextInput>(std::move(file));
    case TableFormat::kJsonLines:
      return std::make_unique<JsonLinesInput>(std::move(file));
    case TableFormat::kCsv:
      return std::make_unique<CsvInput>(std::move(file));
  }
  throw Error(ErrorCode::kInternal, "no such table format");
}

}  // namespace

TableFormat table_format(const std::filesystem::path& path) {
  const std::string extension = path.extension().string();
  if (extension == ".txt") return TableFormat::kText;
  if (extension == ".jsonl") return TableFormat::kJsonLines;
  if (extension == ".csv") return TableFormat::kCsv;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("cannot tell the format of {} from its extension '{}'", path.string(), extension),
              "name the file .txt, .jsonl or .csv");
}

std::unique_ptr<BatchInput> BatchInput::open(const std::filesystem::path& path) {
  auto input = make_input(table_format(path), open_file(path));
  std::error_code unknown;
  const auto size = std::filesystem::file_size(path, unknown);
  input->bytes_total_ = unknown ? 0 : static_cast<int64_t>(size);
  return input;
}

bool BatchInput::next(BatchRow& row) {
  row = {};
  if (!read(row)) return false;
  row.number = ++rows_;
  const auto at = find_invalid_utf8(row.prompt);
  if (row.error.empty() && at) row.error = fmt::format("invalid UTF-8 at byte {}", *at);
  return true;
}

}  // namespace bitnet::cli
