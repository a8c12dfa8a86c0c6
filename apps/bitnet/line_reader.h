#pragma once

#include <string>

namespace bitnet::cli {

/// Lines of a file descriptor, with Ctrl-C noticed while it waits.
class LineReader {
 public:
  explicit LineReader(int fd) : fd_(fd) {}

  enum class Status { kLine, kEnd, kInterrupted };
  /// The next line without its newline. A last line without one counts. Throws kIo.
  [[nodiscard]] Status next(std::string& line);

 private:
  [[nodiscard]] bool take_line(std::string& line);

  int fd_;
  bool ended_ = false;
  std::string pending_;
};

}  // namespace bitnet::cli
