#pragma once

#include "bitnet/tokenizer/tokenizer.h"

namespace bitnet {

/// A byte-level BPE tokenizer of exactly `vocab_size` entries in which every normal token is reached by
/// merges: the 256 bytes, then pairs of earlier tokens, then the special tokens. 128256 entries have Llama
/// 3's special tokens at their ids; other sizes end with the same tokens' names, as many as fit.
[[nodiscard]] TokenizerSpec synth_tokenizer(int64_t vocab_size);

}  // namespace bitnet
