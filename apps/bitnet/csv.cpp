#include "csv.h"

namespace bitnet::cli {
namespace {

constexpr int kEnd = std::istream::traits_type::eof();

}  // namespace

int CsvReader::get() {
  int c = in_.get();
  if (c == kEnd) return c;
  ++offset_;
  if (c == '\r' && in_.peek() == '\n') {
    c = in_.get();
    ++offset_;
  }
  if (c == '\n') ++line_;
  return c;
}

void CsvReader::read_quoted(CsvRecord& record) {
  std::string& field = record.fields.back();
  while (true) {
    // Not get(): inside quotes CR LF is data.
    const int c = in_.get();
    if (c == kEnd) {
      record.error = "a quoted field is not closed";
      delimiter_ = kEnd;
      return;
    }
    ++offset_;
    if (c == '\n') ++line_;
    if (c != '"') {
      field += static_cast<char>(c);
    } else if (in_.peek() == '"') {
      field += '"';
      in_.get();
      ++offset_;
    } else {
      break;
    }
  }
  for (delimiter_ = get(); delimiter_ != ',' && delimiter_ != '\n' && delimiter_ != kEnd;
       delimiter_ = get()) {
    record.error = "text after a closing quote";
    field += static_cast<char>(delimiter_);
  }
}

void CsvReader::read_field(CsvRecord& record, int first) {
  record.fields.emplace_back();
  if (first == '"') return read_quoted(record);
  for (delimiter_ = first; delimiter_ != ',' && delimiter_ != '\n' && delimiter_ != kEnd;
       delimiter_ = get()) {
    if (delimiter_ == '"') record.error = "a quote inside a field without quotes";
    record.fields.back() += static_cast<char>(delimiter_);
  }
}

bool CsvReader::next(CsvRecord& record) {
  record = {};
  record.line = line_;
  const int first = get();
  if (first == kEnd) return false;
  read_field(record, first);
  while (delimiter_ == ',') read_field(record, get());
  record.terminated = delimiter_ == '\n';
  return true;
}

std::string csv_field(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string field = "\"";
  for (const char c : text) {
    if (c == '"') field += '"';
    field += c;
  }
  return field + '"';
}

}  // namespace bitnet::cli
