#include "terminal.h"

#include "bitnet/core/error.h"
#include "text.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace bitnet::cli {

bool stdin_is_terminal() {
  return ::isatty(STDIN_FILENO) == 1;
}
bool stdout_is_terminal() {
  return ::isatty(STDOUT_FILENO) == 1;
}
bool stderr_is_terminal() {
  return ::isatty(STDERR_FILENO) == 1;
}

void reserve_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    // Read-only for all three: writing to a closed standard output must stay an error.
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF && ::open("/dev/null", O_RDONLY) < 0) return;
  }
}

void write_all(int fd, std::string_view text, std::string_view what) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      const int reason = errno;
      throw Error(ErrorCode::kIo, fmt::format("cannot write to {}: {}", what, std::strerror(reason)),
                  reason == ENOSPC ? "free some disk space" : "");
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
}

void write_out(std::string_view text) {
  write_all(STDOUT_FILENO, text, "standard output");
}

void write_generated(std::string_view text) {
  static const bool terminal = stdout_is_terminal();
  write_out(terminal ? escape_controls(text, KeepLayout::kYes) : std::string(text));
}

void write_err(std::string_view text) {
  try {
    write_all(STDERR_FILENO, text, "standard error");
  } catch (const Error&) {
    return;
  }
}

void print_json(const Json& value) {
  write_out(value.dump(-1, ' ', stdout_is_terminal(), Json::error_handler_t::replace) + "\n");
}

}  // namespace bitnet::cli
