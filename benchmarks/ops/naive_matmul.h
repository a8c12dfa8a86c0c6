#pragma once

#include <cstdint>

/// y = a b, row-major, all [n, n]: three loops, rows of b in the innermost, compiled without the vectorizer.
void naive_matmul(int64_t n, const float* a, const float* b, float* y);
