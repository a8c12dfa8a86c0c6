#pragma once

#include "bitnet/model/convert.h"
#include "model/names.h"
#include "model/tensor_output.h"

#include <string>
#include <vector>

namespace bitnet {

/// The name of a type in options, checked against what the target holds. Throws kUnsupported with the list.
[[nodiscard]] DType chosen_type(std::optional<DType> chosen, DType otherwise, std::span<const DType> allowed,
                                std::string_view what);

/// Losses and notes from what writing found.
void report_findings(const OutputFindings& findings, ConvertReport& report);

ConvertReport convert_to_gguf(const Checkpoint& source, const std::filesystem::path& output,
                              const ConvertOptions& options);
ConvertReport convert_to_huggingface(const Checkpoint& source, const std::filesystem::path& output,
                                     const ConvertOptions& options);

}  // namespace bitnet
