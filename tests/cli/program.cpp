#include "program.h"

#include <array>
#include <csignal>
#include <limits>
#include <stdexcept>
#include <string_view>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace bitnet::testing {
namespace {

std::array<int, 2> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2 failed");
  return ends;
}

std::vector<std::string> environment_of(const ProgramInput& input) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!std::string_view(*variable).starts_with("BITNET_")) variables.emplace_back(*variable);
  }
  for (const auto& [name, value] : input.environment) variables.emplace_back(name).append("=").append(value);
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (std::string& string : strings) result.push_back(string.data());
  result.push_back(nullptr);
  return result;
}

void close_end(int& fd) {
  if (fd >= 0) ::close(fd);
  fd = -1;
}

void take(int& fd, std::string& text) {
  std::array<char, 65536> buffer{};
  const ssize_t count = ::read(fd, buffer.data(), buffer.size());
  if (count > 0) {
    text.append(buffer.data(), static_cast<size_t>(count));
  } else {
    close_end(fd);
  }
}

}  // namespace

RunningProgram::RunningProgram(const std::vector<std::string>& arguments, const ProgramInput& input)
    : pending_input_(input.standard_input) {
  // A program that does not read its input must not end the test.
  ::signal(SIGPIPE, SIG_IGN);
  const auto in = make_pipe(), out = make_pipe(), err = make_pipe();
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
  if (input.stdout_path.empty()) {
    ::posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  } else {
    ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, input.stdout_path.c_str(), O_WRONLY, 0);
  }
  ::posix_spawn_file_actions_adddup2(&actions, err[1], STDERR_FILENO);
  std::vector<std::string> words = arguments;
  words.insert(words.begin(), BITNET_CLI);
  std::vector<std::string> variables = environment_of(input);
  const int failure =
      ::posix_spawn(&pid_, BITNET_CLI, &actions, nullptr, pointers(words).data(), pointers(variables).data());
  ::posix_spawn_file_actions_destroy(&actions);
  for (const int end : {in[0], out[1], err[1]}) ::close(end);
  in_ = in[1];
  out_ = out[0];
  err_ = err[0];
  if (failure != 0) throw std::runtime_error("cannot start " BITNET_CLI);
}

RunningProgram::~RunningProgram() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  close_end(in_);
  close_end(out_);
  close_end(err_);
}

void RunningProgram::pump(size_t enough) {
  while ((out_ >= 0 || err_ >= 0) && result_.out.size() < enough) {
    if (pending_input_.empty()) close_end(in_);
    std::array<pollfd, 3> waiting = {{{out_, POLLIN, 0}, {err_, POLLIN, 0}, {in_, POLLOUT, 0}}};
    if (::poll(waiting.data(), waiting.size(), -1) < 0) continue;
    if (waiting[0].revents != 0) take(out_, result_.out);
    if (waiting[1].revents != 0) take(err_, result_.err);
    if (in_ >= 0 && waiting[2].revents != 0) {
      const ssize_t count =
          ::write(in_, pending_input_.data(), std::min<size_t>(pending_input_.size(), 4096));
      pending_input_.erase(0, count > 0 ? static_cast<size_t>(count) : std::string::npos);
    }
  }
}

void RunningProgram::wait_for_output(size_t bytes) {
  pump(bytes);
}

void RunningProgram::send_signal(int signal) const {
  ::kill(pid_, signal);
}

void RunningProgram::close_output() {
  close_end(out_);
}

ProgramResult RunningProgram::wait() {
  pump(std::numeric_limits<size_t>::max());
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  result_.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result_;
}

ProgramResult run_program(const std::vector<std::string>& arguments, const ProgramInput& input) {
  return RunningProgram(arguments, input).wait();
}

}  // namespace bitnet::testing
