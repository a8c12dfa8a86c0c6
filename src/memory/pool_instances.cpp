#include "bitnet/memory/pool.h"

#include <algorithm>
#include <mutex>
#include <optional>
#include <vector>

namespace bitnet {
namespace {

struct Instance {
  Device device;
  std::shared_ptr<MemorySource> source;
  PoolOptions options;
  HybridMemoryPool* pool = nullptr;  ///< never deleted: static objects may free blocks as late as they like
};

struct Instances {
  std::mutex mutex;
  std::vector<Instance> all{{kCpuDevice, system_memory_source(), PoolOptions{}}};
  Instance* find(Device device) {
    const auto found = std::ranges::find(all, device, &Instance::device);
    return found == all.end() ? nullptr : &*found;
  }
};

Instances& instances() {
  static auto* const all = new Instances;
  return *all;
}

}  // namespace

HybridMemoryPool& HybridMemoryPool::instance(Device device) {
  Instances& known = instances();
  const std::lock_guard lock(known.mutex);
  Instance* instance = known.find(device);
  if (instance == nullptr) {
    throw Error(ErrorCode::kUnsupported, "there is no memory pool for device " + to_string(device),
                "register a memory source for it first, or use another device");
  }
  if (instance->pool == nullptr) instance->pool = new HybridMemoryPool(instance->source, instance->options);
  return *instance->pool;
}

void HybridMemoryPool::register_source(Device device, std::shared_ptr<MemorySource> source,
                                       PoolOptions options) {
  Instances& known = instances();
  const std::lock_guard lock(known.mutex);
  if (source == nullptr || known.find(device) != nullptr) {
    throw Error(ErrorCode::kInvalidArgument,
                source == nullptr ? "a memory source must not be null"
                                  : "device " + to_string(device) + " has a memory source already");
  }
  known.all.push_back({device, std::move(source), options});
}

}  // namespace bitnet
