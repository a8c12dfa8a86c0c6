# cmake -DNM=<nm> -DOBJECTS=<object files> -P no_weak_symbols.cmake
#
# A unit compiled for a wide instruction set must define no weak symbol: the linker keeps one copy of a weak
# function for the whole program, and if it keeps the wide one, an older machine dies on it (cpu/float_kernels.h).
set(checked 0)
foreach(object IN LISTS OBJECTS)
  if(NOT object MATCHES "_table\\.cpp\\.")
    continue()
  endif()
  execute_process(COMMAND ${NM} -C --defined-only ${object} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]* [WVu] [^\n]*" weak "${symbols}")
  list(FILTER weak EXCLUDE REGEX "__asan|__ubsan|asan\\.module|DW\\.ref")
  if(weak)
    list(JOIN weak "\n" weak)
    message(FATAL_ERROR "${object} defines weak symbols:\n${weak}")
  endif()
  math(EXPR checked "${checked} + 1")
endforeach()
if(checked EQUAL 0)
  message(FATAL_ERROR "no *_table.cpp among the objects: ${OBJECTS}")
endif()
message(STATUS "${checked} units define no weak symbol")
