#include "source_rules.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>

namespace bitnet::architecture {
namespace {

namespace fs = std::filesystem;

/// Public headers, private headers and command lines are three kinds of door: only the first is open to all.
constexpr std::string_view kPublic = "include/";

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  std::istringstream stream{std::string(text)};
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

/// The words in `backquotes` of a table cell; what holds other characters, such as a path, is no room.
std::vector<std::string> quoted_words(std::string_view cell) {
  std::vector<std::string> words;
  for (size_t open = cell.find('`'); open != std::string_view::npos;) {
    const size_t close = cell.find('`', open + 1);
    if (close == std::string_view::npos) break;
    const std::string_view word = cell.substr(open + 1, close - open - 1);
    if (!word.empty() && word.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string_view::npos) {
      words.emplace_back(word);
    }
    open = cell.find('`', close + 1);
  }
  return words;
}

std::string_view without_leading_blanks(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  return first == std::string_view::npos ? std::string_view{} : text.substr(first);
}

bool is_word_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

/// True if `word` stands in the line by itself and not inside a longer name.
bool has_word(std::string_view line, std::string_view word) {
  for (size_t at = line.find(word); at != std::string_view::npos; at = line.find(word, at + 1)) {
    const size_t end = at + word.size();
    const bool starts = at == 0 || !is_word_character(line[at - 1]);
    if (starts && (end == line.size() || !is_word_character(line[end]))) return true;
  }
  return false;
}

std::string read(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(stream), {}};
}

bool users_of_public_headers_only(const std::string& room) {
  return room == "apps" || room == "examples";
}

/// The file of the project that an include names, as the compiler looks it up; empty if there is none.
std::string resolve(const SourceFile& from, const Include& include, const std::set<std::string>& paths) {
  std::vector<fs::path> candidates = {fs::path("include") / include.name, fs::path("src") / include.name};
  if (include.quoted) candidates.insert(candidates.begin(), fs::path(from.path).parent_path() / include.name);
  for (const fs::path& candidate : candidates) {
    const std::string path = candidate.lexically_normal().generic_string();
    if (paths.contains(path)) return path;
  }
  return {};
}

}  // namespace

Rules parse_rules(std::string_view markdown) {
  Rules rules;
  bool inside = false;
  for (const std::string& line : lines_of(markdown)) {
    if (line == "<!-- rooms -->") inside = true;
    if (line == "<!-- /rooms -->") inside = false;
    // | `room` | `may`, `include` | what it must never know |
    if (!inside || !line.starts_with("| `")) continue;
    const size_t first = line.find('|', 1);
    const size_t second = line.find('|', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::vector<std::string> allowed = quoted_words(line.substr(first, second - first));
    for (const std::string& room : quoted_words(line.substr(0, first)))
      rules[room] = {allowed.begin(), allowed.end()};
  }
  if (rules.empty()) throw std::runtime_error("no table of rooms between <!-- rooms --> and <!-- /rooms -->");
  return rules;
}

std::vector<SourceFile> read_sources(const fs::path& repository) {
  static const std::set<std::string> extensions = {".h", ".hpp", ".inc", ".cpp", ".cc", ".cu", ".cuh"};
  std::vector<SourceFile> files;
  for (const char* folder : {"src", "include", "apps", "examples"}) {
    const size_t before = files.size();
    for (const auto& entry : fs::recursive_directory_iterator(repository / folder)) {
      if (!entry.is_regular_file() || !extensions.contains(entry.path().extension().string())) continue;
      files.push_back({fs::relative(entry.path(), repository).generic_string(), read(entry.path())});
    }
    if (files.size() == before) throw std::runtime_error(std::string("no C++ file in ") + folder);
  }
  std::ranges::sort(files, {}, &SourceFile::path);
  return files;
}

std::string room_of(std::string_view path) {
  if (path == "include/bitnet/bitnet.h") return "bitnet";
  for (const std::string_view root : {"src/", "include/bitnet/"}) {
    if (!path.starts_with(root)) continue;
    const std::string_view rest = path.substr(root.size());
    return std::string(rest.substr(0, rest.find('/')));
  }
  for (const std::string_view root : {"apps", "examples"}) {
    if (path.starts_with(root)) return std::string(root);
  }
  return {};
}

std::vector<Include> includes_of(std::string_view text) {
  constexpr std::string_view directive = "include";
  std::vector<Include> includes;
  for (const std::string& line : lines_of(text)) {
    std::string_view rest = without_leading_blanks(line);
    if (!rest.starts_with('#')) continue;
    rest = without_leading_blanks(rest.substr(1));
    if (!rest.starts_with(directive)) continue;
    rest = without_leading_blanks(rest.substr(directive.size()));
    const bool quoted = rest.starts_with('"');
    if (!quoted && !rest.starts_with('<')) continue;
    const size_t end = rest.find(quoted ? '"' : '>', 1);
    if (end != std::string_view::npos) includes.push_back({std::string(rest.substr(1, end - 1)), quoted});
  }
  return includes;
}

std::vector<std::string> broken_includes(const std::vector<SourceFile>& files, const Rules& rules) {
  std::set<std::string> paths;
  for (const SourceFile& file : files) paths.insert(file.path);

  std::vector<std::string> broken;
  for (const SourceFile& file : files) {
    const std::string room = room_of(file.path);
    if (room == "bitnet") continue;  // includes everything, by definition
    const auto rule = rules.find(room);
    if (rule == rules.end()) {
      broken.push_back(file.path + ": room \"" + room + "\" is not in the table");
      continue;
    }
    for (const Include& include : includes_of(file.text)) {
      const std::string target = resolve(file, include, paths);
      const std::string what = file.path + ": includes " + include.name;
      if (target.empty()) {
        // The system's headers stand in angle brackets; the project's exist.
        if (include.quoted || include.name.starts_with("bitnet/"))
          broken.push_back(what + ", which does not exist");
        continue;
      }
      const std::string target_room = room_of(target);
      if (target_room == room) {
        if (file.path.starts_with(kPublic) && !target.starts_with(kPublic)) {
          broken.push_back(what + ": a public header must not need a private one");
        }
        continue;
      }
      if (users_of_public_headers_only(room)) {
        if (!target.starts_with(kPublic)) broken.push_back(what + ": " + room + " see public headers only");
        continue;
      }
      if (!rule->second.contains(target_room)) {
        broken.push_back(what + ": " + room + " must not know " + target_room);
      } else if (file.path.starts_with(kPublic) && !target.starts_with(kPublic)) {
        broken.push_back(what + ": a public header must not need a private one");
      }
    }
  }
  return broken;
}

std::vector<std::string> foreign_public_includes(const std::vector<SourceFile>& files) {
  const auto standard = [](const std::string& name) { return std::ranges::all_of(name, is_word_character); };
  std::vector<std::string> broken;
  for (const SourceFile& file : files) {
    if (!file.path.starts_with(kPublic)) continue;
    for (const Include& include : includes_of(file.text)) {
      if (include.name.starts_with("bitnet/") || standard(include.name)) continue;
      broken.push_back(file.path + ": includes " + include.name + ", which users may not have");
    }
  }
  return broken;
}

std::vector<std::string> overlong_files(const std::vector<SourceFile>& files, size_t max_lines) {
  std::vector<std::string> overlong;
  for (const SourceFile& file : files) {
    const size_t lines = lines_of(file.text).size();
    if (lines > max_lines) overlong.push_back(file.path + ": " + std::to_string(lines) + " lines");
  }
  return overlong;
}

std::vector<std::string> deferred_work(const std::vector<SourceFile>& files) {
  constexpr std::array<std::string_view, 3> marks = {"TODO", "FIXME", "HACK"};
  std::vector<std::string> found;
  for (const SourceFile& file : files) {
    const std::vector<std::string> lines = lines_of(file.text);
    for (size_t i = 0; i < lines.size(); ++i) {
      const auto marked = [&](std::string_view mark) { return has_word(lines[i], mark); };
      if (std::ranges::any_of(marks, marked)) {
        found.push_back(file.path + ":" + std::to_string(i + 1) + ":" + lines[i]);
      }
    }
  }
  return found;
}

}  // namespace bitnet::architecture
