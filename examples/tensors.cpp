// Tensors: views, operations with broadcasting, conversions, contexts, errors.
#include "bitnet/bitnet.h"

#include <cstdio>

using namespace bitnet;

int main() {
  // Views share the bytes.
  const Tensor x = arange(0, 24).reshape({2, 3, 4});
  const Tensor last_rows = x.slice(1, -2);  // x[:, -2:]
  const Tensor turned = last_rows.transpose(0, 2);
  std::printf("%s\n", to_string(turned).c_str());

  // Operations broadcast and promote as NumPy and PyTorch do.
  const Tensor weights = from_values<int32_t>({1, 2, 3, 4}, {4});
  const Tensor scaled = x * weights + 0.5;
  std::printf("mean per row: %s\n", to_string(mean(scaled, {2})).c_str());

  // A conversion says beforehand what it will do.
  const ConversionPlan plan = plan_conversion(scaled, DType::kBF16);
  const std::string strategy(to_string(plan.strategy));
  std::printf("to bf16: %s, %lld bytes\n", strategy.c_str(), static_cast<long long>(plan.bytes_written));

  // Where and how operations run.
  ExecutionContext context;
  context.check_numerics = NumericsCheck::kReport;
  AccelerationMetrics metrics;
  context.metrics = &metrics;
  const ContextScope scope(context);
  const Tensor y = softmax(scaled);
  std::printf("softmax by %s, sum %g\n", metrics.backend_used.c_str(), sum(y).item());

  // Errors name the operation and its operands.
  try {
    (void)(x + ones({5}));
  } catch (const Error& error) {
    std::printf("%s", error.report().c_str());
    return 0;
  }
  return 1;
}
