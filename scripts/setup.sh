#!/usr/bin/env bash
# Installs what is missing of the distribution's packages that this project needs.
#
#   scripts/setup.sh [build] [test] [lint] [fuzz]        (default: build)
#   scripts/setup.sh --list [profile...]                 prints the packages and installs nothing
#
# Debian 12 and Ubuntu 24.04, or newer; as root or with sudo; asks no questions; touches the network only if
# something is missing. BITNET_SKIP_SETUP=1 skips it all: for other systems, where you install the same things.
set -euo pipefail

build_packages=(g++ make cmake ninja-build libfmt-dev nlohmann-json3-dev libpcre2-dev libcli11-dev libhwy-dev
  libopenblas-pthread-dev ccache)
# googletest holds the sources, which the cross-compiled tests build for their own processor.
test_packages=(python3-numpy libgtest-dev libgmock-dev googletest libbenchmark-dev libmimalloc-dev g++-aarch64-linux-gnu qemu-user)
lint_packages=(clang-format clang-tidy shellcheck)
fuzz_packages=(clang)

die() {
  echo "setup: $*" >&2
  exit 1
}

# clang's compiler-rt (libFuzzer, sanitizers) is a package of its own, named after the compiler's version.
compiler_rt_package() {
  case "$1" in
    debian:12) echo libclang-rt-14-dev ;;
    debian:13) echo libclang-rt-19-dev ;;
    ubuntu:24.04) echo libclang-rt-18-dev ;;
    *) die "do not know the compiler-rt package of $1; install clang with libFuzzer and set BITNET_SKIP_SETUP=1" ;;
  esac
}

# Fails on anything but Debian and Ubuntu of at least the versions that have the packages at the versions we need.
supported() {
  local distribution=${1%%:*} version=${1#*:}
  case "$distribution" in
    debian) [[ -z $version || ${version%%.*} -ge 12 ]] ;; # testing and unstable carry no version
    ubuntu) [[ ${version%%.*} -ge 24 ]] ;;
    *) return 1 ;;
  esac
}

main() {
  local list_only=0 profile system=unknown:
  local -a packages=() missing=()
  if [[ ${1:-} == --list ]]; then
    list_only=1
    shift
  fi
  if [[ -r /etc/os-release ]]; then
    # shellcheck source=/dev/null
    system=$(. /etc/os-release && echo "${ID:-unknown}:${VERSION_ID:-}")
  fi

  for profile in "${@:-build}"; do
    case "$profile" in
      build) packages+=("${build_packages[@]}") ;;
      test) packages+=("${test_packages[@]}") ;;
      lint) packages+=("${lint_packages[@]}") ;;
      fuzz) packages+=("${fuzz_packages[@]}") ;;
      *) die "unknown profile '$profile' (build, test, lint, fuzz)" ;;
    esac
  done
  if ((list_only)); then
    printf '%s\n' "${packages[@]}"
    return
  fi
  if [[ ${BITNET_SKIP_SETUP:-0} == 1 ]]; then
    echo "setup: skipped (BITNET_SKIP_SETUP=1)"
    return
  fi
  if ! supported "$system"; then
    die "this is ${system/:/ }; packages are installed on Debian 12, Ubuntu 24.04 and newer only.
Install the counterparts of: ${packages[*]}
(CMake 3.25, GCC 12 or Clang 14, or newer) and run again with BITNET_SKIP_SETUP=1."
  fi
  if [[ " $* " == *" fuzz "* ]]; then
    packages+=("$(compiler_rt_package "$system")")
  fi

  for package in "${packages[@]}"; do
    # shellcheck disable=SC2016  # ${...} is dpkg-query's own format language
    if [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
      missing+=("$package")
    fi
  done
  if ((${#missing[@]} == 0)); then
    return
  fi

  local -a as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "needs root or sudo to install: ${missing[*]}"
    as_root=(sudo)
  fi
  echo "setup: installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq || die "apt-get update failed; is there a network? Missing: ${missing[*]}"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "${missing[@]}" </dev/null >/dev/null ||
    die "apt-get could not install: ${missing[*]}"
}

main "$@"
