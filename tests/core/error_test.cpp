#include "bitnet/core/error.h"

#include "bitnet/core/log.h"

#include <set>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

TEST(Error, WhatJoinsContextOutermostFirst) {
  try {
    try {
      throw Error(ErrorCode::kCorruptData, "scale is NaN", "convert the model again");
    } catch (Error& error) {
      error.with_context("tensor q").with_context("file m.gguf");
      throw;
    }
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "file m.gguf: tensor q: scale is NaN");
    EXPECT_EQ(error.message(), "scale is NaN");
    EXPECT_EQ(error.hint(), "convert the model again");
    EXPECT_EQ(error.code(), ErrorCode::kCorruptData);
    EXPECT_EQ(error.context().size(), 2u);
  }
}

TEST(Error, EveryCodeHasItsOwnName) {
  std::set<std::string_view> names;
  for (int code = 0; code <= static_cast<int>(ErrorCode::kInternal); ++code) {
    names.insert(to_string(static_cast<ErrorCode>(code)));
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(ErrorCode::kInternal) + 1);
  EXPECT_EQ(names.count("Unknown"), 0u);
}

TEST(Log, IsSilentUntilACallbackIsSetAndRespectsTheLevel) {
  EXPECT_FALSE(log_enabled(LogLevel::kError));
  std::string seen;
  set_log_callback([&seen](LogLevel, std::string_view message) { seen += message; }, LogLevel::kWarning);
  log_message(LogLevel::kInfo, "no");
  log_message(LogLevel::kWarning, "yes");
  set_log_callback(nullptr);
  log_message(LogLevel::kError, "no");
  EXPECT_EQ(seen, "yes");
}

}  // namespace
}  // namespace bitnet
