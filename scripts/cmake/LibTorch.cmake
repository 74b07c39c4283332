# Finds LibTorch and defines the target `libtorch`.
#
# Order: -DPOWERTRAIN_LIBTORCH=DIR or the environment variable of the same name (the folder that holds include/ and
# lib/), then the project's virtual environment, then the python3 on PATH. LibTorch's own CMake package is not used: it
# refuses to load on a machine without a CUDA toolkit even when only the CPU libraries are wanted.
set(POWERTRAIN_LIBTORCH "$ENV{POWERTRAIN_LIBTORCH}" CACHE PATH "Folder of LibTorch (holds include/ and lib/)")
if(NOT POWERTRAIN_LIBTORCH)
  foreach(python ${PROJECT_SOURCE_DIR}/.venv/bin/python python3)
    execute_process(COMMAND ${python} -c
      "import importlib.util as u, os; print(os.path.dirname(u.find_spec('torch').origin))"
      OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE status)
    if(status EQUAL 0)
      set(POWERTRAIN_LIBTORCH ${found} CACHE PATH "" FORCE)
      break()
    endif()
  endforeach()
endif()
if(NOT EXISTS "${POWERTRAIN_LIBTORCH}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "LibTorch not found (looked for lib/libtorch_cpu.so in '${POWERTRAIN_LIBTORCH}'): "
    "run scripts/setup.sh, or pass -DPOWERTRAIN_LIBTORCH=DIR")
endif()
file(STRINGS ${POWERTRAIN_LIBTORCH}/include/torch/headeronly/version.h version_lines
  REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
list(TRANSFORM version_lines REPLACE ".* " "")
list(JOIN version_lines "." POWERTRAIN_LIBTORCH_VERSION)
message(STATUS "LibTorch ${POWERTRAIN_LIBTORCH_VERSION}: ${POWERTRAIN_LIBTORCH}")

find_package(Threads REQUIRED)
add_library(libtorch INTERFACE)
target_include_directories(libtorch SYSTEM INTERFACE
  ${POWERTRAIN_LIBTORCH}/include ${POWERTRAIN_LIBTORCH}/include/torch/csrc/api/include)
set(torch_libraries ${POWERTRAIN_LIBTORCH}/lib/libtorch_cpu.so ${POWERTRAIN_LIBTORCH}/lib/libc10.so)
if(POWERTRAIN_CUDA)
  if(NOT EXISTS ${POWERTRAIN_LIBTORCH}/lib/libtorch_cuda.so)
    message(FATAL_ERROR "this LibTorch has no lib/libtorch_cuda.so: use the CUDA build, or -DPOWERTRAIN_CUDA=OFF")
  endif()
  list(APPEND torch_libraries ${POWERTRAIN_LIBTORCH}/lib/libtorch_cuda.so ${POWERTRAIN_LIBTORCH}/lib/libc10_cuda.so)
endif()
# libtorch_cuda registers itself when loaded and exports little that is called by name: keep it on the link line.
target_link_libraries(libtorch INTERFACE
  -Wl,--no-as-needed ${torch_libraries} -Wl,--as-needed Threads::Threads)
# The program finds LibTorch where it was at build time, or through LD_LIBRARY_PATH; libcudart as well, LibTorch's own
# copy where that came as a wheel.
set(runtime_folders ${POWERTRAIN_LIBTORCH}/lib)
if(POWERTRAIN_CUDA)
  cmake_path(SET wheel_libraries NORMALIZE ${POWERTRAIN_LIBTORCH}/../nvidia/cu13/lib)
  if(EXISTS ${wheel_libraries})
    list(APPEND runtime_folders ${wheel_libraries})
  else()
    list(APPEND runtime_folders ${CUDAToolkit_LIBRARY_DIR})
  endif()
endif()
set(CMAKE_BUILD_RPATH ${runtime_folders})
set(CMAKE_INSTALL_RPATH "$ORIGIN/../lib;${runtime_folders}")
# The wheel's CUDA libraries (libcudart and friends) are found through its own RPATH; the linker need not follow them.
add_link_options(-Wl,--allow-shlib-undefined)
