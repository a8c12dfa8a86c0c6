#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace CLI {  // NOLINT(readability-identifier-naming): CLI11's name
class App;
class Option;
}  // namespace CLI

namespace bitnet::cli {

// What the commands need of CLI11. Only arguments.cpp includes its headers, which take seconds to compile.

/// One option, as its command's help shows it. A handle: copies are the same option.
class Option {
 public:
  explicit Option(CLI::Option& option) : option_(&option) {}

  /// The name of its value in the help.
  Option type_name(const char* name) const;
  /// The heading that it stands under in the help.
  Option group(const char* heading) const;
  /// The help shows the value that the variable has now.
  Option show_default() const;
  Option required() const;
  /// Each value of the option must be one of these, or lie between these, ends included.
  Option one_of(std::initializer_list<std::string> values) const;
  Option between(int64_t least, int64_t most) const;
  Option between_reals(double least, double most) const;
  /// One value may hold several, with this between them.
  Option separator(char separator) const;
  /// A list that takes one value each time the option is given; what follows is not the option's.
  Option one_at_a_time() const;
  /// Not together with the other.
  Option excludes(Option other) const;

 private:
  CLI::Option* option_;
};

/// One command, to which options are added. A handle: copies are the same command. What is added keeps
/// references to its variables, which must live until the arguments are parsed.
class Command {
 public:
  explicit Command(CLI::App& command) : command_(&command) {}

  /// `names`: "-n,--name", or "NAME" for an argument without a dash. T is a type that arguments.cpp lists.
  template <class T>
  Option add_option(const char* names, T& value, const char* text) const;
  /// The value stays empty if the option is not given.
  template <class T>
  Option add_option(const char* names, std::optional<T>& value, const char* text) const;
  Option add_flag(const char* name, bool& value, const char* text) const;

  [[nodiscard]] Command add_command(const char* name, const char* text) const;
  /// What the help ends with.
  void footer(const char* text) const;
  /// Called when all arguments are read and valid, if this command is among them.
  void when_chosen(std::function<void()> action) const;
  [[nodiscard]] bool chosen() const;

 private:
  CLI::App* command_;
};

/// Arguments that ask for nothing. `command` is the one that they were given to, with the program's name.
struct UsageError {
  std::string message;
  std::string command;
};

/// The program itself, which owns its commands and options.
class Arguments {
 public:
  Arguments(const char* program, const char* text);
  ~Arguments();
  Arguments(const Arguments&) = delete;
  Arguments& operator=(const Arguments&) = delete;

  [[nodiscard]] Command program() const;

  /// Sets the variables and calls the actions. Returns the help instead if the arguments ask for it. Throws
  /// UsageError.
  [[nodiscard]] std::optional<std::string> parse(int argc, const char* const* argv);

 private:
  std::unique_ptr<CLI::App> app_;
};

}  // namespace bitnet::cli
