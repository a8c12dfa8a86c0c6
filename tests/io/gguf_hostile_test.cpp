#include "bitnet/core/error.h"
#include "bitnet/io/gguf.h"
#include "bitnet/quant/ternary_formats.h"
#include "file_tools.h"

#include <functional>
#include <limits>
#include <random>

#include <gtest/gtest.h>

// What a hostile or damaged GGUF file may hold. Every case must end in bitnet::Error; the sanitizer builds
// see to it that none ends elsewhere.

namespace bitnet {
namespace {

struct Info {
  std::string name = "t";
  std::vector<uint64_t> dims = {8};  // innermost first
  uint32_t type = 0;
  uint64_t offset = 0;
};

ByteWriter header(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
  ByteWriter bytes;
  bytes.put(uint32_t{0x46554747}).put(version).put(tensors).put(keys);
  return bytes;
}

std::vector<std::byte> file_of(const std::vector<Info>& infos, size_t data_bytes) {
  ByteWriter bytes = header(infos.size(), 0);
  for (const Info& info : infos) {
    bytes.text(info.name).put(static_cast<uint32_t>(info.dims.size()));
    for (const uint64_t dim : info.dims) bytes.put(dim);
    bytes.put(info.type).put(info.offset);
  }
  bytes.pad(32);
  bytes.bytes.resize(bytes.bytes.size() + data_bytes);
  return bytes.bytes;
}

/// Several value types, two tensors, no byte after the last tensor.
std::vector<std::byte> valid_file() {
  ByteWriter bytes = header(2, 4);
  bytes.text("general.name").put(uint32_t{8}).text("sample");
  bytes.text("numbers").put(uint32_t{9}).put(uint32_t{5}).put(uint64_t{2}).put(int32_t{1}).put(int32_t{-1});
  bytes.text("words").put(uint32_t{9}).put(uint32_t{8}).put(uint64_t{2}).text("one").text("two");
  bytes.text("flag").put(uint32_t{7}).put(uint8_t{1});
  bytes.text("a").put(uint32_t{2}).put(uint64_t{4}).put(uint64_t{2}).put(uint32_t{0}).put(uint64_t{0});
  bytes.text("b").put(uint32_t{1}).put(uint64_t{128}).put(uint32_t{36}).put(uint64_t{32});
  bytes.pad(32);
  bytes.bytes.resize(bytes.bytes.size() + 32 + 64);
  return bytes.bytes;
}

ErrorCode parse_error(const std::vector<std::byte>& bytes) {
  try {
    (void)GgufFile::parse(bytes);
  } catch (const Error& error) {
    EXPECT_FALSE(error.message().empty());
    return error.code();
  }
  ADD_FAILURE() << "a hostile file was accepted";
  return ErrorCode::kInternal;
}

TEST(HostileGguf, EveryTruncationIsCorrupt) {
  const std::vector<std::byte> whole = valid_file();
  EXPECT_EQ(GgufFile::parse(whole).tensors().size(), 2u);
  for (size_t size = 0; size < whole.size(); ++size) {
    // A vector of its own, so that the sanitizer sees a read beyond the end.
    const std::vector<std::byte> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_EQ(parse_error(part), ErrorCode::kCorruptData) << size;
  }
}

TEST(HostileGguf, AnyByteMayBeWrong) {
  const std::vector<std::byte> whole = valid_file();
  int refused = 0;
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const int change : {0x01, 0x80, 0xff}) {
      std::vector<std::byte> bytes = whole;
      bytes[at] ^= static_cast<std::byte>(change);
      try {
        const GgufFile file = GgufFile::parse(bytes);
        EXPECT_LE(file.tensors().size(), 2u);
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 100);
}

TEST(HostileGguf, ManyBytesMayBeWrong) {
  const std::vector<std::byte> whole = valid_file();
  std::mt19937 random(11);
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::byte> bytes = whole;
    for (int i = 0; i < 4; ++i) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    try {
      (void)GgufFile::parse(bytes);
    } catch (const Error&) {
    }
  }
}

TEST(HostileGguf, OtherFilesAreNamed) {
  ByteWriter bytes;
  bytes.raw("version https://git-lfs.github.com/spec/v1\n");
  EXPECT_EQ(parse_error(bytes.bytes), ErrorCode::kCorruptData);
  EXPECT_EQ(parse_error(header(0, 0, 1).bytes), ErrorCode::kUnsupported);
  EXPECT_EQ(parse_error(header(0, 0, 4).bytes), ErrorCode::kUnsupported);
  EXPECT_EQ(parse_error(header(0, 0, 0).bytes), ErrorCode::kUnsupported);
  EXPECT_EQ(parse_error(header(0, 0, 0x03000000).bytes), ErrorCode::kUnsupported);  // big endian
}

TEST(HostileGguf, CountsBeyondTheFileAreRefusedBeforeAllocation) {
  const uint64_t huge = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(parse_error(header(huge, 0).bytes), ErrorCode::kCorruptData);
  EXPECT_EQ(parse_error(header(0, huge).bytes), ErrorCode::kCorruptData);
  EXPECT_EQ(parse_error(header(uint64_t{1} << 40, 0).bytes), ErrorCode::kCorruptData);
  for (const uint32_t type : {0u, 4u, 7u, 8u, 12u}) {
    for (const uint64_t count : {huge, huge / 8, uint64_t{1} << 61, uint64_t{1000}}) {
      ByteWriter bytes = header(0, 1);
      bytes.text("k").put(uint32_t{9}).put(type).put(count).put(uint64_t{0});
      EXPECT_EQ(parse_error(bytes.bytes), ErrorCode::kCorruptData) << type << " " << count;
    }
  }
  ByteWriter bytes = header(0, 1);
  bytes.put(huge).raw("a key that claims to be longer than memory");
  EXPECT_EQ(parse_error(bytes.bytes), ErrorCode::kCorruptData);
}

TEST(HostileGguf, ValuesOfWrongTypesAreRefused) {
  ByteWriter nested = header(0, 1);
  nested.text("k").put(uint32_t{9}).put(uint32_t{9}).put(uint64_t{1}).put(uint64_t{0});
  EXPECT_EQ(parse_error(nested.bytes), ErrorCode::kUnsupported);
  ByteWriter unknown = header(0, 1);
  unknown.text("k").put(uint32_t{13}).put(uint64_t{0});
  EXPECT_EQ(parse_error(unknown.bytes), ErrorCode::kCorruptData);
  ByteWriter flag = header(0, 1);
  flag.text("k").put(uint32_t{7}).put(uint8_t{2});
  EXPECT_EQ(parse_error(flag.bytes), ErrorCode::kCorruptData);
  ByteWriter twice = header(0, 2);
  for (int i = 0; i < 2; ++i) twice.text("k").put(uint32_t{0}).put(uint8_t{2});
  EXPECT_EQ(parse_error(twice.bytes), ErrorCode::kCorruptData);
}

TEST(HostileGguf, AlignmentsThatAreNoneAreRefused) {
  for (const uint32_t alignment : {0u, 3u, 48u, 0xffffffffu}) {
    ByteWriter bytes = header(0, 1);
    bytes.text("general.alignment").put(uint32_t{4}).put(alignment);
    EXPECT_EQ(parse_error(bytes.bytes), ErrorCode::kCorruptData);
  }
  ByteWriter text = header(0, 1);
  text.text("general.alignment").put(uint32_t{8}).text("32");
  EXPECT_EQ(parse_error(text.bytes), ErrorCode::kCorruptData);
  ByteWriter huge = header(1, 1);
  huge.text("general.alignment").put(uint32_t{10}).put(uint64_t{1} << 63);
  huge.text("t").put(uint32_t{1}).put(uint64_t{1}).put(uint32_t{0}).put(uint64_t{0}).put(0.0f);
  EXPECT_EQ(parse_error(huge.bytes), ErrorCode::kCorruptData);
}

TEST(HostileGguf, TensorsMustLieInsideTheFileAndApart) {
  const uint64_t huge = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(GgufFile::parse(file_of({{}}, 32)).tensors().size(), 1u);
  EXPECT_EQ(parse_error(file_of({{}}, 31)), ErrorCode::kCorruptData);
  EXPECT_EQ(parse_error(file_of({{.offset = 32}}, 63)), ErrorCode::kCorruptData);
  EXPECT_EQ(parse_error(file_of({{.offset = 4}}, 64)), ErrorCode::kCorruptData);
  EXPECT_EQ(parse_error(file_of({{.offset = huge - 31}}, 64)), ErrorCode::kCorruptData);
  EXPECT_EQ(parse_error(file_of({{}, {.name = "u"}}, 64)), ErrorCode::kCorruptData);
  EXPECT_EQ(parse_error(file_of({{}, {.offset = 32}}, 64)), ErrorCode::kCorruptData);  // one name twice
}

TEST(HostileGguf, ShapesThatOverflowAreRefused) {
  const uint64_t huge = std::numeric_limits<uint64_t>::max();
  const uint64_t half = uint64_t{1} << 32;
  for (const std::vector<uint64_t>& dims : std::vector<std::vector<uint64_t>>{{huge},
                                                                              {uint64_t{1} << 63},
                                                                              {half, half},
                                                                              {half, half, half, half},
                                                                              {uint64_t{1} << 62},
                                                                              {half, half / 2}}) {
    EXPECT_EQ(parse_error(file_of({{.dims = dims}}, 64)), ErrorCode::kCorruptData);
  }
  EXPECT_EQ(parse_error(file_of({{.dims = {1, 1, 1, 1, 1}}}, 64)), ErrorCode::kCorruptData);
  for (const uint32_t type : {36u, 34u, 35u, 135u, 2u, 8u, 14u}) {
    EXPECT_NE(parse_error(file_of({{.dims = {huge / 2}, .type = type}}, 64)), ErrorCode::kInternal);
    EXPECT_EQ(parse_error(file_of({{.dims = {7, 3}, .type = type}}, 64)), ErrorCode::kUnsupported);
  }
}

TEST(HostileGguf, UnsupportedTypesAreNamed) {
  const auto message_of = [](uint32_t type) {
    try {
      (void)GgufFile::parse(file_of({{.name = "blk.0.x", .type = type}}, 64));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
      return std::string(error.what()) + " | " + error.hint();
    }
    return std::string();
  };
  EXPECT_NE(message_of(38).find("TL1"), std::string::npos);
  EXPECT_NE(message_of(39).find("convert the Hugging Face folder or an I2_S file instead"),
            std::string::npos);
  EXPECT_NE(message_of(42).find("Q2_0"), std::string::npos);
  EXPECT_NE(message_of(12).find("Q4_K"), std::string::npos);
  EXPECT_NE(message_of(999).find("999"), std::string::npos);
  EXPECT_NE(message_of(999).find("i2_s (36)"), std::string::npos);
  EXPECT_NE(message_of(999).find("blk.0.x"), std::string::npos);
}

}  // namespace
}  // namespace bitnet
