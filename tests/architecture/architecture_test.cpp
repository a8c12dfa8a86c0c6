#include "source_rules.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bitnet::architecture {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr size_t kMaxLines = 500;

const std::filesystem::path kRepository = BITNET_SOURCE_DIR;

Rules repository_rules() {
  std::ifstream stream(kRepository / "docs/ARCHITECTURE.md");
  return parse_rules(std::string(std::istreambuf_iterator<char>(stream), {}));
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

TEST(Architecture, IncludesPointDownwards) {
  const auto broken = broken_includes(read_sources(kRepository), repository_rules());
  EXPECT_TRUE(broken.empty()) << joined(broken) << "The table is in docs/ARCHITECTURE.md.";
}

TEST(Architecture, PublicHeadersNeedNothingButTheStandardLibrary) {
  const auto broken = foreign_public_includes(read_sources(kRepository));
  EXPECT_TRUE(broken.empty()) << joined(broken);
}

TEST(Architecture, OneHeaderIncludesEveryPublicHeader) {
  std::string umbrella;
  std::vector<std::string> wanted;
  for (const SourceFile& file : read_sources(kRepository)) {
    if (file.path == "include/bitnet/bitnet.h") {
      umbrella = file.text;
    } else if (file.path.starts_with("include/")) {
      wanted.push_back("#include \"" + file.path.substr(std::string("include/").size()) + "\"");
    }
  }
  ASSERT_FALSE(wanted.empty());
  for (const std::string& line : wanted) EXPECT_THAT(umbrella, HasSubstr(line));
}

TEST(Architecture, FilesFitAReader) {
  const auto overlong = overlong_files(read_sources(kRepository), kMaxLines);
  EXPECT_TRUE(overlong.empty()) << joined(overlong) << "The limit is " << kMaxLines << ".";
}

TEST(Architecture, NoWorkIsPutOffInTheCode) {
  const auto found = deferred_work(read_sources(kRepository));
  EXPECT_TRUE(found.empty()) << joined(found);
}

TEST(Architecture, TheTableItselfPointsDownwards) {
  const Rules rules = repository_rules();
  for (const auto& [room, allowed] : rules) {
    for (const std::string& lower : allowed) {
      ASSERT_TRUE(rules.contains(lower)) << room << " may include " << lower << ", which is not in the table";
      EXPECT_FALSE(rules.at(lower).contains(room)) << room << " and " << lower << " may include each other";
    }
  }
}

// The guards themselves: each must see a violation planted for it, and fail where it cannot look.

const Rules kTwoRooms = {{"core", {}}, {"io", {"core"}}, {"apps", {}}};

TEST(ArchitectureGuard, SeesAnIncludeThatPointsUpwards) {
  const std::vector<SourceFile> files = {{"src/core/error.cpp", "#include \"bitnet/io/gguf.h\"\n"},
                                         {"include/bitnet/io/gguf.h", "#include \"bitnet/core/error.h\"\n"},
                                         {"include/bitnet/core/error.h", "#include <string>\n"}};
  EXPECT_THAT(broken_includes(files, kTwoRooms), ElementsAre(HasSubstr("core must not know io")));
}

TEST(ArchitectureGuard, SeesAnglesAndBlanksAndPathsThatClimb) {
  const std::vector<SourceFile> files = {{"src/core/a.cpp", "#include <bitnet/io/gguf.h>\n"},
                                         {"src/core/b.cpp", "  #  include \"../io/private.h\"\n"},
                                         {"src/io/private.h", ""},
                                         {"include/bitnet/io/gguf.h", ""}};
  EXPECT_THAT(broken_includes(files, kTwoRooms),
              ElementsAre(HasSubstr("src/core/a.cpp"), HasSubstr("src/core/b.cpp")));
}

TEST(ArchitectureGuard, SeesPrivateHeadersWhereOnlyPublicOnesBelong) {
  const std::vector<SourceFile> files = {
      {"apps/bitnet/main.cpp",
       "#include \"io/private.h\"\n#include \"commands.h\"\n#include \"bitnet/bitnet.h\"\n"},
      {"apps/bitnet/commands.h", ""},
      {"include/bitnet/bitnet.h", ""},
      {"include/bitnet/io/gguf.h", "#include \"io/private.h\"\n"},
      {"src/io/private.h", ""}};
  EXPECT_THAT(broken_includes(files, kTwoRooms),
              ElementsAre(HasSubstr("apps see public headers only"), HasSubstr("include/bitnet/io/gguf.h")));
}

TEST(ArchitectureGuard, SeesTheUmbrellaHeaderInsideTheLibrary) {
  const std::vector<SourceFile> files = {{"src/io/a.cpp", "#include \"bitnet/bitnet.h\"\n"},
                                         {"include/bitnet/bitnet.h", ""}};
  EXPECT_THAT(broken_includes(files, kTwoRooms), ElementsAre(HasSubstr("io must not know bitnet")));
}

TEST(ArchitectureGuard, SeesRoomsAndFilesThatDoNotExist) {
  const std::vector<SourceFile> files = {{"src/core/a.cpp", "#include \"core/gone.h\"\n"},
                                         {"src/utils/b.cpp", ""}};
  EXPECT_THAT(broken_includes(files, kTwoRooms),
              ElementsAre(HasSubstr("does not exist"), HasSubstr("\"utils\" is not in the table")));
}

TEST(ArchitectureGuard, LetsWhatIsAllowedPass) {
  const std::vector<SourceFile> files = {{"src/io/a.cpp", "#include \"io/private.h\"\n#include <pcre2.h>\n"},
                                         {"src/io/private.h", "#include \"bitnet/core/error.h\"\n"},
                                         {"include/bitnet/core/error.h", "#include <string>\n"}};
  EXPECT_THAT(broken_includes(files, kTwoRooms), IsEmpty());
}

TEST(ArchitectureGuard, SeesThirdPartyHeadersInPublicOnes) {
  const std::vector<SourceFile> files = {
      {"include/bitnet/io/a.h", "#include <fmt/format.h>\n#include <cstdint>\n"},
      {"src/io/a.cpp", "#include <fmt/format.h>\n"}};
  EXPECT_THAT(foreign_public_includes(files), ElementsAre(HasSubstr("fmt/format.h")));
}

TEST(ArchitectureGuard, SeesLongFilesAndDeferredWork) {
  const std::vector<SourceFile> files = {{"src/io/a.cpp", "int a;\nint b;\n// TODO: later\n"}};
  EXPECT_THAT(overlong_files(files, 2), ElementsAre("src/io/a.cpp: 3 lines"));
  EXPECT_THAT(overlong_files(files, 3), IsEmpty());
  EXPECT_THAT(deferred_work(files), ElementsAre(HasSubstr("src/io/a.cpp:3:")));
}

TEST(ArchitectureGuard, FailsWhereItCannotLook) {
  EXPECT_THROW((void)read_sources(kRepository / "docs"), std::exception);
  EXPECT_THROW((void)parse_rules("# No table here\n"), std::runtime_error);
}

TEST(ArchitectureGuard, ReadsTheTable) {
  const Rules rules = parse_rules(
      "<!-- rooms -->\n| room | may include |\n|---|---|\n| `core` | nothing | all |\n"
      "| `io`, `model` | `core` | `kernels` |\n<!-- /rooms -->\n| `other` | `core` | |\n");
  EXPECT_EQ(rules, (Rules{{"core", {}}, {"io", {"core"}}, {"model", {"core"}}}));
}

}  // namespace
}  // namespace bitnet::architecture
