#include "bench_table.h"

#include "text.h"

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

std::string text_of(const Json& json, const char* key) {
  return escape_controls(json[key].get<std::string>());
}

std::string speed_table(const Json& rows) {
  std::string text =
      fmt::format("{:<14} {:>7} {:>16} {:>12} {:>12}\n", "test", "threads", "tokens/s median", "min", "max");
  for (const Json& row : rows) {
    const Json& speed = row["tokens_per_second"];
    text += fmt::format("{:<14} {:>7} {:>16.2f} {:>12.2f} {:>12.2f}", text_of(row, "test"),
                        row["threads"].get<int>(), speed["median"].get<double>(), speed["min"].get<double>(),
                        speed["max"].get<double>());
    if (row.contains("bound")) {
      const Json& bound = row["bound"];
      text += fmt::format("   {:>3.0f} % of the {:.1f} that {} allows", bound["share"].get<double>() * 100,
                          bound["tokens_per_second"].get<double>(),
                          bound["by"] == "read" ? "reading memory" : "int8 arithmetic");
    }
    if (row.contains("zeros")) {
      const Json& zeros = row["zeros"];
      text +=
          fmt::format("   zeros: {:.0f} % of gates, {:.0f} % of inputs of down",
                      zeros["closed_gates"].get<double>() * 100, zeros["zero_inputs"].get<double>() * 100);
    }
    text += "\n";
  }
  return text;
}

std::string machine_table(const Json& rows) {
  std::string text =
      fmt::format("{:>7} {:>26} {:>26}\n", "threads", "read GB/s before, after", "int8 GMAC/s before, after");
  for (const Json& row : rows) {
    const auto pair = [&row](const char* key) {
      return fmt::format("{:.1f}, {:.1f}", row[key]["before"].get<double>() * 1e-9,
                         row[key]["after"].get<double>() * 1e-9);
    };
    text +=
        fmt::format("{:>7} {:>26} {:>26}   {}\n", row["threads"].get<int>(), pair("read_bytes_per_second"),
                    pair("int8_macs_per_second"), text_of(row, "int8_instruction"));
  }
  return text;
}

std::string startup_table(const Json& rows) {
  std::string text = fmt::format("{:<14} {:>7} {:>16} {:>16} {:>16}\n", "start", "threads", "load s",
                                 "first token s", "peak memory");
  for (const Json& row : rows) {
    text += fmt::format("{:<14} {:>7} {:>16.3f} {:>16.3f} {:>16}\n", text_of(row, "state"),
                        row["threads"].get<int>(), row["load_seconds"]["median"].get<double>(),
                        row["first_token_seconds"]["median"].get<double>(),
                        format_bytes(row["peak_memory_bytes"]));
  }
  return text;
}

std::string kernel_table(const Json& rows) {
  const auto rate = [](double value) { return value > 0 ? fmt::format("{:.1f}", value) : std::string("-"); };
  const auto share = [](const Json& row) {
    return row.contains("bound")
               ? fmt::format("  {:>5.1f} % of {}", row["bound"]["share"].get<double>() * 100,
                             text_of(row["bound"], "by"))
               : std::string();
  };
  std::string text = fmt::format("{:<18} {:<20} {:>6} {:>7} {:>12} {:>10} {:>10}\n", "kernel", "shape",
                                 "tokens", "threads", "us", "GOP/s", "GB/s");
  for (const Json& row : rows) {
    text += fmt::format("{:<18} {:<20} {:>6} {:>7} {:>12.2f} {:>10} {:>10}{}\n", text_of(row, "kernel"),
                        text_of(row, "shape"), row["tokens"].get<int64_t>(), row["threads"].get<int>(),
                        row["seconds"].get<double>() * 1e6, rate(row["gop_per_second"]),
                        rate(row["gb_per_second"]), share(row));
  }
  return text;
}

std::string comparison_table(const Json& comparison) {
  std::string text = fmt::format("against {}\n{:<44} {:>12} {:>12} {:>8}\n", text_of(comparison, "with"),
                                 "measured", "earlier", "now", "ratio");
  for (const Json& row : comparison["rows"]) {
    text += fmt::format("{:<44} {:>12.4g} {:>12.4g} {:>8.3f}{}\n", text_of(row, "name"),
                        row["earlier"].get<double>(), row["now"].get<double>(), row["ratio"].get<double>(),
                        row["slower"].get<bool>() ? "  slower" : "");
  }
  return text + fmt::format("{} of {} slower by more than {} %\n", comparison["slower"].get<int>(),
                            comparison["rows"].size(), comparison["threshold_percent"].get<double>());
}

}  // namespace

std::string bench_table(const Json& bench) {
  std::string text = fmt::format("{}, {} kernels, {}\n", text_of(bench, "model"), text_of(bench, "isa"),
                                 text_of(bench, "cpu"));
  if (!bench["rows"].empty()) text += speed_table(bench["rows"]);
  if (bench.contains("roofline")) text += machine_table(bench["roofline"]);
  if (bench.contains("startup")) text += startup_table(bench["startup"]);
  if (bench.contains("kernels")) text += kernel_table(bench["kernels"]);
  if (bench.contains("comparison")) text += comparison_table(bench["comparison"]);
  return text + fmt::format("weights {}, resident {}, peak memory {}\n", format_bytes(bench["model_bytes"]),
                            format_bytes(bench["resident_bytes"]), format_bytes(bench["peak_memory_bytes"]));
}

}  // namespace bitnet::cli
