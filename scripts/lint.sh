#!/usr/bin/env bash
# Formatting of all C++ files, clang-tidy on the sources of src/ and apps/, shellcheck on the scripts.
#   scripts/lint.sh                all checks; build/lint must be configured (make lint does)
#   scripts/lint.sh --fix-format   only rewrites the C++ files in the project's format
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

jobs=${JOBS:-$(nproc)}
mapfile -d '' -t cpp_files < <(find src include apps examples tests benchmarks -name '*.h' -print0 -o -name '*.cpp' -print0 \
  -o -name '*.cu' -print0 -o -name '*.cuh' -print0)
# Sources for other processors (neon/) are not in this machine's compile commands.
mapfile -t sources < <(find "$PWD/src" "$PWD/apps" -name '*.cpp' ! -path '*/neon/*')
mapfile -t scripts < <(grep -rlE '^#!/usr/bin/env bash' scripts .ci)
if ((${#cpp_files[@]} == 0 || ${#sources[@]} == 0 || ${#scripts[@]} == 0)); then
  echo "lint: found nothing to look at in $PWD" >&2
  exit 1
fi

if [[ ${1:-} == --fix-format ]]; then
  clang-format -i "${cpp_files[@]}"
  exit
fi

failed=()
# Every check runs, so that one run shows all there is to mend.
check() {
  local name=$1
  shift
  echo "lint: $name"
  "$@" || failed+=("$name")
}

check_format() { printf '%s\0' "${cpp_files[@]}" | xargs -0 -n 8 -P "$jobs" clang-format --dry-run -Werror; }

# Most of clang-tidy's time goes to the headers, so it gets the sources in the bundles that BITNET_UNITY makes; each
# source must be in one, or alone. It counts the warnings that it suppressed on stderr; those lines say nothing.
check_tidy() {
  local -a units
  local source missed=0
  mapfile -t units < <(sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' build/lint/compile_commands.json)
  for source in "${sources[@]}"; do
    if ! printf '%s\n' "${units[@]}" | grep -qxF "$source" && ! grep -qF "\"$source\"" "${units[@]}"; then
      echo "lint: clang-tidy would not see $source: it is in no target of the lint preset" >&2
      missed=1
    fi
  done
  printf '%s\0' "${units[@]}" | xargs -0 -n 1 -P "$jobs" clang-tidy --quiet -p build/lint \
    2> >(grep -v 'warnings generated\.$' >&2) && ((missed == 0))
}

check "shellcheck on ${#scripts[@]} scripts" shellcheck "${scripts[@]}"
# Versions of clang-format disagree in places, so one of them decides: that of Debian 12.
reference_format=14
if clang-format --version | grep -q "version $reference_format\."; then
  check "clang-format on ${#cpp_files[@]} files" check_format
else
  echo "lint: formatting NOT checked: needs clang-format $reference_format, found $(clang-format --version)" >&2
fi
check "clang-tidy on ${#sources[@]} files" check_tidy

if ((${#failed[@]} != 0)); then
  printf 'lint: FAILED: %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "lint: clean"
