# Language standards, warnings, compiler cache, linker and CUDA architectures.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
# Assertions stay on in both. Line numbers in backtraces and debuggers (-g1) cost a sixth of the build's time: they are in
# RelWithDebInfo only.
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")
# One code model everywhere, so that libraries, executables and tests share one precompiled header.
add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fPIC>)

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  # The sloppiness is what ccache's manual asks for with precompiled headers. The base folder makes another clone, or
  # the same one moved, hit the same cache.
  set(ccache_launcher ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE_PROGRAM})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${ccache_launcher})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${ccache_launcher})
endif()
find_program(MOLD_PROGRAM mold)
if(MOLD_PROGRAM)
  add_link_options(-fuse-ld=mold)
endif()

if(POWERTRAIN_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES Clang)
    message(FATAL_ERROR "the fuzz targets need clang++: scripts/setup.sh --fuzz, then cmake --preset fuzz")
  endif()
  add_compile_options(-fsanitize=address,fuzzer-no-link -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address)
endif()

if(POWERTRAIN_CUDA)
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    # nvcc as scripts/setup.sh finds or installs it: its wheels, the usual folder, the PATH.
    file(GLOB wheel_nvcc ${PROJECT_SOURCE_DIR}/.venv/lib/python3.*/site-packages/nvidia/cu13/bin/nvcc)
    find_program(CMAKE_CUDA_COMPILER NAMES ${wheel_nvcc} nvcc HINTS ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin)
    if(NOT CMAKE_CUDA_COMPILER)
      message(FATAL_ERROR "no CUDA compiler (nvcc): run scripts/setup.sh --cuda, or configure with --preset cpu")
    endif()
  endif()
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    # Machine code for Ampere and Hopper, and PTX that newer chips compile at start.
    set(CMAKE_CUDA_ARCHITECTURES 80-real 80-virtual 90a-real)
  endif()
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 17)  # CMake 3.25 knows no C++20 for nvcc 13
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -lineinfo")
  set(CMAKE_CUDA_FLAGS_RELWITHDEBINFO "-O3 -lineinfo")
  if(CMAKE_VERSION VERSION_LESS 3.26 AND NOT TARGET CUDA::nvToolsExt)
    # Debian 12's FindCUDAToolkit sets a property of this target unasked, and CUDA 13 has no such library any more.
    add_library(CUDA::nvToolsExt INTERFACE IMPORTED)
  endif()
  find_package(CUDAToolkit REQUIRED)
endif()

# Our own sources are compiled with these; third-party headers come in as SYSTEM.
add_library(power_warnings INTERFACE)
target_compile_options(power_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wno-unused-parameter -Werror>)
