#include "bitnet/io/gguf.h"

#include "bitnet/core/error.h"
#include "bitnet/quant/ternary_formats.h"
#include "file_tools.h"
#include "temporary_folder.h"

#include <cstring>
#include <limits>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace bitnet {
namespace {

using testing::TemporaryFolder;

std::span<const std::byte> as_bytes(const std::vector<float>& values) {
  return std::as_bytes(std::span(values));
}

ErrorCode code_of(auto&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::kInternal;
}

void write_sample(const std::filesystem::path& path) {
  GgufWriter writer(path);
  writer.add("general.architecture", GgufValue::string("bitnet-b1.58"));
  writer.add("count", GgufValue::u32(7));
  writer.add("epsilon", GgufValue::f32(1e-5f));
  writer.add("flag", GgufValue::boolean(true));
  writer.add("tokens", GgufValue::strings({"a", "", "\xff\xfe"}));
  writer.add("types", GgufValue::i32_array({1, -2, 3}));
  writer.add("scores", GgufValue::f32_array({0.5f, -1.0f}));
  writer.add_tensor("norm", DType::kF32, {3});
  writer.add_tensor("empty", DType::kF32, {0, 4});
  writer.add_tensor("matrix", DType::kI2_S, {2, 128});
  writer.begin();
  writer.write(as_bytes({1.0f, 2.0f}));
  writer.write(as_bytes({3.0f}));
  std::vector<std::byte> packed(96);
  encode_ternary_rows(DType::kI2_S, 2, 128, 0, std::vector<int8_t>(256, 1), 0.5f, packed);
  writer.write(packed);
  writer.finish();
}

TEST(Gguf, WhatIsWrittenIsReadBack) {
  const TemporaryFolder folder;
  write_sample(folder / "model.gguf");
  const GgufFile file = GgufFile::open(folder / "model.gguf");
  EXPECT_EQ(file.version(), 3u);
  ASSERT_EQ(file.metadata().size(), 7u);
  EXPECT_EQ(file.metadata()[0].first, "general.architecture");
  EXPECT_EQ(file.get_string("general.architecture"), "bitnet-b1.58");
  EXPECT_EQ(file.get_integer("count"), 7);
  EXPECT_EQ(file.get_real("epsilon"), static_cast<double>(1e-5f));
  EXPECT_EQ(file.get_bool("flag"), true);
  ASSERT_NE(file.get_strings("tokens"), nullptr);
  EXPECT_EQ(*file.get_strings("tokens"), (std::vector<std::string>{"a", "", "\xff\xfe"}));
  EXPECT_EQ(file.get_integers("types"), (std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(file.get_reals("scores"), (std::vector<double>{0.5, -1.0}));
  ASSERT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(file.tensors()[2].shape, (Shape{2, 128}));
  EXPECT_TRUE(file.find_tensor("empty")->bytes.empty());
  EXPECT_EQ(std::memcmp(file.find_tensor("norm")->bytes.data(), as_bytes({1, 2, 3}).data(), 12), 0);
  const GgufTensor& matrix = *file.find_tensor("matrix");
  std::vector<int8_t> row(128);
  EXPECT_EQ(decode_ternary_row({matrix.dtype, 2, 128, matrix.bytes}, 1, row), 0.5f);
  EXPECT_EQ(file.find_tensor("nothing"), nullptr);
  EXPECT_EQ(file.find("nothing"), nullptr);
}

TEST(Gguf, TensorsLieAtMultiplesOf32) {
  const TemporaryFolder folder;
  write_sample(folder / "model.gguf");
  const GgufFile file = GgufFile::open(folder / "model.gguf");
  for (const GgufTensor& tensor : file.tensors()) {
    if (!tensor.bytes.empty()) {
      EXPECT_EQ((tensor.bytes.data() - file.file_bytes().data()) % 32, 0) << tensor.name;
    }
  }
  EXPECT_EQ(file.file_bytes().size() % 32, 0u);
}

TEST(Gguf, AccessorsConvertNumbersAndRefuseOtherKinds) {
  const TemporaryFolder folder;
  GgufWriter writer(folder / "model.gguf");
  GgufValue wide;
  wide.type = GgufType::kU64;
  wide.value = std::numeric_limits<uint64_t>::max();
  writer.add("wide", wide);
  writer.add("integer", GgufValue::u32(3));
  writer.add("text", GgufValue::string("x"));
  writer.add("integers", GgufValue::i32_array({4}));
  writer.begin();
  writer.finish();
  const GgufFile file = GgufFile::open(folder / "model.gguf");
  EXPECT_EQ(file.get_real("integer"), 3.0);
  EXPECT_EQ(file.get_reals("integers"), (std::vector<double>{4.0}));
  EXPECT_EQ(file.get_integer("absent"), std::nullopt);
  EXPECT_EQ(file.get_strings("absent"), nullptr);
  EXPECT_EQ(code_of([&] { (void)file.get_integer("wide"); }), ErrorCode::kCorruptData);
  EXPECT_EQ(code_of([&] { (void)file.get_integer("text"); }), ErrorCode::kCorruptData);
  EXPECT_EQ(code_of([&] { (void)file.get_real("text"); }), ErrorCode::kCorruptData);
  EXPECT_EQ(code_of([&] { (void)file.get_bool("integer"); }), ErrorCode::kCorruptData);
  EXPECT_EQ(code_of([&] { (void)file.get_string("integer"); }), ErrorCode::kCorruptData);
  EXPECT_EQ(code_of([&] { (void)file.get_strings("integers"); }), ErrorCode::kCorruptData);
  EXPECT_EQ(code_of([&] { (void)file.get_integers("integer"); }), ErrorCode::kCorruptData);
  EXPECT_EQ(code_of([&] { (void)file.get_reals("text"); }), ErrorCode::kCorruptData);
}

TEST(Gguf, EveryValueTypeComesBack) {
  const TemporaryFolder folder;
  const auto unsigned_types = {GgufType::kU8, GgufType::kU16, GgufType::kU32, GgufType::kU64};
  const auto signed_types = {GgufType::kI8, GgufType::kI16, GgufType::kI32, GgufType::kI64};
  GgufWriter writer(folder / "model.gguf");
  const auto add = [&](std::string key, GgufType type, auto single, GgufArray array) {
    GgufValue value;
    value.type = type;
    value.value = single;
    writer.add(key, value);
    value.type = GgufType::kArray;
    value.element_type = type;
    value.value = std::move(array);
    writer.add(key + "s", value);
  };
  int index = 0;
  for (const GgufType type : unsigned_types)
    add(fmt::format("u{}", index++), type, uint64_t{200}, std::vector<uint64_t>{0, 255});
  for (const GgufType type : signed_types)
    add(fmt::format("i{}", index++), type, int64_t{-100}, std::vector<int64_t>{-128, 127});
  add("f64", GgufType::kF64, 0.1, std::vector<double>{1e300});
  add("bool", GgufType::kBool, false, std::vector<bool>{true, false});
  writer.begin();
  writer.finish();
  const GgufFile file = GgufFile::open(folder / "model.gguf");
  index = 0;
  for (; index < 4; ++index) {
    EXPECT_EQ(file.get_integer(fmt::format("u{}", index)), 200);
    EXPECT_EQ(file.get_integers(fmt::format("u{}s", index)), (std::vector<int64_t>{0, 255}));
  }
  for (; index < 8; ++index) {
    EXPECT_EQ(file.get_integer(fmt::format("i{}", index)), -100);
    EXPECT_EQ(file.get_integers(fmt::format("i{}s", index)), (std::vector<int64_t>{-128, 127}));
  }
  EXPECT_EQ(file.get_real("f64"), 0.1);
  EXPECT_EQ(std::get<std::vector<bool>>(std::get<GgufArray>(file.find("bools")->value)),
            (std::vector<bool>{true, false}));
}

TEST(Gguf, AFileWithoutTensorsIsValid) {
  ByteWriter bytes;
  bytes.put(uint32_t{0x46554747}).put(uint32_t{2}).put(uint64_t{0}).put(uint64_t{1});
  bytes.text("key").put(uint32_t{4}).put(uint32_t{9});  // no padding at the end
  const GgufFile file = GgufFile::parse(bytes.bytes);
  EXPECT_EQ(file.version(), 2u);
  EXPECT_EQ(file.get_integer("key"), 9);
  EXPECT_TRUE(file.tensors().empty());
}

TEST(Gguf, OtherAlignmentsAreHonoured) {
  for (const uint32_t alignment : {1u, 64u, 4096u}) {
    ByteWriter bytes;
    bytes.put(uint32_t{0x46554747}).put(uint32_t{3}).put(uint64_t{1}).put(uint64_t{1});
    bytes.text("general.alignment").put(uint32_t{4}).put(alignment);
    bytes.text("x").put(uint32_t{1}).put(uint64_t{1}).put(uint32_t{0}).put(uint64_t{0});
    bytes.pad(alignment).put(2.5f);
    const GgufFile file = GgufFile::parse(bytes.bytes);
    float value = 0;
    std::memcpy(&value, file.tensors().at(0).bytes.data(), 4);
    EXPECT_EQ(value, 2.5f);
  }
}

TEST(Gguf, TypeNumbersGoBothWays) {
  EXPECT_EQ(dtype_from_ggml(36), DType::kI2_S);
  EXPECT_EQ(dtype_from_ggml(135), DType::kIQ2_BN);
  EXPECT_EQ(dtype_from_ggml(38), std::nullopt);
  EXPECT_EQ(ggml_from_dtype(DType::kHfTernary), std::nullopt);
  for (uint32_t type = 0; type < 400; ++type) {
    const std::optional<DType> dtype = dtype_from_ggml(type);
    if (dtype) {
      EXPECT_EQ(ggml_from_dtype(*dtype), type);
    }
  }
}

TEST(GgufWriter, RefusesWrongOrderAndCounts) {
  const TemporaryFolder folder;
  const auto path = folder / "model.gguf";
  const std::vector<float> four(4, 1.0f);
  const auto with_tensor = [&](auto&& steps) {
    return code_of([&] {
      GgufWriter writer(path);
      writer.add_tensor("x", DType::kF32, {4});
      steps(writer);
    });
  };
  const auto wrong = ErrorCode::kInvalidArgument;
  EXPECT_EQ(with_tensor([&](GgufWriter& w) { w.write(as_bytes(four)); }), wrong);
  EXPECT_EQ(with_tensor([&](GgufWriter& w) { w.finish(); }), wrong);
  EXPECT_EQ(with_tensor([&](GgufWriter& w) { w.begin(), w.begin(); }), wrong);
  EXPECT_EQ(with_tensor([&](GgufWriter& w) { w.begin(), w.add("k", GgufValue::u32(1)); }), wrong);
  EXPECT_EQ(with_tensor([&](GgufWriter& w) { w.begin(), w.add_tensor("y", DType::kF32, {1}); }), wrong);
  EXPECT_EQ(with_tensor([&](GgufWriter& w) { w.begin(), w.write(as_bytes({1.0f})), w.finish(); }), wrong);
  EXPECT_EQ(with_tensor([&](GgufWriter& w) { w.begin(), w.write(as_bytes({1, 2, 3, 4, 5})); }), wrong);
  EXPECT_EQ(
      with_tensor([&](GgufWriter& w) { w.begin(), w.write(as_bytes(four)), w.write(as_bytes({1.0f})); }),
      wrong);
  EXPECT_EQ(with_tensor([&](GgufWriter& w) { w.add_tensor("x", DType::kF32, {1}); }), wrong);
  EXPECT_EQ(with_tensor([&](GgufWriter& w) { w.add("k", GgufValue::u32(1)), w.add("k", GgufValue::u32(1)); }),
            wrong);
  EXPECT_EQ(with_tensor([&](GgufWriter& w) { w.add("general.alignment", GgufValue::u32(64)); }), wrong);
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(GgufWriter, RefusesWhatTheFormatCannotHold) {
  const TemporaryFolder folder;
  GgufWriter writer(folder / "model.gguf");
  EXPECT_EQ(code_of([&] { writer.add_tensor("x", DType::kHfTernary, {4, 4}); }), ErrorCode::kUnsupported);
  EXPECT_EQ(code_of([&] { writer.add_tensor("x", DType::kF32, {1, 1, 1, 1, 1}); }), ErrorCode::kUnsupported);
  EXPECT_EQ(code_of([&] { writer.add_tensor("x", DType::kTQ2_0, {4, 8640}); }), ErrorCode::kUnsupported);
  GgufValue value;
  value.type = GgufType::kU8;
  value.value = uint64_t{256};
  EXPECT_EQ(code_of([&] { writer.add("k", value); }), ErrorCode::kInvalidArgument);
  value.type = GgufType::kString;
  EXPECT_EQ(code_of([&] { writer.add("k", value); }), ErrorCode::kInvalidArgument);
}

TEST(GgufWriter, AFullDiskLeavesTheOldFile) {
  const TemporaryFolder folder;
  const auto path = folder / "model.gguf";
  write_sample(path);
  const std::vector<std::byte> before = read_bytes(path);
  const auto write_large = [&] {
    GgufWriter writer(path);
    writer.add_tensor("x", DType::kF32, {1 << 20});
    writer.begin();
    writer.write(std::vector<std::byte>(4 << 20));
    writer.finish();
  };
  {
    const FileSizeLimit limit(1 << 20);
    EXPECT_EQ(code_of(write_large), ErrorCode::kIo);
  }
  EXPECT_EQ(read_bytes(path), before);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
  write_large();
  EXPECT_EQ(GgufFile::open(path).tensors().size(), 1u);
}

TEST(GgufWriter, AFolderThatIsMissingIsAnIoError) {
  const TemporaryFolder folder;
  EXPECT_EQ(code_of([&] { GgufWriter writer(folder / "no/model.gguf"); }), ErrorCode::kIo);
  EXPECT_EQ(code_of([&] { (void)GgufFile::open(folder / "no.gguf"); }), ErrorCode::kNotFound);
  EXPECT_EQ(code_of([&] { (void)GgufFile::open(folder.path()); }), ErrorCode::kIo);
}

}  // namespace
}  // namespace bitnet
