#include "interrupt.h"

#include "bitnet/core/error.h"
#include "errors.h"

#include <array>
#include <cerrno>
#include <csignal>

#include <fcntl.h>
#include <unistd.h>

namespace bitnet::cli {
namespace {

constexpr int kPatience = 3;

std::atomic<bool> g_interrupted{false};
std::atomic<int> g_count{0};
std::atomic<int> g_scopes{0};
std::array<int, 2> g_pipe = {-1, -1};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "a signal handler may touch lock-free atomics only");

void on_interrupt(int) {
  const int saved = errno;
  if (g_scopes.load() == 0 || g_count.fetch_add(1) + 1 >= kPatience) ::_exit(kExitInterrupted);
  g_interrupted = true;
  const char byte = 0;
  [[maybe_unused]] const ssize_t written = ::write(g_pipe[1], &byte, 1);
  errno = saved;
}

}  // namespace

void install_interrupt_handler() {
  if (::pipe2(g_pipe.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
    throw Error(ErrorCode::kIo, "cannot create a pipe for signals");
  }
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
}

InterruptScope::InterruptScope() {
  ++g_scopes;
}
InterruptScope::~InterruptScope() {
  --g_scopes;
}

const std::atomic<bool>& interrupted() {
  return g_interrupted;
}

void throw_if_interrupted() {
  if (g_interrupted) throw Error(ErrorCode::kCancelled, "interrupted");
}

void clear_interrupt() {
  std::array<char, 64> discarded{};
  while (::read(g_pipe[0], discarded.data(), discarded.size()) > 0) continue;
  g_count = 0;
  g_interrupted = false;
}

int interrupt_fd() {
  return g_pipe[0];
}

}  // namespace bitnet::cli
