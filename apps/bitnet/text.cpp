#include "text.h"

#include "bitnet/core/error.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace bitnet::cli {
namespace {

struct CodePoint {
  uint32_t value = 0;
  size_t bytes = 0;  ///< 0: the text does not begin with valid UTF-8
};

/// The first character; overlong forms, surrogates and values beyond U+10FFFF are invalid (RFC 3629).
CodePoint first_code_point(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {lead, 1};
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return {};
  uint32_t value = lead & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte & 0xc0) != 0x80) return {};
    value = (value << 6) | (byte & 0x3fu);
  }
  constexpr std::array<uint32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  if (value < kSmallest[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return {};
  return {value, length};
}

bool acts_on_terminals(uint32_t value) {
  const bool control = value < 0x20 || (value >= 0x7f && value < 0xa0);
  const bool separator = value == 0x2028 || value == 0x2029;
  const bool bidirectional = value == 0x200e || value == 0x200f || value == 0x61c ||
                             (value >= 0x202a && value <= 0x202e) || (value >= 0x2066 && value <= 0x2069);
  return control || separator || bidirectional;
}

std::string escaped(uint32_t value) {
  switch (value) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      return value < 0x100 ? fmt::format("\\x{:02x}", value) : fmt::format("\\u{{{:04x}}}", value);
  }
}

}  // namespace

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = first_code_point(text.substr(at));
    if (point.bytes == 0) return at;
    at += point.bytes;
  }
  return std::nullopt;
}

std::string escape_controls(std::string_view text, KeepLayout layout) {
  std::string safe;
  safe.reserve(text.size());
  while (!text.empty()) {
    const CodePoint point = first_code_point(text);
    const size_t bytes = std::max<size_t>(point.bytes, 1);
    const bool kept = layout == KeepLayout::kYes && (text[0] == '\n' || text[0] == '\t');
    if (point.bytes == 0) {
      safe += escaped(static_cast<unsigned char>(text[0]));
    } else if (acts_on_terminals(point.value) && !kept) {
      safe += escaped(point.value);
    } else {
      safe += text.substr(0, bytes);
    }
    text.remove_prefix(bytes);
  }
  return safe;
}

std::string in_quotes(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return escape_controls(result + "\"");
}

std::vector<int32_t> parse_ids(std::string_view text) {
  std::vector<int32_t> ids;
  constexpr std::string_view kSpaces = " \t\r\n";
  bool after_comma = true;  // a comma must stand between ids, not before, after or beside another
  while (true) {
    text.remove_prefix(std::min(text.find_first_not_of(kSpaces), text.size()));
    if (text.empty()) break;
    if (text[0] == ',' && !after_comma) {
      after_comma = true;
      text.remove_prefix(1);
      continue;
    }
    int32_t id = -1;
    const size_t length = std::min(text.find_first_of(" \t\r\n,"), text.size());
    const auto [end, failure] = std::from_chars(text.data(), text.data() + length, id);
    if (failure != std::errc{} || end != text.data() + length || id < 0) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("'{}' is not a token id", text.substr(0, std::max<size_t>(length, 1))),
                  "give non-negative integers separated by commas, e.g. --ids 1,2,3");
    }
    ids.push_back(id);
    after_comma = false;
    text.remove_prefix(length);
  }
  if (ids.empty() || after_comma) {
    throw Error(ErrorCode::kInvalidArgument,
                ids.empty() ? "no token ids were given" : "the token ids end in a comma",
                "give non-negative integers separated by commas, e.g. --ids 1,2,3");
  }
  return ids;
}

void check_ids(std::span<const int32_t> ids, int64_t vocab_size) {
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("token id {} is outside the model's vocabulary of {}", id, vocab_size),
                  fmt::format("ids go from 0 to {}", vocab_size - 1));
    }
  }
}

std::string read_input(const std::string& path) {
  const bool standard = path == "-";
  const int fd = standard ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const auto fail = [&](int reason, std::string_view action) {
    const ErrorCode code = reason == ENOENT || reason == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo;
    return Error(
        code,
        fmt::format("cannot {} {}: {}", action, standard ? "standard input" : path, std::strerror(reason)),
        "check the path and its permissions");
  };
  if (fd < 0) throw fail(errno, "open");
  std::string content;
  std::array<char, 65536> buffer{};
  ssize_t count = 0;
  while ((count = ::read(fd, buffer.data(), buffer.size())) != 0) {
    if (count > 0) {
      content.append(buffer.data(), static_cast<size_t>(count));
    } else if (errno != EINTR) {
      const int reason = errno;
      if (!standard) ::close(fd);
      throw fail(reason, "read");
    }
  }
  if (!standard) ::close(fd);
  return content;
}

std::string format_bytes(int64_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  constexpr std::array<std::string_view, 4> kUnits = {"kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes) / 1000;
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{:.3g} {}", value, kUnits[unit]);
}

}  // namespace bitnet::cli
