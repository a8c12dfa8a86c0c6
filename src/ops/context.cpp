#include "bitnet/ops/context.h"

#include "bitnet/memory/pool.h"

namespace bitnet {
namespace {

thread_local const ExecutionContext* t_current = nullptr;

}  // namespace

const ExecutionContext& ExecutionContext::current() {
  static const ExecutionContext defaults;
  return t_current != nullptr ? *t_current : defaults;
}

ThreadPool& ExecutionContext::thread_pool() const {
  if (pool != nullptr) return *pool;
  static ThreadPool shared;
  return shared;
}

HybridMemoryPool& ExecutionContext::scratch_pool() const {
  return workspace != nullptr ? *workspace : HybridMemoryPool::instance();
}

ContextScope::ContextScope(const ExecutionContext& context) : previous_(t_current) {
  t_current = &context;
}

ContextScope::~ContextScope() {
  t_current = previous_;
}

}  // namespace bitnet
