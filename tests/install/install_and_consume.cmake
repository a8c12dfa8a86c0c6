# Run by ctest; CMakeLists.txt beside this file says with what.

function(run what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${what} failed (${result}):\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

set(prefix ${WORK_DIR}/prefix)
set(consumer_build ${WORK_DIR}/consumer)
file(REMOVE_RECURSE ${WORK_DIR})

run("Installing" ${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${prefix})

run("Configuring the consumer" ${CMAKE_COMMAND} -S ${CONSUMER_DIR} -B ${consumer_build} -G ${GENERATOR}
  -D CMAKE_PREFIX_PATH=${prefix} -D CMAKE_BUILD_TYPE=${BUILD_TYPE}
  -D CMAKE_CXX_COMPILER=${CXX_COMPILER} -D CMAKE_CXX_FLAGS=${CXX_FLAGS})
# Another bitnet on this machine must not stand in for the one under test.
file(STRINGS ${consumer_build}/CMakeCache.txt found REGEX "^bitnet_DIR:")
if(NOT found MATCHES "=${prefix}/")
  message(FATAL_ERROR "find_package(bitnet) found ${found}, not the package in ${prefix}")
endif()

run("Building the consumer" ${CMAKE_COMMAND} --build ${consumer_build})
run("The consumer" ${consumer_build}/consumer)
if(NOT output MATCHES "tq1_0: 256 weights in 54 bytes" OR NOT output MATCHES "not found, as expected")
  message(FATAL_ERROR "The consumer printed:\n${output}")
endif()

file(GLOB models RELATIVE ${MODELS_DIR} ${MODELS_DIR}/*.gguf)
foreach(model IN LISTS models)
  if(NOT EXISTS ${prefix}/${DATA_DIR}/bitnet/models/${model})
    message(FATAL_ERROR "The bundled model ${model} was not installed")
  endif()
endforeach()

if(EXPECT_CLI)
  run("The installed command line" ${prefix}/${BIN_DIR}/bitnet info)
  if(models)
    # Without -m the installed program takes the installed model: the source tree's, which a program in a build folder
    # takes, must not hide a failure.
    run("The installed command line with the bundled model"
      ${prefix}/${BIN_DIR}/bitnet run -p "Once upon a time" -n 8 --greedy --json)
    if(NOT output MATCHES "\"model\": *\"${prefix}/")
      message(FATAL_ERROR "The installed program did not run the installed model:\n${output}")
    endif()
  endif()
endif()
