#include "bitnet/core/atomic_file.h"
#include "bitnet/core/error.h"
#include "bitnet/core/mapped_file.h"
#include "temporary_folder.h"

#include <algorithm>
#include <fstream>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

namespace bitnet {
namespace {

std::string slurp(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

size_t files_in(const std::filesystem::path& folder) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

TEST(MappedFile, ShowsTheBytesAndSurvivesDroppingThem) {
  const testing::TemporaryFolder folder;
  std::string text(100000, 'x');
  text[70000] = 'y';
  std::ofstream(folder / "a") << text;
  MappedFile file = MappedFile::open(folder / "a");
  const MappedFile moved = std::move(file);
  ASSERT_EQ(moved.bytes().size(), text.size());
  MappedFile::drop_resident(moved.bytes());
  EXPECT_EQ(static_cast<char>(moved.bytes()[70000]), 'y');
}

TEST(MappedFile, ReadsAPartAsItIsMapped) {
  const testing::TemporaryFolder folder;
  std::string text(100'000, '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * i >> 3);
  std::ofstream(folder / "a", std::ios::binary) << text;
  std::ofstream(folder / "b") << "other";
  MappedFile first = MappedFile::open(folder / "a");
  const MappedFile other = MappedFile::open(folder / "b"), file = std::move(first);
  const auto read = [](std::span<const std::byte> part) {
    std::vector<std::byte> out(part.size());
    MappedFile::read(part, out.data());
    return std::equal(out.begin(), out.end(), part.begin(), part.end());
  };
  EXPECT_TRUE(read(file.bytes()));
  EXPECT_TRUE(read(file.bytes().subspan(4095, 70'000)));
  EXPECT_TRUE(read(file.bytes().last(1)));
  EXPECT_TRUE(read(file.bytes().last(0)));
  EXPECT_TRUE(read(other.bytes()));
  EXPECT_TRUE(read(std::as_bytes(std::span(text)))) << "memory of no file";
  std::filesystem::resize_file(folder / "a", 5000);
  EXPECT_TRUE(read(file.bytes().first(5000)));
  std::vector<std::byte> out(2);
  EXPECT_THROW(MappedFile::read(file.bytes().subspan(4999, 2), out.data()), Error);
}

TEST(MappedFile, AnEmptyFileIsEmptyAndMissingOnesAndFoldersAreErrors) {
  const testing::TemporaryFolder folder;
  std::ofstream(folder / "empty").close();
  EXPECT_TRUE(MappedFile::open(folder / "empty").bytes().empty());
  try {
    (void)MappedFile::open(folder / "absent");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_NE(std::string(error.what()).find("absent"), std::string::npos);
  }
  EXPECT_THROW((void)MappedFile::open(folder.path()), Error);
}

TEST(AtomicFile, TheTargetAppearsAtCommit) {
  const testing::TemporaryFolder folder;
  AtomicFile file(folder / "out");
  file.write("hello ");
  file.write("world");
  file.write_at(0, std::as_bytes(std::span("J", 1)));
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
  file.commit();
  EXPECT_EQ(slurp(folder / "out"), "Jello world");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(AtomicFile, WithoutCommitTheOldFileStaysAndNothingIsLeftBehind) {
  const testing::TemporaryFolder folder;
  std::ofstream(folder / "out") << "old";
  {
    AtomicFile file(folder / "out");
    file.write("new");
  }
  EXPECT_EQ(slurp(folder / "out"), "old");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(AtomicFile, AFullDiskIsAnErrorAndLeavesNothingBehind) {
  const testing::TemporaryFolder folder;
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1000, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  {
    AtomicFile file(folder / "out");
    EXPECT_THROW(file.write(std::string(5000, 'x')), Error);
  }
  setrlimit(RLIMIT_FSIZE, &old);
  EXPECT_EQ(files_in(folder.path()), 0u);
}

TEST(AtomicFile, AFolderThatDoesNotExistIsAnError) {
  const testing::TemporaryFolder folder;
  EXPECT_THROW(AtomicFile(folder / "no/such/folder"), Error);
}

}  // namespace
}  // namespace bitnet
