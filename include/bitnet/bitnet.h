#pragma once

// Everything.
#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
#include "bitnet/inference/generate.h"
#include "bitnet/inference/model.h"
#include "bitnet/inference/sampler.h"
#include "bitnet/inference/session.h"
#include "bitnet/io/gguf.h"
#include "bitnet/io/safetensors.h"
#include "bitnet/kernels/cpu.h"
#include "bitnet/memory/pool.h"
#include "bitnet/model/checkpoint.h"
#include "bitnet/model/config.h"
#include "bitnet/model/convert.h"
#include "bitnet/tokenizer/chat_template.h"
#include "bitnet/tokenizer/tokenizer.h"
