#include "activation_shares.h"
#include "bitnet/core/error.h"
#include "bitnet/core/thread_pool.h"
#include "bitnet/model/checkpoint.h"
#include "commands.h"
#include "errors.h"
#include "inspect_container.h"
#include "interrupt.h"
#include "precision_report.h"
#include "progress.h"
#include "prompt.h"
#include "text.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <utility>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

constexpr const char* kInspectFooter = R"(Examples:
  bitnet inspect model.gguf
  bitnet inspect ./bitnet-b1.58-2B-4T --json
  bitnet inspect model.gguf --no-zeros     (fast: weights are not read, the model is not checked)
  bitnet inspect model.gguf --activations text.txt     (how many gates are closed, by layer)
  bitnet inspect model.gguf --policy aggressive     (what a mixed-precision policy would make of it)

Ternary matrices carry the names that the engine uses, whatever the file calls them.)";

struct InspectOptions {
  std::string model, activations, policy;
  bool no_zeros = false;
};

struct TernaryRow {
  std::string name;
  std::string_view kind, dtype;
  int64_t rows = 0, cols = 0, zeros = 0;
  [[nodiscard]] int64_t weights() const { return rows * cols; }
  [[nodiscard]] double zero_fraction() const {
    return weights() == 0 ? 0 : static_cast<double>(zeros) / static_cast<double>(weights());
  }
};

std::string_view kind_name(TernarySource::Kind kind) {
  switch (kind) {
    case TernarySource::Kind::kPacked:
      return "packed";
    case TernarySource::Kind::kExactFloat:
      return "exact";
    case TernarySource::Kind::kMaster:
      return "master";
  }
  return "";
}

int64_t count_zeros(const TernarySource& source, ThreadPool& pool) {
  constexpr int64_t kRowsAtOnce = 16;
  std::atomic<int64_t> zeros{0};
  pool.for_range(source.rows(), kRowsAtOnce, [&](int64_t begin, int64_t end) {
    std::vector<int8_t> trits(static_cast<size_t>(kRowsAtOnce * source.cols()));
    std::vector<float> scales(kRowsAtOnce);
    for (int64_t row = begin; row < end; row += kRowsAtOnce) {
      const int64_t rows = std::min(kRowsAtOnce, end - row);
      const auto part = std::span(trits).first(static_cast<size_t>(rows * source.cols()));
      source.read_rows(row, rows, part, std::span(scales).first(static_cast<size_t>(rows)));
      zeros += std::count(part.begin(), part.end(), int8_t{0});
    }
  });
  source.drop_resident();
  return zeros;
}

std::vector<TernaryRow> ternary_rows(const Checkpoint& checkpoint, int threads) {
  ThreadPool pool(threads);
  Progress progress("counting zeros");
  std::vector<TernaryRow> rows;
  const std::vector<std::string>& names = checkpoint.linear_names();
  for (const std::string& name : names) {
    progress.update(static_cast<int64_t>(rows.size()), static_cast<int64_t>(names.size()));
    const TernarySource& source = checkpoint.linear(name);
    rows.push_back({name, kind_name(source.kind()), to_string(source.stored_dtype()), source.rows(),
                    source.cols(), count_zeros(source, pool)});
  }
  return rows;
}

struct DTypeTotal {
  int64_t tensors = 0, bytes = 0;
};

std::map<std::string_view, DTypeTotal> totals(const Container& container) {
  std::map<std::string_view, DTypeTotal> result;
  for (const TensorRow& tensor : container.tensors) {
    DTypeTotal& total = result[to_string(tensor.dtype)];
    ++total.tensors;
    total.bytes += tensor.bytes;
  }
  return result;
}

int64_t total_bytes(const Container& container) {
  int64_t bytes = 0;
  for (const TensorRow& tensor : container.tensors) bytes += tensor.bytes;
  return bytes;
}

TernaryRow sum(const std::vector<TernaryRow>& rows) {
  TernaryRow all;
  all.cols = 1;
  for (const TernaryRow& row : rows) {
    all.rows += row.weights();
    all.zeros += row.zeros;
  }
  return all;
}

Json to_json(const std::string& path, const Container& container, const std::vector<TernaryRow>& ternary) {
  Json json = {{"model", path}, {"format", container.format}};
  json["metadata"] = Json::object();
  for (const auto& [key, value] : container.metadata) json["metadata"][key] = value;
  json["tensors"] = Json::array();
  for (const TensorRow& tensor : container.tensors) {
    json["tensors"].push_back({{"name", tensor.name},
                               {"dtype", to_string(tensor.dtype)},
                               {"shape", tensor.shape},
                               {"bytes", tensor.bytes}});
  }
  json["totals"] = {{"tensors", container.tensors.size()}, {"bytes", total_bytes(container)}};
  for (const auto& [dtype, total] : totals(container)) {
    json["totals"]["dtypes"][std::string(dtype)] = {{"tensors", total.tensors}, {"bytes", total.bytes}};
  }
  if (ternary.empty()) return json;
  json["ternary"] = Json::array();
  for (const TernaryRow& row : ternary) {
    json["ternary"].push_back({{"name", row.name},
                               {"kind", row.kind},
                               {"dtype", row.dtype},
                               {"rows", row.rows},
                               {"cols", row.cols},
                               {"zero_fraction", row.zero_fraction()}});
  }
  json["totals"]["ternary_weights"] = sum(ternary).weights();
  json["totals"]["zero_fraction"] = sum(ternary).zero_fraction();
  return json;
}

std::string to_text(const std::string& path, const Container& container,
                    const std::vector<TernaryRow>& ternary) {
  std::string text = fmt::format("{} ({})\n\nmetadata\n", escape_controls(path), container.format);
  for (const auto& [key, value] : container.metadata) {
    const std::string shown = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    text += fmt::format("  {} = {}\n", escape_controls(key), escape_controls(shown));
  }
  text += "\ntensors\n";
  for (const TensorRow& tensor : container.tensors) {
    text += fmt::format("  {:<44} {:<10} {:<18} {:>14}\n", escape_controls(tensor.name),
                        to_string(tensor.dtype), to_string(tensor.shape), tensor.bytes);
  }
  if (!ternary.empty()) text += "\nternary matrices\n";
  for (const TernaryRow& row : ternary) {
    text += fmt::format("  {:<44} {:<10} {:<18} {:>6.2f} % zero\n", escape_controls(row.name), row.dtype,
                        fmt::format("[{}, {}]", row.rows, row.cols), row.zero_fraction() * 100);
  }
  text += "\ntotals\n";
  for (const auto& [dtype, total] : totals(container)) {
    text += fmt::format("  {:<10} {:>5} tensors {:>16} bytes\n", dtype, total.tensors, total.bytes);
  }
  text += fmt::format("  {:<10} {:>5} tensors {:>16} bytes ({})\n", "all", container.tensors.size(),
                      total_bytes(container), format_bytes(total_bytes(container)));
  if (!ternary.empty()) {
    text += fmt::format("  ternary    {} weights, {:.2f} % zero\n", sum(ternary).weights(),
                        sum(ternary).zero_fraction() * 100);
  }
  return text;
}

/// The shares of zeros that a text makes in the feed-forward blocks.
std::vector<LayerActivations> run_text(const CommonOptions& common, const std::string& file) {
  Session session = open_session(load_model(common), common);
  const Model& model = session.model();
  if (model.config().activation != Activation::kRelu2) {
    throw Error(ErrorCode::kUnsupported, "--activations: the model's activation is SiLU, which is never zero",
                "only models with squared ReLU have gates that close");
  }
  InputOptions input;
  input.file = file;
  std::vector<int32_t> ids = model.require_tokenizer().encode(read_input(input).text);
  ids.resize(std::min(ids.size(), static_cast<size_t>(session.context())));
  (void)session.append(ids);
  return session.activations();
}

int show_plan(const std::string& policy_name, const std::filesystem::path& path, bool as_json) {
  const PrecisionPolicy policy = read_policy(policy_name);  // first: its mistakes need no model to show
  const Container container = read_container(path);
  const PrecisionPlan plan = plan_precision(policy, container);
  if (as_json) {
    print_json(
        {{"model", path.string()}, {"format", container.format}, {"policy", precision_json(policy, plan)}});
  } else {
    write_out(precision_text(policy, plan));
  }
  return kExitOk;
}

int inspect(const InspectOptions& options, const CommonOptions& common) {
  const InterruptScope interrupt_scope;
  CommonOptions named = common;
  if (!options.model.empty()) named.model = options.model;
  const std::filesystem::path path = find_model(named);
  if (!options.policy.empty()) return show_plan(options.policy, path, common.json);
  const Container container = read_container(path);
  std::vector<TernaryRow> ternary;
  // A file without tensors is a vocabulary, and a safetensors file alone has no configuration: no model to
  // check.
  const bool is_model = !container.tensors.empty() && path.extension() != ".safetensors";
  if (!options.no_zeros && is_model) {
    ternary = ternary_rows(Checkpoint::open(path), common.threads);
  }
  std::vector<LayerActivations> activations;
  if (!options.activations.empty()) activations = run_text(named, options.activations);
  if (common.json) {
    Json json = to_json(path.string(), container, ternary);
    if (!activations.empty()) json["activations"] = activation_json(activations);
    print_json(json);
  } else {
    write_out(to_text(path.string(), container, ternary));
    if (!activations.empty()) write_out("\nactivations\n" + activation_text(activations));
  }
  return kExitOk;
}

}  // namespace

void add_inspect_command(Command app, Program& program) {
  auto options = std::make_shared<InspectOptions>();
  const Command command =
      add_command(app, program, "inspect", "Show what a model file holds", options, &inspect);
  command.footer(kInspectFooter);
  const Option positional =
      command.add_option("MODEL", options->model, "A .gguf file, .safetensors file or folder");
  add_model_option(command, program.common).excludes(positional);
  add_threads_option(command, program.common);
  command.add_flag("--no-zeros", options->no_zeros,
                   "Read headers only: no zero fractions, no check of the model");
  const Option activations =
      command
          .add_option(
              "--activations", options->activations,
              "Run a text (up to the context) and show the share of closed gates and zero inputs by layer")
          .type_name("TEXTFILE");
  command
      .add_option("--policy", options->policy,
                  "Show instead what a mixed-precision policy would make of each tensor: conservative, "
                  "balanced, aggressive or a JSON file")
      .type_name("POLICY")
      .excludes(activations);
}

}  // namespace bitnet::cli
