#include "arguments.h"

#include <sstream>
#include <utility>

#include <CLI/CLI.hpp>

namespace bitnet::cli {

Option Option::type_name(const char* name) const {
  option_->type_name(name);
  return *this;
}

Option Option::group(const char* heading) const {
  option_->group(heading);
  return *this;
}

Option Option::show_default() const {
  option_->capture_default_str();
  return *this;
}

Option Option::required() const {
  option_->required();
  return *this;
}

Option Option::one_of(std::initializer_list<std::string> values) const {
  option_->check(CLI::IsMember(values));
  return *this;
}

Option Option::between(int64_t least, int64_t most) const {
  option_->check(CLI::Range(least, most));
  return *this;
}

Option Option::between_reals(double least, double most) const {
  option_->check(CLI::Range(least, most));
  return *this;
}

Option Option::separator(char separator) const {
  option_->delimiter(separator);
  return *this;
}

Option Option::one_at_a_time() const {
  option_->allow_extra_args(false);
  return *this;
}

Option Option::excludes(Option other) const {
  option_->excludes(other.option_);
  return *this;
}

template <class T>
Option Command::add_option(const char* names, T& value, const char* text) const {
  return Option(*command_->add_option(names, value, text));
}

template <class T>
Option Command::add_option(const char* names, std::optional<T>& value, const char* text) const {
  // CLI11's own support of optional would leave it empty for an empty text.
  return Option(*command_->add_option_function<T>(
      names, [&value](const T& given) { value = given; }, text));
}

// The types of the commands' options.
template Option Command::add_option(const char* names, std::string& value, const char* text) const;
template Option Command::add_option(const char* names, int32_t& value, const char* text) const;
template Option Command::add_option(const char* names, int64_t& value, const char* text) const;
template Option Command::add_option(const char* names, uint64_t& value, const char* text) const;
template Option Command::add_option(const char* names, float& value, const char* text) const;
template Option Command::add_option(const char* names, std::vector<std::string>& value,
                                    const char* text) const;
template Option Command::add_option(const char* names, std::vector<int32_t>& value, const char* text) const;
template Option Command::add_option(const char* names, std::vector<int64_t>& value, const char* text) const;
template Option Command::add_option(const char* names, std::optional<std::string>& value,
                                    const char* text) const;
template Option Command::add_option(const char* names, std::optional<int64_t>& value, const char* text) const;
template Option Command::add_option(const char* names, std::optional<double>& value, const char* text) const;

Option Command::add_flag(const char* name, bool& value, const char* text) const {
  return Option(*command_->add_flag(name, value, text));
}

Command Command::add_command(const char* name, const char* text) const {
  return Command(*command_->add_subcommand(name, text));
}

void Command::footer(const char* text) const {
  command_->footer(text);
}

void Command::when_chosen(std::function<void()> action) const {
  command_->final_callback(std::move(action));
}

bool Command::chosen() const {
  return command_->parsed();
}

Arguments::Arguments(const char* program, const char* text)
    : app_(std::make_unique<CLI::App>(text, program)) {
  app_->require_subcommand(0, 1);
}

Arguments::~Arguments() = default;

Command Arguments::program() const {
  return Command(*app_);
}

std::optional<std::string> Arguments::parse(int argc, const char* const* argv) {
  try {
    app_->parse(argc, argv);
  } catch (const CLI::CallForHelp& request) {
    std::ostringstream help;
    app_->exit(request, help, help);
    return help.str();
  } catch (const CLI::ParseError& error) {
    const auto chosen = app_->get_subcommands();
    const std::string command = chosen.empty() ? "" : " " + chosen.front()->get_name();
    throw UsageError{error.what(), app_->get_name() + command};
  }
  return std::nullopt;
}

}  // namespace bitnet::cli
