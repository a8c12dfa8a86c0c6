#include "naive_matmul.h"

void naive_matmul(int64_t n, const float* a, const float* b, float* y) {
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) y[i * n + j] = 0;
    for (int64_t k = 0; k < n; ++k) {
      for (int64_t j = 0; j < n; ++j) y[i * n + j] += a[i * n + k] * b[k * n + j];
    }
  }
}
