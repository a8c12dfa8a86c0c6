#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace bitnet {

/// What one operation cost. Measured only where a context asks (ExecutionContext::metrics).
struct AccelerationMetrics {
  std::string backend_used;
  double execution_time_seconds = 0;
  int64_t memory_used_bytes = 0;     ///< bytes of operands and result: what must move at least
  double operations_per_second = 0;  ///< one per element; two per multiply-add of a product
  double efficiency_score = 0;       ///< time at the measured roofline / time taken; above 1 where the
                                     ///< operands lay nearer than in the roofline's measurement
  std::optional<double>
      cache_hit_rate;  ///< never set: it needs performance counters that containers withhold

  [[nodiscard]] double throughput_gflops() const { return operations_per_second * 1e-9; }
  [[nodiscard]] double speedup_over(const AccelerationMetrics& baseline) const {
    return execution_time_seconds > 0 ? baseline.execution_time_seconds / execution_time_seconds : 0;
  }
};

/// What one core of this machine can do, measured once per process in some 10 ms on first use.
struct Roofline {
  double cache_bytes_per_second = 0;   ///< read and written, operands of 16 KB
  double memory_bytes_per_second = 0;  ///< of 32 MB
  double operations_per_second = 0;    ///< f32 multiply-adds, two each
  /// Least time for so many bytes and operations.
  [[nodiscard]] double seconds(int64_t bytes, double operations) const;
};
[[nodiscard]] const Roofline& measured_roofline();

}  // namespace bitnet
