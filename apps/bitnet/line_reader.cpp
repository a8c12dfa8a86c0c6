#include "line_reader.h"

#include "bitnet/core/error.h"
#include "interrupt.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

namespace bitnet::cli {

bool LineReader::take_line(std::string& line) {
  const size_t newline = pending_.find('\n');
  if (newline == std::string::npos && (!ended_ || pending_.empty())) return false;
  line = pending_.substr(0, newline);
  pending_.erase(0, newline == std::string::npos ? newline : newline + 1);
  if (line.ends_with('\r')) line.pop_back();
  return true;
}

LineReader::Status LineReader::next(std::string& line) {
  while (true) {
    if (interrupted()) return Status::kInterrupted;
    if (take_line(line)) return Status::kLine;
    if (ended_) return Status::kEnd;
    std::array<pollfd, 2> waiting = {{{fd_, POLLIN, 0}, {interrupt_fd(), POLLIN, 0}}};
    if (::poll(waiting.data(), waiting.size(), -1) < 0) {
      if (errno == EINTR) continue;
      throw Error(ErrorCode::kIo, fmt::format("cannot wait for input: {}", std::strerror(errno)));
    }
    if (waiting[0].revents == 0) continue;
    std::array<char, 4096> buffer{};
    const ssize_t count = ::read(fd_, buffer.data(), buffer.size());
    if (count > 0) {
      pending_.append(buffer.data(), static_cast<size_t>(count));
    } else if (count == 0) {
      ended_ = true;
    } else if (errno != EINTR && errno != EAGAIN) {
      throw Error(ErrorCode::kIo, fmt::format("cannot read standard input: {}", std::strerror(errno)));
    }
  }
}

}  // namespace bitnet::cli
