# Thin wrappers: each target does all its set-up. What they call: scripts/, CMakePresets.json, docs/TESTING.md.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-neon test-native sanitize tsan fuzz bench lint format install clean

JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 20

# Read after setup, which may install ccache only then: a shell expression, not a make function.
cmake = if command -v ccache >/dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache; fi; cmake
configure = $(cmake) --preset
# Or ccache would not reuse what was compiled with a precompiled header.
export CCACHE_SLOPPINESS = pch_defines,time_macros
build = cmake --build --parallel $(JOBS) --preset
run_tests = ctest --parallel $(JOBS) --preset
# The sanitizers' fixed shadow addresses collide with the high-entropy address randomization of some kernels.
no_aslr = $$(setarch --addr-no-randomize true 2>/dev/null && echo setarch --addr-no-randomize)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Install what is missing, build, stream a story from the bundled model
	@scripts/setup.sh build
	@$(configure) release
	@$(build) release
	build/release/apps/bitnet/bitnet run -p "Once upon a time" -n 200

test: test-neon test-native ## Install what is missing, build, run all tests (ARM kernels under qemu)

test-neon: ## Only the tests of core, quant and kernels for ARM, under qemu-user
	@scripts/setup.sh build test
	$(cmake) -S tests/cross -B build/neon -G Ninja --toolchain $(CURDIR)/cmake/toolchains/aarch64.cmake
	cmake --build build/neon --parallel $(JOBS)
	ctest --test-dir build/neon --parallel $(JOBS) --output-on-failure --no-tests=error

test-native: ## Only the tests for this machine
	@scripts/setup.sh build test
	$(configure) test
	$(build) test
	$(run_tests) test

sanitize: ## All tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/setup.sh build test
	$(configure) asan-ubsan
	$(no_aslr) $(build) asan-ubsan
	$(no_aslr) $(run_tests) asan-ubsan

tsan: ## All tests under ThreadSanitizer
	@scripts/setup.sh build test
	$(configure) tsan
	$(no_aslr) $(build) tsan
	$(no_aslr) $(run_tests) tsan

fuzz: ## Fuzz each file parser for FUZZ_SECONDS (default 20)
	@scripts/setup.sh build fuzz
	$(configure) fuzz
	$(build) fuzz --target tests/fuzz/all
	$(no_aslr) scripts/fuzz.sh $(FUZZ_SECONDS)

bench: ## Build and run the benchmarks; results also under build/bench/results
	@scripts/setup.sh build test
	@$(configure) bench
	@$(build) bench
	scripts/bench.sh

lint: ## Formatting, clang-tidy, shellcheck
	@scripts/setup.sh build lint
	$(configure) lint
	scripts/lint.sh

format: ## Rewrite all C++ files in the project's format
	@scripts/setup.sh lint
	scripts/lint.sh --fix-format

install: ## Build and install under PREFIX (default /usr/local)
	@scripts/setup.sh build
	@$(configure) release
	@$(build) release
	cmake --install build/release --prefix $(PREFIX)

clean: ## Remove everything that was built
	rm -rf build
