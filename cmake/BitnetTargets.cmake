# bitnet_library(NAME <name> SOURCES ... [PUBLIC ...] [PRIVATE ...])
#   One static (or shared) library per room of docs/ARCHITECTURE.md, target bitnet_<name>.
function(bitnet_compile_options target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  # -ffp-contract=off: a fused multiply-add happens only where the source says so; kernels on all
  # instruction sets then round alike (docs/NUMERICS.md).
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wconversion;-Wno-sign-conversion>"
    "$<$<COMPILE_LANGUAGE:CXX>:-Wno-missing-field-initializers;-ffp-contract=off>" $<$<CONFIG:Release>:-O3>)
  if(BITNET_WARNINGS_AS_ERRORS)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
  endif()
  if(BITNET_SANITIZE)
    list(JOIN BITNET_SANITIZE "," sanitizers)
    target_compile_options(${target} PRIVATE -fsanitize=${sanitizers} -fno-omit-frame-pointer
                           -fno-sanitize-recover=all)
    target_link_options(${target} PUBLIC -fsanitize=${sanitizers})
    # All but the rooms with the loops take longer to compile than to run.
    if(NOT target MATCHES "^bitnet_(quant|kernels|tensor|ops|inference)$")
      target_compile_options(${target} PRIVATE -Og)
    endif()
  endif()
endfunction()

# Several files as one: what they include and the templates that they use are compiled once. For checks; names in anonymous
# namespaces must differ within a room. What a file forgets to include is found in the other builds.
option(BITNET_UNITY "Compile several source files of a library or program as one" OFF)
function(bitnet_merge_sources target)
  if(BITNET_UNITY)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  endif()
endfunction()

function(bitnet_library)
  cmake_parse_arguments(ARG "" "NAME" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  set(target bitnet_${ARG_NAME})
  add_library(${target} ${ARG_SOURCES})
  add_library(bitnet::${ARG_NAME} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${ARG_NAME} POSITION_INDEPENDENT_CODE ON)
  bitnet_compile_options(${target})
  target_include_directories(${target}
    PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
    PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${target} PUBLIC ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
  bitnet_merge_sources(${target})
  set_property(GLOBAL APPEND PROPERTY BITNET_LIBRARIES ${target})
endfunction()

# Seconds that a test of each category may take, on an idle machine of its own. Multiplied by the scale: the default
# leaves room for a loaded two-core machine, and for sanitizers, which make code 10 to 20 times slower. The limits are there
# to end what hangs, not to measure.
set(bitnet_test_limit_unit 5)
set(bitnet_test_limit_integration 30)
set(bitnet_test_limit_performance 120)
set(bitnet_test_limit_stress 300)
set(bitnet_test_limit_endurance 600)
set(BITNET_TEST_TIMEOUT_SCALE "" CACHE STRING "Multiplies the tests' time limits; empty: 10, under sanitizers 40")
if(NOT BITNET_TEST_TIMEOUT_SCALE STREQUAL "")
  set(bitnet_test_scale ${BITNET_TEST_TIMEOUT_SCALE})
elseif(BITNET_SANITIZE)
  set(bitnet_test_scale 40)
else()
  set(bitnet_test_scale 10)
endif()

# bitnet_test_timeout(<out> <category>): the category's scaled limit in seconds.
function(bitnet_test_timeout out category)
  if(NOT DEFINED bitnet_test_limit_${category})
    message(FATAL_ERROR "'${category}' is no category of tests: unit, integration, performance, stress or endurance")
  endif()
  math(EXPR limit "${bitnet_test_limit_${category}} * ${bitnet_test_scale}")
  set(${out} ${limit} PARENT_SCOPE)
endfunction()

# bitnet_test_headers: the headers of GoogleTest, compiled once for all tests.
function(bitnet_precompile_test_headers)
  if(TARGET bitnet_test_headers)
    return()
  endif()
  add_library(bitnet_test_headers OBJECT ${PROJECT_SOURCE_DIR}/tests/support/precompiled.cpp)
  bitnet_compile_options(bitnet_test_headers)
  target_link_libraries(bitnet_test_headers PRIVATE GTest::gtest GTest::gmock)
  target_precompile_headers(bitnet_test_headers PRIVATE <gmock/gmock.h> <gtest/gtest.h>)
endfunction()

# bitnet_test(NAME <name> SOURCES ... LIBRARIES ... [LABEL unit|integration|performance|stress|endurance])
#   A GoogleTest program; every TEST becomes a CTest test. The label is the category that sets its time limit.
function(bitnet_test)
  cmake_parse_arguments(ARG "" "NAME;LABEL" "SOURCES;LIBRARIES" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  bitnet_test_timeout(timeout ${ARG_LABEL})
  add_executable(${ARG_NAME} ${ARG_SOURCES})
  bitnet_compile_options(${ARG_NAME})
  target_include_directories(${ARG_NAME} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${ARG_NAME} PRIVATE BITNET_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
    BITNET_TEST_TIMEOUT_SCALE=${bitnet_test_scale})
  target_link_libraries(${ARG_NAME} PRIVATE ${ARG_LIBRARIES} GTest::gtest_main GTest::gmock Threads::Threads)
  bitnet_precompile_test_headers()
  target_precompile_headers(${ARG_NAME} REUSE_FROM bitnet_test_headers)
  gtest_discover_tests(${ARG_NAME} DISCOVERY_TIMEOUT 120
    PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${timeout})
endfunction()
