#pragma once

#include <atomic>

namespace bitnet::cli {

/// What Ctrl-C (SIGINT) does. Without an InterruptScope it ends the program at once with exit code 130. While
/// a scope lives it only sets interrupted(), for work that can stop cleanly; the third Ctrl-C in a row ends
/// the program even then, for work that takes too long to look.
void install_interrupt_handler();

class InterruptScope {
 public:
  InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;
  ~InterruptScope();
};

[[nodiscard]] const std::atomic<bool>& interrupted();
/// Throws kCancelled if interrupted().
void throw_if_interrupted();
/// Forgets the interrupts so far.
void clear_interrupt();
/// Becomes readable on an interrupt, for poll(); a flag alone can be set just before a blocking call.
[[nodiscard]] int interrupt_fd();

}  // namespace bitnet::cli
