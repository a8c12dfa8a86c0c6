#include "inference/exchange.h"

#include "bitnet/core/error.h"
#include "bitnet/core/log.h"

#include <cstdlib>
#include <string>

#include <fmt/format.h>

namespace bitnet::cuda {
namespace {

/// The first two GPUs that do not reach each other, in words; empty if all do.
std::string unreachable(std::span<const ExchangePlace> places) {
  for (const ExchangePlace& from : places) {
    for (const ExchangePlace& to : places) {
      if (from.device != to.device && !table().can_reach(from.device, to.device))
        return fmt::format("cuda:{} does not reach the memory of cuda:{}", from.device, to.device);
    }
  }
  return {};
}

}  // namespace

PartBegins part_begins(const ModelConfig& config, Shared which, int size) {
  PartBegins begins{};
  for (int rank = 0; rank < size; ++rank) {
    const ShareRows rows = rows_of(config, {rank, size});
    const ShareRows::Range range = which == Shared::kAttention ? rows.attention
                                   : which == Shared::kHidden  ? rows.hidden
                                                               : rows.ffn;
    begins[static_cast<size_t>(rank)] = range.begin;
    begins[static_cast<size_t>(rank) + 1] = range.end;
  }
  return begins;
}

std::vector<std::unique_ptr<Exchange>> make_exchanges(const ModelConfig& config,
                                                      std::span<const ExchangePlace> places, int64_t batch) {
  const char* const set = std::getenv("BITNET_EXCHANGE");
  const std::string asked = set == nullptr ? "" : set;
  if (!asked.empty() && asked != "peers" && asked != "nccl") {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("BITNET_EXCHANGE is '{}'", asked),
                "set it to peers or nccl, or leave it out");
  }
  const std::string reason = unreachable(places);
  if (asked == "peers" && !reason.empty()) {
    throw Error(ErrorCode::kUnsupported, fmt::format("BITNET_EXCHANGE is 'peers', but {}", reason),
                "leave it out: NCCL goes through host memory there");
  }
  const bool peers = asked == "peers" || (asked.empty() && reason.empty());
  if (!peers && asked.empty())
    log_message(LogLevel::kInfo, fmt::format("GPUs exchange vectors through NCCL, because {}", reason));
  return peers ? make_peer_exchanges(config, places) : make_nccl_exchanges(config, places, batch);
}

}  // namespace bitnet::cuda
