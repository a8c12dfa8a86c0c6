#include "bitnet/model/convert.h"

#include "bitnet/core/error.h"
#include "model/checkpoint_builder.h"
#include "model/convert_plan.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace bitnet {

DType chosen_type(std::optional<DType> chosen, DType otherwise, std::span<const DType> allowed,
                  std::string_view what) {
  const DType dtype = chosen.value_or(otherwise);
  if (std::find(allowed.begin(), allowed.end(), dtype) != allowed.end()) return dtype;
  std::vector<std::string_view> names;
  for (const DType entry : allowed) names.push_back(to_string(entry));
  throw Error(ErrorCode::kUnsupported, fmt::format("the type of {} must be one of {}, found {}", what,
                                                   fmt::join(names, ", "), to_string(dtype)));
}

void report_findings(const OutputFindings& findings, ConvertReport& report) {
  for (const auto& [what, error] : findings.roundings) {
    report.losses.push_back(fmt::format("{} (relative error up to {:.2g})", what, error));
  }
  if (findings.ternarized > 0) {
    report.losses.push_back(fmt::format(
        "the master weights of {} linear layers became ternary values; training cannot go on from the output",
        findings.ternarized));
  }
  report.lossless = report.losses.empty();
}

ConvertReport convert(const Checkpoint& source, const std::filesystem::path& output,
                      const ConvertOptions& options) {
  return in_context(source.path().string(), [&] {
    return options.target == ConvertOptions::Target::kGguf ? convert_to_gguf(source, output, options)
                                                           : convert_to_huggingface(source, output, options);
  });
}

}  // namespace bitnet
