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
  for (int code = 0; code <= static_cast<int>(ErrorCode::kConcurrency); ++code) {
    names.insert(to_string(static_cast<ErrorCode>(code)));
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(ErrorCode::kConcurrency) + 1);
  EXPECT_EQ(names.count("Unknown"), 0u);
}

TEST(Error, ReportsNameOperationAndOperandsOnce) {
  Error error(ErrorCode::kShapeMismatch, "inner sizes \"3\" and 4 differ", "transpose one");
  error.with_operation("matmul", {{DType::kF32, {2, 3}}, {DType::kI8, {4, 5}}}).with_operation("forward", {});
  error.with_context("layer 1");
  EXPECT_EQ(error.severity(), Severity::kError);
  EXPECT_EQ(error.report(),
            "ShapeMismatch (error): layer 1: inner sizes \"3\" and 4 differ\n"
            "operation: matmul f32[2, 3] i8[4, 5]\n"
            "hint: transpose one\n");
  EXPECT_EQ(error.to_json(),
            R"({"code":"ShapeMismatch","severity":"error","message":"inner sizes \"3\" and 4 differ",)"
            R"("context":["layer 1"],"operation":"matmul","operands":[{"dtype":"f32","shape":[2, 3]},)"
            R"({"dtype":"i8","shape":[4, 5]}],"hint":"transpose one"})");
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
