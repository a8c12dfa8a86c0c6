// An exchange between GPUs that reach each other's memory (src/kernels/cuda/gather.cu).

#include "inference/exchange.h"

#include <limits>
#include <utility>

namespace bitnet::cuda {
namespace {

/// What all sides know of each other.
struct PeerTable {
  std::array<GatherArgs, std::tuple_size_v<SharedVectors>> gathers{};  ///< but for what belongs to a side
  uint32_t gathers_of_pass = 0;
};

class PeerExchange final : public Exchange {
 public:
  PeerExchange(int rank, int device)
      : rank_(rank), device_((table().use_device(device), device)), area_(table().gather_area_bytes()) {
    renew();
  }
  void connect(const PeerTable& peers) { peers_ = peers; }
  [[nodiscard]] void* area() const { return area_.data(); }

  [[nodiscard]] std::string_view name() const override { return "peers"; }
  void begin(Stream stream) override {
    next_ = 0;
    table().next_pass(area_.data(), peers_.gathers_of_pass, stream);
  }
  void gather(Shared which, int64_t tokens, Stream stream) override {
    GatherArgs args = peers_.gathers[static_cast<size_t>(which)];
    args.rank = rank_;
    args.tokens = tokens;
    args.index = next_++;
    const int64_t row = (args.begin[args.size] + 1) / 2 * 2;
    if (tokens * row <= kFewElements) {
      table().gather_few(args, stream);
    } else {
      table().gather_many(args, stream);
    }
  }
  [[nodiscard]] int64_t passes() const override {
    return std::numeric_limits<uint32_t>::max() / peers_.gathers_of_pass - 2;
  }
  void renew() override {
    table().use_device(device_);
    const OwnedStream stream;
    table().clear(area_.data(), area_.bytes(), stream.get());
    table().synchronize(stream.get());
  }

 private:
  int rank_, device_;
  DeviceBuffer area_;
  PeerTable peers_;
  uint32_t next_ = 0;  ///< gather of the pass
};

}  // namespace

std::vector<std::unique_ptr<Exchange>> make_peer_exchanges(const ModelConfig& config,
                                                           std::span<const ExchangePlace> places) {
  const int size = static_cast<int>(places.size());
  std::vector<std::unique_ptr<PeerExchange>> sides;
  for (int rank = 0; rank < size; ++rank) {
    const int device = places[static_cast<size_t>(rank)].device;
    table().use_device(device);
    for (const ExchangePlace& other : places) {
      if (other.device != device) table().reach(other.device);
    }
    sides.push_back(std::make_unique<PeerExchange>(rank, device));
  }
  PeerTable peers;
  peers.gathers_of_pass = static_cast<uint32_t>(Exchange::kGathers * config.num_layers);
  for (size_t which = 0; which < peers.gathers.size(); ++which) {
    GatherArgs& args = peers.gathers[which];
    args.size = size;
    args.stride = places.front().vectors[which].stride;
    const PartBegins begins = part_begins(config, static_cast<Shared>(which), size);
    std::copy(begins.begin(), begins.end(), args.begin);
    for (size_t rank = 0; rank < places.size(); ++rank) {
      args.rows[rank] = places[rank].vectors[which].rows;
      args.areas[rank] = sides[rank]->area();
    }
  }
  std::vector<std::unique_ptr<Exchange>> exchanges;
  for (std::unique_ptr<PeerExchange>& side : sides) {
    side->connect(peers);
    exchanges.push_back(std::move(side));
  }
  return exchanges;
}

}  // namespace bitnet::cuda
