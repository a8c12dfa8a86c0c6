#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::architecture {

/// Which rooms the files of a room may include, over and above their own.
using Rules = std::map<std::string, std::set<std::string>>;

struct SourceFile {
  std::string path;  ///< relative to the repository, e.g. "src/io/gguf_reader.cpp"
  std::string text;
};

/// Reads the rules from the table between the lines "<!-- rooms -->" and "<!-- /rooms -->" of
/// docs/ARCHITECTURE.md, so that document and test cannot disagree. Throws std::runtime_error if there is no
/// such table.
[[nodiscard]] Rules parse_rules(std::string_view markdown);

/// All C++ files under src/, include/, apps/ and examples/ of the repository. Throws std::runtime_error if
/// one of src/, include/ and apps/ holds none.
[[nodiscard]] std::vector<SourceFile> read_sources(const std::filesystem::path& repository);

/// "src/<room>/..." and "include/bitnet/<room>/..." belong to <room>, "apps/..." to apps, "examples/..." to
/// examples, include/bitnet/bitnet.h to bitnet. Empty for anything else.
[[nodiscard]] std::string room_of(std::string_view path);

/// The files that a file includes, as written between quotes or angle brackets.
struct Include {
  std::string name;
  bool quoted = false;
};
[[nodiscard]] std::vector<Include> includes_of(std::string_view text);

/// One line for each broken rule; the files must be all that an include of the project may name.
[[nodiscard]] std::vector<std::string> broken_includes(const std::vector<SourceFile>& files,
                                                       const Rules& rules);
/// Public headers may include nothing but the standard library and each other: users have no other headers.
[[nodiscard]] std::vector<std::string> foreign_public_includes(const std::vector<SourceFile>& files);
[[nodiscard]] std::vector<std::string> overlong_files(const std::vector<SourceFile>& files, size_t max_lines);
/// Work that was put off and left in the code.
[[nodiscard]] std::vector<std::string> deferred_work(const std::vector<SourceFile>& files);

}  // namespace bitnet::architecture
