#include "bitnet/core/error.h"
#include "bitnet/io/safetensors.h"
#include "file_tools.h"

#include <random>

#include <gtest/gtest.h>

// What a hostile or damaged safetensors file may hold. Every case must end in bitnet::Error.

namespace bitnet {
namespace {

std::vector<std::byte> file_of(std::string_view header, size_t data_bytes) {
  ByteWriter bytes;
  bytes.text(header);
  bytes.bytes.resize(bytes.bytes.size() + data_bytes);
  return bytes.bytes;
}

ErrorCode parse_error(const std::vector<std::byte>& bytes) {
  try {
    (void)SafetensorsFile::parse(bytes);
  } catch (const Error& error) {
    EXPECT_FALSE(error.message().empty());
    return error.code();
  }
  ADD_FAILURE() << "a hostile file was accepted";
  return ErrorCode::kInternal;
}

ErrorCode header_error(std::string_view header, size_t data_bytes = 8) {
  return parse_error(file_of(header, data_bytes));
}

constexpr std::string_view kValid =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
    R"("b":{"dtype":"U8","shape":[2,2],"data_offsets":[4,8]}})";

TEST(HostileSafetensors, EveryTruncationIsCorrupt) {
  const std::vector<std::byte> whole = file_of(kValid, 8);
  EXPECT_EQ(SafetensorsFile::parse(whole).tensors().size(), 2u);
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::vector<std::byte> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_EQ(parse_error(part), ErrorCode::kCorruptData) << size;
  }
}

TEST(HostileSafetensors, AnyBytesMayBeWrong) {
  const std::vector<std::byte> whole = file_of(kValid, 8);
  std::mt19937 random(13);
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::byte> bytes = whole;
    const int changes = 1 + round % 4;
    for (int i = 0; i < changes; ++i) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    try {
      (void)SafetensorsFile::parse(bytes);
    } catch (const Error&) {
    }
  }
}

TEST(HostileSafetensors, HeaderLengthsBeyondTheFileOrTheLimitAreRefused) {
  for (const uint64_t length : {uint64_t{1}, uint64_t{100'000'001}, uint64_t{1} << 63, ~uint64_t{0}}) {
    ByteWriter bytes;
    bytes.put(length);
    EXPECT_EQ(parse_error(bytes.bytes), ErrorCode::kCorruptData);
  }
}

TEST(HostileSafetensors, HeadersThatAreNoJsonObjectAreRefused) {
  for (const std::string_view header :
       {"", "[]", "1", "{", "{}x", "{\"a\":}", "\xff\xfe", "{\"\xff\":1}", "null"}) {
    EXPECT_EQ(header_error(header), ErrorCode::kCorruptData) << header;
  }
}

TEST(HostileSafetensors, DeepNestingIsRefused) {
  for (const char bracket : {'[', '{'}) {
    std::string header = "{\"a\":{\"shape\":";
    for (int i = 0; i < 1'000'000; ++i) header += bracket == '[' ? "[" : "{\"x\":";
    EXPECT_EQ(header_error(header), ErrorCode::kCorruptData);
  }
}

TEST(HostileSafetensors, DescriptionsThatAreNoneAreRefused) {
  for (const std::string_view description :
       {"1",
        "[]",
        "{}",
        R"({"dtype":"F32"})",
        R"({"dtype":"F32","shape":[2]})",
        R"({"dtype":1,"shape":[2],"data_offsets":[0,8]})",
        R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})",
        R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})",
        R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})",
        R"({"dtype":"F32","shape":["2"],"data_offsets":[0,8]})",
        R"({"dtype":"F32","shape":[2],"data_offsets":[0]})",
        R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,8]})",
        R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})",
        R"({"dtype":"F32","shape":[2],"data_offsets":{"0":8}})",
        R"({"dtype":"F32","shape":[2],"data_offsets":[0,9]})",
        R"({"dtype":"F32","shape":[1],"data_offsets":[0,8]})",
        R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})",
        R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]})",
        R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]})",
        R"({"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]})",
        R"({"dtype":"F32","shape":[2],"shape":[1],"data_offsets":[0,8]})"}) {
    EXPECT_EQ(header_error("{\"a\":" + std::string(description) + "}"), ErrorCode::kCorruptData)
        << description;
  }
}

TEST(HostileSafetensors, UnsupportedTypesAreNamed) {
  for (const std::string name : {"F8_E4M3", "F4", "f32", "C64"}) {
    try {
      (void)SafetensorsFile::parse(
          file_of(R"({"weight":{"dtype":")" + name + R"(","shape":[8],"data_offsets":[0,8]}})", 8));
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
      EXPECT_NE(std::string_view(error.what()).find(name), std::string_view::npos);
      EXPECT_NE(std::string_view(error.what()).find("weight"), std::string_view::npos);
    }
  }
}

TEST(HostileSafetensors, OverlapsGapsAndRestsAreRefused) {
  const auto two = [](int a_begin, int a_end, int b_begin, int b_end) {
    const auto entry = [](int begin, int end) {
      return R"({"dtype":"U8","shape":[)" + std::to_string(end - begin) + R"(],"data_offsets":[)" +
             std::to_string(begin) + "," + std::to_string(end) + "]}";
    };
    return "{\"a\":" + entry(a_begin, a_end) + ",\"b\":" + entry(b_begin, b_end) + "}";
  };
  EXPECT_EQ(SafetensorsFile::parse(file_of(two(4, 8, 0, 4), 8)).tensors().size(), 2u);
  EXPECT_EQ(header_error(two(0, 5, 4, 8)), ErrorCode::kCorruptData);
  EXPECT_EQ(header_error(two(0, 8, 0, 8)), ErrorCode::kCorruptData);
  EXPECT_EQ(header_error(two(0, 3, 4, 8)), ErrorCode::kCorruptData);
  EXPECT_EQ(header_error(two(1, 4, 4, 8)), ErrorCode::kCorruptData);
  EXPECT_EQ(header_error(two(0, 4, 4, 7)), ErrorCode::kCorruptData);
}

TEST(HostileSafetensors, NamesAndMetadataAreChecked) {
  const std::string entry = R"({"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  const std::string next = R"({"dtype":"U8","shape":[4],"data_offsets":[4,8]})";
  EXPECT_EQ(header_error("{\"a\":" + entry + ",\"a\":" + next + "}"), ErrorCode::kCorruptData);
  EXPECT_EQ(header_error(R"({"__metadata__":[]})", 0), ErrorCode::kCorruptData);
  EXPECT_EQ(header_error(R"({"__metadata__":{"a":1}})", 0), ErrorCode::kCorruptData);
  EXPECT_TRUE(SafetensorsFile::parse(file_of("{}   ", 0)).tensors().empty());
}

}  // namespace
}  // namespace bitnet
