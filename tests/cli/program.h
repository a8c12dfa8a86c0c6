#pragma once

#include <map>
#include <string>
#include <vector>

#include <sys/types.h>

namespace bitnet::testing {

struct ProgramInput {
  std::string standard_input;
  std::map<std::string, std::string>
      environment;          ///< on top of this process's, without its BITNET_ variables
  std::string stdout_path;  ///< a file or device instead of the captured pipe
};

struct ProgramResult {
  int exit_code = -1;  ///< 128 + signal if a signal ended it
  std::string out, err;
};

/// The command line, running: started with arguments, fed, read to its end. The pipes are never terminals.
class RunningProgram {
 public:
  explicit RunningProgram(const std::vector<std::string>& arguments, const ProgramInput& input = {});
  RunningProgram(const RunningProgram&) = delete;
  RunningProgram& operator=(const RunningProgram&) = delete;
  ~RunningProgram();

  /// Waits until the program has written this many bytes to standard output, or has ended.
  void wait_for_output(size_t bytes);
  void send_signal(int signal) const;
  /// Closes the reading end of its standard output, as `head` does when it has seen enough.
  void close_output();
  ProgramResult wait();

 private:
  /// Moves bytes until neither pipe has an end that is open, or `enough` bytes are there.
  void pump(size_t enough);

  pid_t pid_ = -1;
  int in_ = -1, out_ = -1, err_ = -1;
  std::string pending_input_;
  ProgramResult result_;
};

ProgramResult run_program(const std::vector<std::string>& arguments, const ProgramInput& input = {});

}  // namespace bitnet::testing
