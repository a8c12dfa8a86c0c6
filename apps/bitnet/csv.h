#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::cli {

struct CsvRecord {
  std::vector<std::string> fields;
  int64_t line = 0;         ///< where it begins, from 1
  std::string error;        ///< why it breaks RFC 4180; empty if it does not
  bool terminated = false;  ///< it ended in a newline, not in the end of the file
};

/// Records of RFC 4180: quoted fields may hold commas, doubled quotes and newlines; lines end in CR LF or LF.
class CsvReader {
 public:
  explicit CsvReader(std::istream& in) : in_(in) {}

  /// False at the end. A malformed record is returned with its error, and reading goes on behind it.
  bool next(CsvRecord& record);
  /// Bytes read so far.
  [[nodiscard]] int64_t offset() const { return offset_; }

 private:
  int get();
  void read_field(CsvRecord& record, int first);
  void read_quoted(CsvRecord& record);

  std::istream& in_;
  int64_t offset_ = 0;
  int64_t line_ = 1;
  int delimiter_ = 0;  ///< what ended the last field: ',', '\n' or the end of the file
};

/// The field as it is written: in quotes where it needs them.
[[nodiscard]] std::string csv_field(std::string_view text);

}  // namespace bitnet::cli
