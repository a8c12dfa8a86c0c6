#pragma once

// LAPACK asks for scratch memory by a first call with size -1, which writes the wanted sizes.

#include "ops/blas.h"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace bitnet::lapack {

/// A size that came as a real number: f32 rounds sizes beyond 2^24, so a little more is taken.
template <class Real>
int workspace_size(Real wanted) {
  return std::max(1, static_cast<int>(static_cast<double>(wanted) * (1 + 1e-6)) + 1);
}

/// call(work, size, info); returns info.
template <class Real, class Call>
int with_workspace(Call&& call) {
  const blas::CallGuard guard;
  int info = 0;
  Real wanted = 0;
  call(&wanted, -1, info);
  if (info != 0) return info;
  std::vector<Real> work(static_cast<size_t>(workspace_size(wanted)));
  call(work.data(), static_cast<int>(work.size()), info);
  return info;
}

/// call(work, size, integer work, its size, info); returns info.
template <class Real, class Call>
int with_workspaces(Call&& call) {
  const blas::CallGuard guard;
  int info = 0, integers = 0;
  Real wanted = 0;
  call(&wanted, -1, &integers, -1, info);
  if (info != 0) return info;
  std::vector<Real> work(static_cast<size_t>(workspace_size(wanted)));
  std::vector<int> integer_work(static_cast<size_t>(std::max(1, integers)));
  call(work.data(), static_cast<int>(work.size()), integer_work.data(), static_cast<int>(integer_work.size()),
       info);
  return info;
}

}  // namespace bitnet::lapack
