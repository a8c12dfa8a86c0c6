// What zeros let the feed-forward block leave out changes no bit, and is counted.

#include "bitnet/core/error.h"
#include "bitnet/inference/generate.h"
#include "bitnet/model/convert.h"
#include "fixtures.h"
#include "inference/sparse_products.h"
#include "temporary_folder.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <random>
#include <sstream>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

constexpr int64_t kHidden = 300, kInner = 530;  // neither whole blocks nor whole lines

ModelConfig small_config() {
  ModelConfig config;
  config.hidden_size = kHidden;
  config.intermediate_size = kInner;
  config.num_heads = config.num_kv_heads = 1;
  config.head_dim = 64;
  return config;
}

using testing::random_linear;

struct Case {
  int64_t tokens;
  double open;      ///< share of the gates
  float row_scale;  ///< of up
  bool with_nan;    ///< a gate is NaN
};

/// Both blocks' products by skipping and by whole matrices, from the same inputs.
class Comparison {
 public:
  Comparison(Executor executor, const Case& c)
      : executor_(executor),
        tokens_(c.tokens),
        row_scale_(c.row_scale),
        projector_(config_, executor, c.tokens),
        products_(config_, executor, projector_, c.tokens),
        x_(static_cast<size_t>(c.tokens * kHidden)),
        gate_(static_cast<size_t>(c.tokens * kInner)) {
    std::mt19937 random(static_cast<uint32_t>(c.tokens));
    const auto uniform = [&] { return static_cast<float>(random()) * 0x1p-31f - 1.0f; };
    for (float& value : x_) value = uniform();
    for (float& value : gate_) {
      value = std::fabs(uniform());
      if (static_cast<double>(random()) * 0x1p-32 >= c.open) value = random() % 4 == 0 ? -0.0f : -value;
    }
    if (c.with_nan) gate_[7] = std::numeric_limits<float>::quiet_NaN();
  }

  void check() {
    check_up();
    if (tokens_ == 1) check_gate_up();
    check_down();
  }

 private:
  void check_up() {
    const Linear rows = random_linear(kInner, kHidden, TernaryLayout::kRows, row_scale_);
    const Linear blocks = random_linear(kInner, kHidden, TernaryLayout::kBlocks, row_scale_);
    std::vector<float> expected(gate_.size()), h(gate_.size(), 5.0f);
    projector_.project(std::array{Projector::Job{&blocks, {expected.data(), kInner}}}, tokens_,
                       {x_.data(), kHidden}, {});
    executor_.table.glu_relu2(
        {.gate = gate_.data(), .up = expected.data(), .h = expected.data(), .count = std::ssize(expected)});
    const Int8Rows input = projector_.prepare(rows, tokens_, {x_.data(), kHidden}, {});
    const int64_t open = products_.up(rows, tokens_, input, {gate_.data(), kInner}, {h.data(), kInner});
    EXPECT_EQ(open, std::count_if(gate_.begin(), gate_.end(), [](float g) { return !(g <= 0); }));
    for (size_t i = 0; i < h.size(); ++i) {
      if (std::isnan(expected[i])) {
        ASSERT_TRUE(std::isnan(h[i])) << i;
      } else {
        ASSERT_EQ(h[i], expected[i]) << i;  // +0 and -0 are alike to what follows
      }
    }
  }

  void check_gate_up() {
    const Linear gate = random_linear(kInner, kHidden, TernaryLayout::kTight, 0.5f);
    const Linear up = random_linear(kInner, kHidden, TernaryLayout::kRows, row_scale_);
    std::vector<float> gates(gate_.size()), fused_gates(gate_.size()), expected(gate_.size());
    std::vector<float> h(gate_.size(), 5.0f);
    const Int8Rows input = projector_.prepare(gate, 1, {x_.data(), kHidden}, {});
    projector_.multiply(std::array{Projector::Job{&gate, {gates.data(), kInner}}}, 1);
    const int64_t open = products_.up(up, 1, input, {gates.data(), kInner}, {expected.data(), kInner});
    EXPECT_GT(open, 0);
    EXPECT_EQ(products_.gate_up(gate, up, input, {fused_gates.data(), kInner}, {h.data(), kInner}), open);
    EXPECT_EQ(fused_gates, gates);
    ASSERT_EQ(std::memcmp(h.data(), expected.data(), h.size() * sizeof(float)), 0);
  }

  /// From gate_, of which int8 makes zeros and others.
  void check_down() {
    for (float& value : gate_) value = value <= 0 || std::isnan(value) ? 0.0f : value;
    const Linear columns = random_linear(kHidden, kInner, TernaryLayout::kColumns, 0.5f);
    const Linear blocks = random_linear(kHidden, kInner, TernaryLayout::kBlocks, 0.5f);
    std::vector<float> expected(x_.size()), y(x_.size(), 5.0f);
    projector_.project(std::array{Projector::Job{&blocks, {expected.data(), kHidden}}}, tokens_,
                       {gate_.data(), kInner}, {});
    const Int8Rows input = projector_.prepare(columns, tokens_, {gate_.data(), kInner}, {});
    int64_t nonzero = 0;
    for (int64_t t = 0; t < tokens_; ++t)
      nonzero += kInner - std::count(input.row(t), input.row(t) + kInner, int8_t{0});
    EXPECT_EQ(products_.down(columns, tokens_, input, {y.data(), kHidden}), nonzero);
    ASSERT_EQ(std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)), 0);
  }

  ModelConfig config_ = small_config();
  Executor executor_;
  int64_t tokens_;
  float row_scale_;
  Projector projector_;
  SparseProducts products_;
  std::vector<float> x_, gate_;
};

TEST(SparseProducts, SkippingChangesNothing) {
  for (const std::string& isa : testing::isas()) {
    for (const int threads : {1, 2, 5}) {
      ThreadPool pool(threads);
      for (const int64_t tokens : {1, 2, 3, 70}) {
        for (const double open : {0.0, 0.03, 0.33, 1.0}) {
          SCOPED_TRACE(isa + ", threads " + std::to_string(threads) + ", tokens " + std::to_string(tokens) +
                       ", open " + std::to_string(open));
          Comparison({kernels::select_kernels(isa), pool}, {tokens, open, 0.25f, false}).check();
          if (::testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
}

/// A table on which skipping never pays.
TEST(SparseProducts, WholeMatricesAreTheSame) {
  for (const std::string& isa : testing::isas()) {
    kernels::KernelTable table = kernels::select_kernels(isa);
    table.batch_gain = 1e9f;
    ThreadPool pool(2);
    for (const int64_t tokens : {7, 70}) Comparison({table, pool}, {tokens, 0.5, 0.25f, false}).check();
  }
}

/// 0 * infinity is NaN: where a product might overflow, closed gates must not hide it.
TEST(SparseProducts, OverflowAndNanStayVisible) {
  ThreadPool pool(2);
  for (const int64_t tokens : {1, 3}) {
    Comparison({kernels::select_kernels(""), pool}, {tokens, 0.3, 3e38f, false}).check();
    Comparison({kernels::select_kernels(""), pool}, {tokens, 0.3, 0.25f, true}).check();
  }
}

std::vector<int32_t> eval_ids(const Model& model, size_t count) {
  std::ifstream file(testing::data_folder() / "storyteller/eval.txt", std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  std::vector<int32_t> ids = model.require_tokenizer().encode(text.str());
  ids.resize(std::min(ids.size(), count));
  return ids;
}

/// Logits of ids appended in pieces of several sizes.
std::vector<float> pieces(Session& session, std::span<const int32_t> ids) {
  std::vector<float> all;
  for (size_t done = 0, size = 1; done < ids.size(); size = size % 5 + 1) {
    const auto logits = session.append_all_logits(ids.subspan(done, std::min(size, ids.size() - done)));
    all.insert(all.end(), logits.begin(), logits.end());
    done += size;
  }
  return all;
}

void expect_same_logits(const std::filesystem::path& path, std::span<const int32_t> ids) {
  LoadOptions dense;
  dense.sparse = false;
  Session sparse(Model::load(path)), plain(Model::load(path, dense));
  EXPECT_EQ(pieces(sparse, ids), pieces(plain, ids));
  sparse.truncate(0);
  plain.truncate(0);
  EXPECT_EQ(sparse.append_all_logits(ids), plain.append_all_logits(ids));
  EXPECT_FALSE(sparse.activations().empty());
  EXPECT_TRUE(plain.activations().empty());
}

TEST(SparseModel, LogitsAreTheSameAsWithoutSkipping) {
  const auto model = Model::load(testing::bundled_model());
  expect_same_logits(testing::bundled_model(), eval_ids(*model, 40));
  const auto folder = testing::data_folder() / "reference/bitnet-packed";
  expect_same_logits(folder, testing::read_expected(folder).input_ids);
}

/// Few tokens, more than the kernels for t53x16 take, and kernels that know nothing of it.
TEST(SparseModel, LogitsAreTheSameFromEitherLayout) {
  const auto model = Model::load(testing::bundled_model());
  EXPECT_EQ(model->layout(), TernaryLayout::kBlocks) << "a cache holds all of it";
  const std::vector<int32_t> ids = eval_ids(*model, 40);
  for (const bool sparse : {false, true}) {
    LoadOptions options;
    options.sparse = sparse;
    options.layout = TernaryLayout::kTight;
    const auto tight = Model::load(testing::bundled_model(), options);
    EXPECT_EQ(tight->layout(), TernaryLayout::kTight);
    EXPECT_LT(tight->weight_bytes(), model->weight_bytes());
    Session plain(model);
    const std::vector<float> expected = pieces(plain, ids);
    for (const std::string_view isa : available_isas()) {
      SessionOptions session_options;
      session_options.isa = isa;
      Session session(tight, session_options);
      EXPECT_EQ(session.append_all_logits(ids), expected) << isa;
      session.truncate(0);
      if (isa == "scalar") continue;
      EXPECT_EQ(pieces(session, ids), expected) << isa;
    }
  }
}

TEST(SparseModel, OnlyLayoutsOfWholeMatricesCanBeAskedFor) {
  LoadOptions options;
  options.layout = TernaryLayout::kRows;
  EXPECT_THROW((void)Model::load(testing::bundled_model(), options), Error);
}

TEST(SparseModel, SiluModelsAreLeftAlone) {
  Session session(Model::load(testing::data_folder() / "reference/llama-packed"));
  (void)session.append(std::array{1, 2});
  EXPECT_TRUE(session.activations().empty());
}

/// What the program that trained storyteller counts: 66.8 % of the gates closed, 50 to 82 % by layer; 81.9 %
/// of the int8 inputs of down are zero, 70 to 90 % by layer. A part of the text is within a few percent of
/// that.
TEST(SparseModel, StorytellersSharesOfZerosAreFound) {
  const auto model = Model::load(testing::bundled_model());
  Session session(model);
  (void)session.append(eval_ids(*model, 400));
  LayerActivations all;
  for (const LayerActivations& layer : session.activations()) {
    EXPECT_EQ(layer.gates, 400 * model->config().intermediate_size);
    const auto share = [&](int64_t count) {
      return 1.0 - static_cast<double>(count) / static_cast<double>(layer.gates);
    };
    EXPECT_NEAR(share(layer.open_gates), 0.66, 0.18);
    EXPECT_NEAR(share(layer.nonzero_inputs), 0.80, 0.12);
    all.gates += layer.gates;
    all.open_gates += layer.open_gates;
    all.nonzero_inputs += layer.nonzero_inputs;
  }
  const auto gates = static_cast<double>(all.gates);
  EXPECT_NEAR(1.0 - static_cast<double>(all.open_gates) / gates, 0.668, 0.02);
  EXPECT_NEAR(1.0 - static_cast<double>(all.nonzero_inputs) / gates, 0.819, 0.02);
}

TEST(SparseModel, SyntheticModelsCloseTheGatesAsked) {
  const testing::TemporaryFolder work;
  SynthOptions options;
  ModelConfig& config = options.config;
  config = small_config();
  config.architecture = "bitnet-b1.58";
  config.vocab_size = 512;
  config.hidden_size = 768;
  config.intermediate_size = 1024;
  config.num_layers = 4;
  config.num_heads = config.num_kv_heads = 12;
  config.max_position = 64;
  for (const double share : {0.3, 0.668, 0.9}) {
    options.closed_gates = share;
    synthesize(options, work / "m.gguf");
    Session session(Model::load(work / "m.gguf"));
    std::vector<int32_t> ids(60);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 37 % 512);
    (void)session.append(ids);
    for (const LayerActivations& layer : session.activations()) {
      const auto open = static_cast<double>(layer.open_gates) / static_cast<double>(layer.gates);
      EXPECT_NEAR(1 - open, share, 0.04);
    }
  }
  options.closed_gates = 1.0;
  EXPECT_THROW(synthesize(options, work / "m.gguf"), Error);
  options.closed_gates = 0.5;
  config.activation = Activation::kSilu;
  EXPECT_THROW(synthesize(options, work / "m.gguf"), Error);
}

}  // namespace
}  // namespace bitnet
