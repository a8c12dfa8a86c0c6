#!/usr/bin/env bash
# Runs every benchmark program of build/bench, then the whole engine; keeps the numbers as JSON in build/bench/results.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

results=build/bench/results
mkdir -p "$results"
mapfile -t programs < <(find build/bench/benchmarks -type f -executable -not -path '*/CMakeFiles/*' | sort)
if ((${#programs[@]} == 0)); then
  echo "bench: no benchmark program under build/bench/benchmarks" >&2
  exit 1
fi
for program in "${programs[@]}"; do
  name=$(basename "$program")
  echo "== $name"
  "$program" --benchmark_out="$results/$name.json" --benchmark_out_format=json
done
echo "== bitnet bench (bundled model)"
build/bench/apps/bitnet/bitnet bench -p 512 -n 128
