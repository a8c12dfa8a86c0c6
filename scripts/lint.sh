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
mapfile -d '' -t tidy_files < <(find src apps -name '*.cpp' ! -path '*/neon/*' -print0 | sort -z)
mapfile -t scripts < <(grep -rlE '^#!/usr/bin/env bash' scripts .ci)
if ((${#cpp_files[@]} == 0 || ${#tidy_files[@]} == 0 || ${#scripts[@]} == 0)); then
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

# run-clang-tidy takes patterns and stays silent about those that match nothing, so clang-tidy gets each file by name.
# It counts the warnings that it suppressed on stderr; those lines say nothing.
check_tidy() {
  printf '%s\0' "${tidy_files[@]}" | xargs -0 -n 1 -P "$jobs" clang-tidy --quiet -p build/lint \
    2> >(grep -v 'warnings generated\.$' >&2)
}

check "shellcheck on ${#scripts[@]} scripts" shellcheck "${scripts[@]}"
# Versions of clang-format disagree in places, so one of them decides: that of Debian 12.
reference_format=14
if clang-format --version | grep -q "version $reference_format\."; then
  check "clang-format on ${#cpp_files[@]} files" check_format
else
  echo "lint: formatting NOT checked: needs clang-format $reference_format, found $(clang-format --version)" >&2
fi
check "clang-tidy on ${#tidy_files[@]} files" check_tidy

if ((${#failed[@]} != 0)); then
  printf 'lint: FAILED: %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "lint: clean"
