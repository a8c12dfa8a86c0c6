#include "bitnet/io/safetensors.h"

#include "bitnet/core/error.h"
#include "file_tools.h"
#include "temporary_folder.h"

#include <cstring>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

using testing::TemporaryFolder;

constexpr DType kTypes[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI8,
                            DType::kI16, DType::kI32, DType::kI64, DType::kU8,   DType::kU16,
                            DType::kU32, DType::kU64, DType::kBool};

ErrorCode code_of(auto&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::kInternal;
}

/// One f32 tensor [2] of each name.
void write_file(const std::filesystem::path& path, const std::vector<std::string>& names,
                const std::map<std::string, std::string>& metadata = {}) {
  SafetensorsWriter writer(path, metadata);
  for (const std::string& name : names) writer.add_tensor(name, DType::kF32, {2});
  writer.begin();
  for (size_t i = 0; i < names.size(); ++i) {
    const float values[] = {static_cast<float>(i), 0.5f};
    writer.write(std::as_bytes(std::span(values)));
  }
  writer.finish();
}

TEST(Safetensors, WhatIsWrittenIsReadBack) {
  const TemporaryFolder folder;
  const auto path = folder / "x.safetensors";
  write_file(path, {"b", "a \"quoted\" name"}, {{"format", "pt"}, {"key", "\n"}});
  const SafetensorsFile file = SafetensorsFile::open(path);
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors()[0].name, "a \"quoted\" name");
  EXPECT_EQ(file.tensors()[1].name, "b");
  EXPECT_EQ(file.tensors()[1].shape, (Shape{2}));
  float value = -1;
  std::memcpy(&value, file.find("b")->bytes.data(), 4);
  EXPECT_EQ(value, 0.0f);
  EXPECT_EQ(file.find("c"), nullptr);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"key", "\n"}}));
}

TEST(Safetensors, EveryTypeAndOddShapesComeBack) {
  const TemporaryFolder folder;
  const auto path = folder / "x.safetensors";
  SafetensorsWriter writer(path);
  for (const DType dtype : kTypes) {
    writer.add_tensor(std::string(to_string(dtype)), dtype, {3, 1});
    writer.add_tensor(std::string(to_string(dtype)) + " scalar", dtype, {});
    writer.add_tensor(std::string(to_string(dtype)) + " empty", dtype, {0, 5});
  }
  writer.begin();
  for (const DType dtype : kTypes) {
    const auto size = static_cast<size_t>(dtype_info(dtype).block_bytes);
    writer.write(std::vector<std::byte>(3 * size, std::byte{1}));
    writer.write(std::vector<std::byte>(size, std::byte{2}));
  }
  writer.finish();
  const SafetensorsFile file = SafetensorsFile::open(path);
  EXPECT_EQ(file.tensors().size(), 3 * std::size(kTypes));
  for (const DType dtype : kTypes) {
    const std::string name(to_string(dtype));
    EXPECT_EQ(file.find(name)->dtype, dtype);
    EXPECT_EQ(file.find(name)->bytes[0], std::byte{1});
    EXPECT_EQ(file.find(name + " scalar")->bytes[0], std::byte{2});
    EXPECT_EQ(file.find(name + " scalar")->shape, Shape{});
    EXPECT_TRUE(file.find(name + " empty")->bytes.empty());
  }
}

TEST(Safetensors, DataBeginAtAMultipleOfEight) {
  const TemporaryFolder folder;
  for (const std::string name : {"x", "xy", "xyz", "wxyz"}) {
    write_file(folder / "x.safetensors", {name});
    const std::vector<std::byte> bytes = read_bytes(folder / "x.safetensors");
    uint64_t header = 0;
    std::memcpy(&header, bytes.data(), 8);
    EXPECT_EQ(header % 8, 0u);
    EXPECT_EQ(bytes[8], std::byte{'{'});
    EXPECT_EQ(bytes.size(), 8 + header + 8);
  }
}

TEST(Safetensors, AFolderIsOpenedByItsSingleFile) {
  const TemporaryFolder folder;
  EXPECT_EQ(code_of([&] { (void)SafetensorsFile::open(folder.path()); }), ErrorCode::kNotFound);
  EXPECT_EQ(code_of([&] { (void)SafetensorsFile::open(folder / "no"); }), ErrorCode::kNotFound);
  write_file(folder / "model.safetensors", {"a"});
  EXPECT_NE(SafetensorsFile::open(folder.path()).find("a"), nullptr);
}

class ShardedSafetensors : public ::testing::Test {
 protected:
  void write_index(std::string_view weight_map) {
    write_text(
        folder_ / "model.safetensors.index.json",
        R"({"metadata":{"total_size":1,"more":{"deep":[]}},"weight_map":)" + std::string(weight_map) + "}");
  }
  ErrorCode open_error() {
    try {
      (void)SafetensorsFile::open(folder_.path());
    } catch (const Error& error) {
      what_ = error.what();
      return error.code();
    }
    ADD_FAILURE() << "nothing was thrown";
    return ErrorCode::kInternal;
  }
  TemporaryFolder folder_;
  std::string what_;
};

TEST_F(ShardedSafetensors, AllShardsAreReadAsOne) {
  write_file(folder_ / "1.safetensors", {"a", "c"}, {{"format", "pt"}});
  write_file(folder_ / "2.safetensors", {"b"});
  write_index(R"({"a":"1.safetensors","b":"2.safetensors","c":"1.safetensors"})");
  const SafetensorsFile file = SafetensorsFile::open(folder_.path());
  ASSERT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(file.tensors()[1].name, "b");
  EXPECT_EQ(file.metadata().at("format"), "pt");
}

TEST_F(ShardedSafetensors, MissingShardsAreNamed) {
  write_file(folder_ / "1.safetensors", {"a"});
  write_index(R"({"a":"1.safetensors","b":"model-00002-of-00002.safetensors"})");
  EXPECT_EQ(open_error(), ErrorCode::kNotFound);
  EXPECT_NE(what_.find("model-00002-of-00002.safetensors"), std::string::npos) << what_;
}

TEST_F(ShardedSafetensors, TensorsMissingFromTheirShardAreNamed) {
  write_file(folder_ / "1.safetensors", {"a"});
  write_index(R"({"a":"1.safetensors","lost":"1.safetensors"})");
  EXPECT_EQ(open_error(), ErrorCode::kCorruptData);
  EXPECT_NE(what_.find("lost"), std::string::npos) << what_;
}

TEST_F(ShardedSafetensors, ATensorInTwoShardsIsRefused) {
  write_file(folder_ / "1.safetensors", {"a"});
  write_file(folder_ / "2.safetensors", {"a", "b"});
  write_index(R"({"a":"1.safetensors","b":"2.safetensors"})");
  EXPECT_EQ(open_error(), ErrorCode::kCorruptData);
}

TEST_F(ShardedSafetensors, ShardsOutsideTheFolderAreRefused) {
  for (const std::string name :
       {"../1.safetensors", "/etc/x.safetensors", "sub/1.safetensors", "..", ".", "",
        "model.safetensors.index.json", "a\\\\b.safetensors", "x\\u0000.safetensors"}) {
    write_index("{\"a\":\"" + name + "\"}");
    EXPECT_EQ(open_error(), ErrorCode::kCorruptData) << name;
  }
}

TEST_F(ShardedSafetensors, AnIndexThatIsNoneIsRefused) {
  const std::string deep = "{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}";
  for (const std::string map :
       {"[]", "{}", "null", "{\"a\":1}", "{\"a\":\"1.safetensors\",\"a\":\"2.safetensors\"}",
        "{\"a\":", deep.c_str()}) {
    write_index(map);
    EXPECT_EQ(open_error(), ErrorCode::kCorruptData) << map.substr(0, 40);
  }
  write_text(folder_ / "model.safetensors.index.json", "[]");
  EXPECT_EQ(open_error(), ErrorCode::kCorruptData);
  write_text(folder_ / "model.safetensors.index.json", "");
  EXPECT_EQ(open_error(), ErrorCode::kCorruptData);
}

TEST(SafetensorsWriter, RefusesWrongOrderCountsAndNames) {
  const TemporaryFolder folder;
  const auto path = folder / "x.safetensors";
  const std::vector<std::byte> eight(8);
  const auto with_tensor = [&](auto&& steps) {
    return code_of([&] {
      SafetensorsWriter writer(path);
      writer.add_tensor("x", DType::kF32, {2});
      steps(writer);
    });
  };
  using Writer = SafetensorsWriter;
  const auto wrong = ErrorCode::kInvalidArgument;
  EXPECT_EQ(with_tensor([&](Writer& w) { w.write(eight); }), wrong);
  EXPECT_EQ(with_tensor([&](Writer& w) { w.finish(); }), wrong);
  EXPECT_EQ(with_tensor([&](Writer& w) { w.begin(), w.finish(); }), wrong);
  EXPECT_EQ(with_tensor([&](Writer& w) { w.begin(), w.write(std::vector<std::byte>(9)); }), wrong);
  EXPECT_EQ(with_tensor([&](Writer& w) { w.begin(), w.add_tensor("y", DType::kF32, {2}); }), wrong);
  EXPECT_EQ(with_tensor([&](Writer& w) { w.add_tensor("x", DType::kF32, {2}); }), wrong);
  EXPECT_EQ(with_tensor([&](Writer& w) { w.add_tensor("__metadata__", DType::kF32, {2}); }), wrong);
  EXPECT_EQ(with_tensor([&](Writer& w) { w.add_tensor("\xff", DType::kF32, {2}); }), wrong);
  EXPECT_EQ(with_tensor([&](Writer& w) { w.add_tensor("y", DType::kQ8_0, {32}); }), ErrorCode::kUnsupported);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(SafetensorsWriter, AFullDiskLeavesTheOldFile) {
  const TemporaryFolder folder;
  const auto path = folder / "x.safetensors";
  write_file(path, {"a"});
  const std::vector<std::byte> before = read_bytes(path);
  {
    const FileSizeLimit limit(1 << 20);
    EXPECT_EQ(code_of([&] {
                SafetensorsWriter writer(path);
                writer.add_tensor("x", DType::kU8, {2 << 20});
                writer.begin();
                writer.write(std::vector<std::byte>(2 << 20));
                writer.finish();
              }),
              ErrorCode::kIo);
  }
  EXPECT_EQ(read_bytes(path), before);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

}  // namespace
}  // namespace bitnet
