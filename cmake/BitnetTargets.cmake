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
  set_property(GLOBAL APPEND PROPERTY BITNET_LIBRARIES ${target})
endfunction()

# bitnet_test(NAME <name> SOURCES ... LIBRARIES ... [LABEL unit|integration|performance|stress])
#   A GoogleTest program; every TEST becomes a CTest test. Labels carry the time-outs.
function(bitnet_test)
  cmake_parse_arguments(ARG "" "NAME;LABEL" "SOURCES;LIBRARIES" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  set(timeout_unit 60)
  set(timeout_integration 300)
  set(timeout_stress 600)
  if(BITNET_SANITIZE)  # 10 to 20 times slower; these are there to end what hangs, not to measure
    set(timeout_unit 300)
    set(timeout_integration 1200)
    set(timeout_stress 2400)
  endif()
  add_executable(${ARG_NAME} ${ARG_SOURCES})
  bitnet_compile_options(${ARG_NAME})
  target_include_directories(${ARG_NAME} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${ARG_NAME} PRIVATE BITNET_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_link_libraries(${ARG_NAME} PRIVATE ${ARG_LIBRARIES} GTest::gtest_main GTest::gmock Threads::Threads)
  gtest_discover_tests(${ARG_NAME} DISCOVERY_TIMEOUT 120
    PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${timeout_${ARG_LABEL}})
endfunction()
