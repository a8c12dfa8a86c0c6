#include "batch_output.h"

#include "bitnet/core/error.h"
#include "csv.h"
#include "terminal.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace bitnet::cli {
namespace {

constexpr std::string_view kTextError = "[error] ";
constexpr std::string_view kCsvHeader = "row,prompt,text,stop_reason,prompt_tokens,tokens,error\r\n";
constexpr size_t kCsvColumns = 7;

std::string json_line(const BatchRow& row, const BatchResult& result) {
  Json json = {{"row", row.number}};
  if (!row.id.empty()) json["id"] = Json::parse(row.id);
  json["prompt"] = row.prompt;
  if (result.error.empty()) {
    json["text"] = result.text;
    json["stop_reason"] = result.stop_reason;
    json["prompt_tokens"] = result.prompt_tokens;
    json["tokens"] = result.tokens;
  } else {
    json["error"] = result.error;
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string csv_line(const BatchRow& row, const BatchResult& result) {
  const std::string prompt = csv_field(row.prompt);
  if (!result.error.empty())
    return fmt::format("{},{},,,,,{}\r\n", row.number, prompt, csv_field(result.error));
  return fmt::format("{},{},{},{},{},{},\r\n", row.number, prompt, csv_field(result.text), result.stop_reason,
                     result.prompt_tokens, result.tokens);
}

std::string text_line(const BatchResult& result) {
  std::string line(result.error.empty() ? "" : kTextError);
  for (const char c : result.error.empty() ? result.text : result.error) {
    switch (c) {
      case '\\':
        line += "\\\\";
        break;
      case '\n':
        line += "\\n";
        break;
      case '\r':
        line += "\\r";
        break;
      default:
        line += c;
    }
  }
  return line + "\n";
}

}  // namespace

BatchOutput::BatchOutput(std::filesystem::path path, Existing existing)
    : path_(std::move(path)), format_(table_format(path_)) {
  const auto fail = [this](std::string_view action) {
    const int reason = errno;
    if (fd_ >= 0) ::close(fd_);
    return Error(ErrorCode::kIo,
                 fmt::format("cannot {} {}: {}", action, path_.string(), std::strerror(reason)),
                 "check that the folder exists and can be written");
  };
  struct stat info {};
  const bool holds_rows = ::stat(path_.c_str(), &info) == 0 && info.st_size > 0;
  if (holds_rows && existing == Existing::kRefuse) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{} already holds something", path_.string()),
                "--resume goes on where it ends, --overwrite begins anew");
  }
  const int64_t end = holds_rows && existing == Existing::kResume ? scan() : 0;
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) throw fail("open");
  // Devices such as /dev/full have no length to set.
  if (::fstat(fd_, &info) == 0 && S_ISREG(info.st_mode) && ::ftruncate(fd_, end) != 0) throw fail("truncate");
  if (format_ == TableFormat::kCsv && end == 0) write_all(fd_, kCsvHeader, path_.string());
}

BatchOutput::~BatchOutput() {
  if (fd_ >= 0) ::close(fd_);
}

void BatchOutput::append(const BatchRow& row, const BatchResult& result) {
  switch (format_) {
    case TableFormat::kText:
      return write_all(fd_, text_line(result), path_.string());
    case TableFormat::kJsonLines:
      return write_all(fd_, json_line(row, result), path_.string());
    case TableFormat::kCsv:
      return write_all(fd_, csv_line(row, result), path_.string());
  }
}

void BatchOutput::keep(int64_t row, bool failed) {
  if (row != kept_rows_ + 1) {
    throw Error(ErrorCode::kCorruptData,
                fmt::format("{} is not an output of bitnet batch: its row {} is missing or broken",
                            path_.string(), kept_rows_ + 1),
                "name another output, or --overwrite this one");
  }
  ++kept_rows_;
  if (failed) ++kept_failures_;
}

int64_t BatchOutput::scan() {
  return format_ == TableFormat::kCsv ? scan_csv() : scan_lines();
}

int64_t BatchOutput::scan_lines() {
  std::ifstream file(path_, std::ios::binary);
  std::string line;
  int64_t end = 0;
  while (std::getline(file, line) && !file.eof()) {
    end += static_cast<int64_t>(line.size()) + 1;
    if (format_ == TableFormat::kText) {
      keep(kept_rows_ + 1, line.starts_with(kTextError));
      continue;
    }
    const Json json = Json::parse(line, nullptr, false);
    const bool valid = json.is_object() && json.contains("row") && json["row"].is_number_integer();
    keep(valid ? json["row"].get<int64_t>() : -1, valid && json.contains("error"));
  }
  return end;
}

int64_t BatchOutput::scan_csv() {
  std::ifstream file(path_, std::ios::binary);
  CsvReader reader(file);
  CsvRecord record;
  int64_t end = 0;
  bool header = true;
  while (reader.next(record) && record.terminated) {
    const bool whole = record.error.empty() && record.fields.size() == kCsvColumns;
    if (std::exchange(header, false)) {
      if (!whole || record.fields[0] != "row") keep(-1, false);
    } else {
      keep(whole && record.fields[0] == std::to_string(kept_rows_ + 1) ? kept_rows_ + 1 : -1,
           whole && !record.fields.back().empty());
    }
    end = reader.offset();
  }
  return end;
}

}  // namespace bitnet::cli
