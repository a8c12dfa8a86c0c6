#!/usr/bin/env bash
# Runs each fuzz target of build/fuzz for a while, from the corpus in the tree.
#   scripts/fuzz.sh [SECONDS_PER_TARGET]
# New inputs go to build/fuzz/corpus, inputs that fail to build/fuzz/failures. Fails if a target fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-20}
mapfile -t targets < <(find build/fuzz/tests/fuzz -maxdepth 1 -type f -executable | sort)
if ((${#targets[@]} == 0)); then
  echo "fuzz: no fuzz target under build/fuzz/tests/fuzz" >&2
  exit 1
fi
for target in "${targets[@]}"; do
  name=$(basename "$target")
  seeds=tests/fuzz/corpus/${name#fuzz_}
  found=build/fuzz/corpus/$name
  failures=build/fuzz/failures/$name
  mkdir -p "$found" "$failures"
  if [[ -z $(ls -A "$seeds" 2>/dev/null) ]]; then
    echo "fuzz: $name has no corpus in $seeds" >&2
    exit 1
  fi
  echo "== $name: $seconds s from $(find "$seeds" -type f | wc -l) seeds"
  # -timeout: seconds that one input may take.
  log=build/fuzz/$name.log
  if ! "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$failures/" "$found" "$seeds" &>"$log"; then
    tail -n 100 "$log" >&2
    echo "fuzz: $name FAILED; the input is in $failures" >&2
    exit 1
  fi
  grep -E '^stat::(number_of_executed_units|peak_rss_mb)' "$log"
done
echo "fuzz: ${#targets[@]} targets, no failure"
