#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

namespace bitnet::testing {

/// A limit of its own for a part of a test that may hang: TestTimeout("name", seconds).run(body). A thread
/// cannot be ended from outside, so one that runs too long ends the process, with a message that names it;
/// every TEST is a process of its own under CTest. Limits are multiplied by BITNET_TEST_TIMEOUT_SCALE, as
/// CTest's are.
class TestTimeout {
 public:
  TestTimeout(std::string name, double seconds)
      : name_(std::move(name)), limit_(seconds * BITNET_TEST_TIMEOUT_SCALE) {}

  /// Calls body() on this thread and returns what it returns; exceptions go through.
  template <class Body>
  decltype(auto) run(Body&& body) const {
    const Watchdog watchdog(*this);
    return std::forward<Body>(body)();
  }

 private:
  using Seconds = std::chrono::duration<double>;

  /// Ends the process unless it is destroyed within the limit.
  class Watchdog {
   public:
    explicit Watchdog(const TestTimeout& timeout) : thread_([this, &timeout] { watch(timeout); }) {}
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;
    ~Watchdog() {
      {
        const std::scoped_lock lock(mutex_);
        done_ = true;
      }
      changed_.notify_one();
      thread_.join();
    }

   private:
    void watch(const TestTimeout& timeout) {
      std::unique_lock lock(mutex_);
      if (changed_.wait_for(lock, timeout.limit_, [this] { return done_; })) return;
      std::fprintf(stderr, "%s ran longer than %g s\n", timeout.name_.c_str(), timeout.limit_.count());
      std::_Exit(kExitCode);
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    bool done_ = false;
    std::thread thread_;  // last: it uses the others
  };

 public:
  static constexpr int kExitCode = 124;  ///< that of timeout(1)

 private:
  std::string name_;
  Seconds limit_;
};

}  // namespace bitnet::testing
