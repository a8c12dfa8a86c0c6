#include "bitnet/model/checkpoint.h"
#include "bitnet/tokenizer/tokenizer.h"
#include "model/synth_tokenizer.h"
#include "small_model.h"
#include "temporary_folder.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

namespace bitnet {
namespace {

using namespace bitnet::testing;
using LinearClass = HfQuantization::LinearClass;

constexpr const char* kQuery = "model.layers.1.self_attn.q_proj.weight";

/// Writes a folder whose tensors were changed and returns the error of opening it and reading every layer.
Error hf_error(const std::function<void(std::map<std::string, FileTensor>&)>& change,
               LinearClass linear_class = LinearClass::kAutoBitLinear) {
  const SmallModel model(small_config());
  const TemporaryFolder folder;
  auto tensors = model.hf_tensors(linear_class);
  change(tensors);
  write_folder(folder.path(), packed_config(model.config(), linear_class), tensors);
  return error_of([&] { expect_same_linears(Checkpoint::open(folder.path()), model); });
}

Error gguf_error(const std::function<void(std::map<std::string, FileTensor>&)>& change) {
  const SmallModel model(small_config());
  const TemporaryFolder folder;
  auto tensors = model.gguf_tensors();
  change(tensors);
  write_gguf(folder / "m.gguf", model.config(), tensors);
  return error_of([&] { expect_same_linears(Checkpoint::open(folder / "m.gguf"), model); });
}

void expect_corrupt(const Error& error, std::string_view name) {
  EXPECT_EQ(error.code(), ErrorCode::kCorruptData) << error.what();
  EXPECT_NE(std::string_view(error.what()).find(name), std::string_view::npos) << error.what();
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Takes one tensor out of a GGUF header but leaves its data where they are.
std::string without_tensor_entry(std::string bytes, std::string_view name, size_t dims) {
  constexpr size_t kCountAt = 8;
  const size_t at = bytes.find(name) - sizeof(uint64_t);
  const size_t entry = sizeof(uint64_t) + name.size() + 4 + 8 * dims + 4 + 8;
  // So that the data keep their place, the model's name grows by as many bytes.
  bytes.erase(at, entry);
  const size_t key = bytes.find("general.name") + 12 + 4;
  uint64_t length = 0;
  std::memcpy(&length, bytes.data() + key, sizeof(length));
  length += entry;
  std::memcpy(bytes.data() + key, &length, sizeof(length));
  bytes.insert(key + sizeof(length), entry, 'x');
  --bytes[kCountAt];
  return bytes;
}

TEST(HostileCheckpoint, NamesEveryMissingTensor) {
  const SmallModel model(small_config());
  for (const auto& entry : model.hf_tensors(LinearClass::kAutoBitLinear)) {
    expect_corrupt(hf_error([&](auto& tensors) { tensors.erase(entry.first); }), entry.first);
  }
  for (const auto& entry : model.gguf_tensors()) {
    expect_corrupt(gguf_error([&](auto& tensors) { tensors.erase(entry.first); }), entry.first);
  }
}

TEST(HostileCheckpoint, MissesAHeadThatIsNotTied) {
  ModelConfig config = small_config();
  config.tied_head = false;
  const SmallModel model(config);
  const TemporaryFolder folder;
  auto tensors = model.hf_tensors(LinearClass::kAutoBitLinear);
  tensors.erase("lm_head.weight");
  write_folder(folder.path(), packed_config(config, LinearClass::kAutoBitLinear), tensors);
  expect_corrupt(error_of([&] { (void)Checkpoint::open(folder.path()); }), "lm_head.weight");
}

TEST(HostileCheckpoint, RefusesBadScales) {
  for (const LinearClass linear_class : {LinearClass::kAutoBitLinear, LinearClass::kBitLinear}) {
    for (const float bad : {NAN, INFINITY, -INFINITY, 0.0f, -0.5f}) {
      const std::string name = std::string(kQuery) + "_scale";
      expect_corrupt(hf_error([&](auto& tensors) { tensors[name] = float_tensor({1}, {bad}); }, linear_class),
                     name);
    }
  }
  const std::string name = std::string(kQuery) + "_scale";
  // Its inverse is infinite.
  expect_corrupt(
      hf_error([&](auto& tensors) { tensors[name] = float_tensor({1}, {1e-40f}); }, LinearClass::kBitLinear),
      name);
  expect_corrupt(hf_error([&](auto& tensors) { tensors[name] = float_tensor({2}, {1.0f, 1.0f}); }), name);
}

TEST(HostileCheckpoint, RefusesABadScaleInsideAGgufTensor) {
  for (const float bad : {NAN, INFINITY, -1.0f}) {
    expect_corrupt(gguf_error([&](auto& tensors) {
                     auto& bytes = tensors.at("blk.0.ffn_up.weight").bytes;
                     std::memcpy(bytes.data() + bytes.size() - 32, &bad, sizeof(bad));
                   }),
                   "blk.0.ffn_up.weight");
  }
}

TEST(HostileCheckpoint, RefusesWrongShapesAndTypes) {
  const auto floats = [](Shape shape, DType dtype = DType::kF32) {
    const auto count = static_cast<size_t>(element_count(shape));
    return float_tensor(std::move(shape), std::vector<float>(count, 0.5f), dtype);
  };
  const std::string norm = "model.layers.0.input_layernorm.weight", embedding = "model.embed_tokens.weight";
  expect_corrupt(hf_error([&](auto& tensors) { tensors[kQuery] = floats({128, 127}); }), kQuery);
  expect_corrupt(hf_error([&](auto& tensors) { tensors[kQuery] = floats({128 * 128}); }), kQuery);
  expect_corrupt(hf_error([&](auto& tensors) { tensors[kQuery].shape = {128, 32}; }), kQuery);
  expect_corrupt(hf_error([&](auto& tensors) { tensors[norm] = floats({64}); }), norm);
  expect_corrupt(hf_error([&](auto& tensors) { tensors[norm] = floats({1, 128}); }), norm);
  expect_corrupt(hf_error([&](auto& tensors) {
                   tensors[norm] = FileTensor{DType::kU8, {128}, std::vector<std::byte>(128)};
                 }),
                 norm);
  expect_corrupt(hf_error([&](auto& tensors) { tensors[embedding] = floats({95, 128}); }), embedding);
  expect_corrupt(gguf_error([&](auto& tensors) {
                   tensors["blk.0.ffn_up.weight"] = floats({128, 256});
                 }),
                 "blk.0.ffn_up.weight");
  const Error integers = hf_error([&](auto& tensors) {
    tensors[kQuery] = FileTensor{DType::kI32, {128, 128}, std::vector<std::byte>(128 * 128 * 4)};
  });
  EXPECT_EQ(integers.code(), ErrorCode::kUnsupported);
  EXPECT_NE(std::string(integers.what()).find(kQuery), std::string::npos);
}

TEST(HostileCheckpoint, RefusesNanInNorms) {
  const std::string name = "model.layers.0.mlp.ffn_sub_norm.weight";
  std::vector<float> values(256, 1.0f);
  values[200] = NAN;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    expect_corrupt(hf_error([&](auto& tensors) { tensors[name] = float_tensor({256}, values, dtype); }),
                   name);
  }
}

TEST(HostileCheckpoint, RefusesCodeThree) {
  expect_corrupt(hf_error([](auto& tensors) { tensors.at(kQuery).bytes[5] |= std::byte{0xc0}; }), kQuery);
  expect_corrupt(
      gguf_error([](auto& tensors) { tensors.at("blk.1.ffn_down.weight").bytes[5] |= std::byte{0x30}; }),
      "blk.1.ffn_down.weight");
}

TEST(HostileCheckpoint, RefusesQuantizedLinears) {
  const Error error = gguf_error([](auto& tensors) {
    FileTensor& tensor = tensors.at("blk.0.ffn_up.weight");
    tensor.dtype = DType::kQ8_0;
    tensor.bytes.assign(static_cast<size_t>(storage_bytes(DType::kQ8_0, tensor.shape)), std::byte{0});
  });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
  EXPECT_NE(std::string(error.what()).find("q8_0"), std::string::npos);
}

TEST(HostileCheckpoint, RecognizesTheScatteredChunksOfAQuantizerWithThreads) {
  ModelConfig config = small_config();
  config.intermediate_size = 512;  // 512 * 128 weights: 4 chunks of 16384
  const SmallModel model(config);
  const TemporaryFolder folder;
  auto tensors = model.gguf_tensors();
  // A tensor of that kind takes the room of three tails more than it should. "ffn_up.weight.tails" lies
  // behind it.
  tensors["blk.0.ffn_up.weight.tails"] = float_tensor({24}, std::vector<float>(24, 0.0f));
  write_gguf(folder / "m.gguf", config, tensors);
  EXPECT_NO_THROW(
      (void)Checkpoint::open(folder / "m.gguf"));  // the room belongs to a tensor: nothing is wrong

  // The same file with that tensor's name, type and offset cut out of the header.
  const std::string bytes = read_file(folder / "m.gguf");
  write_text_file(folder / "m.gguf", without_tensor_entry(bytes, "blk.0.ffn_up.weight.tails", 1));
  const Error error = error_of([&] { (void)Checkpoint::open(folder / "m.gguf"); });
  expect_corrupt(error, "blk.0.ffn_up.weight");
  EXPECT_NE(std::string(error.what()).find("4 scattered chunks"), std::string::npos) << error.what();
}

TEST(HostileCheckpoint, RefusesATokenizerLargerThanTheEmbedding) {
  ModelConfig config = small_config();
  const SmallModel model(config);
  const TemporaryFolder folder;
  write_folder(folder.path(), packed_config(config, LinearClass::kAutoBitLinear),
               model.hf_tensors(LinearClass::kAutoBitLinear));
  write_tokenizer_files(synth_tokenizer(300), folder.path());
  const Error error = error_of([&] { (void)Checkpoint::open(folder.path()); });
  EXPECT_EQ(error.code(), ErrorCode::kCorruptData);
  EXPECT_NE(std::string(error.what()).find("300"), std::string::npos) << error.what();
}

TEST(HostileCheckpoint, RefusesTruncatedFiles) {
  const SmallModel model(small_config());
  const TemporaryFolder folder;
  write_gguf(folder / "m.gguf", model.config(), model.gguf_tensors());
  const auto size = std::filesystem::file_size(folder / "m.gguf");
  for (const double part : {0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99}) {
    std::filesystem::resize_file(folder / "m.gguf", static_cast<uintmax_t>(static_cast<double>(size) * part));
    EXPECT_EQ(error_of([&] { (void)Checkpoint::open(folder / "m.gguf"); }).code(), ErrorCode::kCorruptData)
        << part;
    write_gguf(folder / "m.gguf", model.config(), model.gguf_tensors());
  }
}

TEST(HostileCheckpoint, SaysWhatAPathShouldBe) {
  const TemporaryFolder folder;
  EXPECT_EQ(error_of([&] { (void)Checkpoint::open(folder / "none.gguf"); }).code(), ErrorCode::kNotFound);
  EXPECT_EQ(error_of([&] { (void)Checkpoint::open(folder.path()); }).code(), ErrorCode::kNotFound);
  write_safetensors(folder / "model.safetensors", {});
  EXPECT_EQ(error_of([&] { (void)Checkpoint::open(folder / "model.safetensors"); }).code(),
            ErrorCode::kUnsupported);
  write_text_file(folder / "config.json", "{");
  const Error error = error_of([&] { (void)Checkpoint::open(folder.path()); });
  EXPECT_EQ(error.code(), ErrorCode::kCorruptData);
  EXPECT_NE(std::string(error.what()).find("config.json"), std::string::npos);
}

}  // namespace
}  // namespace bitnet
