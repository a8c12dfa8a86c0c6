# BITNET_HAS_CUDA: whether the GPU kernels are built. Needs nvcc, the static CUDA runtime and cuBLAS's header, of 12.0 or newer; no
# driver and no GPU (docs/CUDA.md).
set(BITNET_CUDA AUTO CACHE STRING "Kernels for NVIDIA GPUs: AUTO (if nvcc is found), ON or OFF")
set_property(CACHE BITNET_CUDA PROPERTY STRINGS AUTO ON OFF)
set(BITNET_HAS_CUDA OFF)
if(BITNET_CUDA STREQUAL "AUTO" OR BITNET_CUDA)
  find_package(CUDAToolkit 12.0 QUIET)
  # Only its header: the library is loaded when first used (src/kernels/cuda/tensor_matmul.cu).
  find_path(BITNET_CUBLAS_INCLUDE cublas_v2.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  if(CUDAToolkit_FOUND AND CUDAToolkit_NVCC_EXECUTABLE AND TARGET CUDA::cudart_static AND BITNET_CUBLAS_INCLUDE)
    set(BITNET_HAS_CUDA ON)
    set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE} CACHE FILEPATH "nvcc")
    # Machine code for data centre cards; PTX of the last for all newer ones.
    set(CMAKE_CUDA_ARCHITECTURES "80-real;90" CACHE STRING "GPU architectures")
    if(CMAKE_CXX_COMPILER_LAUNCHER AND NOT DEFINED CMAKE_CUDA_COMPILER_LAUNCHER)
      set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
    endif()
    enable_language(CUDA)
  elseif(NOT BITNET_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "BITNET_CUDA=ON needs nvcc, libcudart_static and cublas_v2.h of CUDA 12.0 or newer. "
                        "Put nvcc on PATH or set CUDAToolkit_ROOT, or configure with -DBITNET_CUDA=OFF.")
  endif()
endif()
message(STATUS "CUDA kernels: ${BITNET_HAS_CUDA}")

# bitnet_cuda_sources(<target> <file.cu>...): adds GPU sources to a target.
#   -std=c++20 by hand: CMake 3.25 does not know that nvcc has it.
#   --fmad=false: a fused multiply-add happens only where the source says so, as on the CPU (docs/NUMERICS.md).
function(bitnet_cuda_sources target)
  target_sources(${target} PRIVATE ${ARGN})
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;--expt-relaxed-constexpr;--fmad=false;-Xcompiler=-Wall,-Wextra,-Wshadow>")
  if(BITNET_WARNINGS_AS_ERRORS)
    target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;-Xcompiler=-Werror>")
  endif()
  target_link_libraries(${target} PRIVATE CUDA::cudart_static ${CMAKE_DL_LIBS})
endfunction()
