// An exchange through NCCL's all-gather, whose parts are equally long and lie one after another: rows are
// packed so.

#include "inference/exchange.h"
#include "inference/nccl.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace bitnet::cuda {
namespace {

class NcclExchange final : public Exchange {
 public:
  NcclExchange(const ModelConfig& config, int rank, int size, const ExchangePlace& place,
               Nccl::Communicator communicator, int64_t batch)
      : device_((table().use_device(place.device), place.device)), communicator_(communicator) {
    int64_t longest = 0;
    for (size_t which = 0; which < packs_.size(); ++which) {
      PackArgs& args = packs_[which];
      args.rank = rank;
      args.size = size;
      args.rows = place.vectors[which].rows;
      args.stride = place.vectors[which].stride;
      const PartBegins begins = part_begins(config, static_cast<Shared>(which), size);
      std::copy(begins.begin(), begins.end(), args.begin);
      for (int r = 0; r < size; ++r) args.longest = std::max(args.longest, args.begin[r + 1] - args.begin[r]);
      longest = std::max(longest, args.longest);
    }
    packed_ = DeviceBuffer(static_cast<size_t>(size * batch * longest) * sizeof(float));
    for (PackArgs& args : packs_) args.packed = packed_.as<float>();
  }
  NcclExchange(const NcclExchange&) = delete;
  NcclExchange& operator=(const NcclExchange&) = delete;
  ~NcclExchange() override { Nccl::get().destroy(communicator_); }

  [[nodiscard]] std::string_view name() const override { return "nccl"; }
  void begin(Stream) override {}
  void gather(Shared which, int64_t tokens, Stream stream) override {
    PackArgs args = packs_[static_cast<size_t>(which)];
    args.tokens = tokens;
    table().pack(args, stream);
    all_gather(tokens * args.longest, stream);
    table().unpack(args, stream);
  }
  [[nodiscard]] int64_t passes() const override { return 0; }
  void renew() override {}

  void all_gather(int64_t count, Stream stream) const {
    Nccl::get().all_gather(packed_.as<float>(), static_cast<size_t>(count), packs_.front().rank,
                           communicator_, stream);
  }
  [[nodiscard]] int device() const { return device_; }

 private:
  int device_;
  Nccl::Communicator communicator_;
  std::array<PackArgs, std::tuple_size_v<SharedVectors>> packs_{};
  DeviceBuffer packed_;
};

/// The first all-gather makes NCCL's connections, which graphs should not meet.
void warm_up(std::span<const std::unique_ptr<NcclExchange>> sides) {
  std::vector<std::unique_ptr<OwnedStream>> streams;
  for (const auto& side : sides) {
    table().use_device(side->device());
    streams.push_back(std::make_unique<OwnedStream>());
  }
  Nccl::get().begin_group();
  for (size_t rank = 0; rank < sides.size(); ++rank) sides[rank]->all_gather(1, streams[rank]->get());
  Nccl::get().end_group();
  for (size_t rank = 0; rank < sides.size(); ++rank) {
    table().use_device(sides[rank]->device());
    table().synchronize(streams[rank]->get());
  }
}

}  // namespace

std::vector<std::unique_ptr<Exchange>> make_nccl_exchanges(const ModelConfig& config,
                                                           std::span<const ExchangePlace> places,
                                                           int64_t batch) {
  const int size = static_cast<int>(places.size());
  std::vector<int> devices;
  for (const ExchangePlace& place : places) devices.push_back(place.device);
  std::vector<Nccl::Communicator> communicators(places.size());
  Nccl::get().create(communicators.data(), size, devices.data());
  std::vector<std::unique_ptr<NcclExchange>> sides;
  for (int rank = 0; rank < size; ++rank) {
    const auto index = static_cast<size_t>(rank);
    sides.push_back(
        std::make_unique<NcclExchange>(config, rank, size, places[index], communicators[index], batch));
  }
  warm_up(sides);
  std::vector<std::unique_ptr<Exchange>> exchanges;
  for (std::unique_ptr<NcclExchange>& side : sides) exchanges.push_back(std::move(side));
  return exchanges;
}

}  // namespace bitnet::cuda
