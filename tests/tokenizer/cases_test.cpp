#include "bitnet/tokenizer/tokenizer.h"
#include "tokenizer/test_data.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

using tokenizer_test::data_path;
using tokenizer_test::read_cases;

constexpr const char* kTokenizers[] = {"storyteller",
                                       "llama3",
                                       "gpt2",
                                       "gpt2-prefix",
                                       "falcon",
                                       "digits",
                                       "splits",
                                       "llama2",
                                       "llama2-no-bytes",
                                       "llama2-no-fuse",
                                       "metaspace-always-split",
                                       "metaspace-first-split",
                                       "metaspace-first-whole",
                                       "metaspace-never-split",
                                       "metaspace-never-whole"};

// The expected ids are Hugging Face tokenizers' own (data/README.md).
class ReferenceCases : public testing::TestWithParam<const char*> {};

TEST_P(ReferenceCases, IdsAndTextAreTheReferences) {
  const Tokenizer tokenizer(tokenizer_spec_from_folder(data_path(GetParam())));
  const auto cases = read_cases(GetParam());
  ASSERT_FALSE(cases.empty());
  for (const auto& [text, ids, decoded] : cases) {
    EXPECT_EQ(tokenizer.encode(text, {.add_special = true, .parse_special = true}), ids) << "text: " << text;
    if (!decoded) continue;
    EXPECT_EQ(tokenizer.decode(ids), *decoded) << "text: " << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, ReferenceCases, testing::ValuesIn(kTokenizers),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace bitnet
