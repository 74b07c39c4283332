# power_library(NAME [TORCH] SOURCES ... [DEPS ...])     a static layer library
# power_test(NAME [TORCH] [GPU] SOURCES ... [DEPS ...] [LABELS ...])   a GoogleTest program; each case is a ctest test
#
# TORCH: the sources see LibTorch through one precompiled header, shared by all such targets, and are compiled a few at a
#        time: what the header leaves to be done for every compilation takes longer than most of the sources themselves.
# GPU:   the suites named Gpu* have the label gpu; they need one and are skipped where there is none.

if(NOT TARGET power_torch_pch)
  file(WRITE ${CMAKE_BINARY_DIR}/generated/torch_pch.cpp "")
  add_library(power_torch_pch OBJECT ${CMAKE_BINARY_DIR}/generated/torch_pch.cpp)
  target_link_libraries(power_torch_pch PRIVATE libtorch power_warnings)
  target_precompile_headers(power_torch_pch PRIVATE <torch/types.h> <torch/utils.h> <torch/cuda.h> <torch/csrc/autograd/autograd.h>
    <torch/nn/module.h> <torch/nn/pimpl.h> <torch/ordered_dict.h>)
endif()

# For the few sources that include LibTorch's CUDA headers. Everything else compiles alike with and without CUDA, so that
# the compiler cache serves both presets.
function(power_cuda_sources)
  if(POWERTRAIN_CUDA)
    set_source_files_properties(${ARGN} PROPERTIES
      COMPILE_DEFINITIONS POWERTRAIN_HAVE_CUDA
      COMPILE_OPTIONS "-isystem;${CUDAToolkit_INCLUDE_DIRS}"
      SKIP_PRECOMPILE_HEADERS ON)
  endif()
endfunction()

function(power_configure_target name torch)
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${name} PRIVATE power_warnings)
  if(torch)
    target_link_libraries(${name} PUBLIC libtorch)
    target_precompile_headers(${name} REUSE_FROM power_torch_pch)
    set_target_properties(${name} PROPERTIES UNITY_BUILD ${POWERTRAIN_UNITY_BUILD} UNITY_BUILD_BATCH_SIZE 4)
  endif()
endfunction()

function(power_library name)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS})
  power_configure_target(${name} "${ARG_TORCH}")
endfunction()

function(power_test name)
  cmake_parse_arguments(ARG "TORCH;GPU" "" "SOURCES;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} power_test_paths GTest::gtest GTest::gtest_main)
  power_configure_target(${name} "${ARG_TORCH}")
  if(NOT ARG_LABELS)
    set(ARG_LABELS cpu)
  endif()
  # What the program remembers between runs (scans of token files) stays out of the user's home.
  set(properties ENVIRONMENT OMP_NUM_THREADS=1
    ENVIRONMENT_MODIFICATION XDG_CACHE_HOME=set:${PROJECT_BINARY_DIR}/test-cache TIMEOUT 900)
  set(discover DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 120)
  if(ARG_GPU)
    gtest_discover_tests(${name} TEST_FILTER Gpu* ${discover} PROPERTIES LABELS gpu ${properties})
    list(APPEND discover TEST_FILTER -Gpu*)
  endif()
  gtest_discover_tests(${name} ${discover} PROPERTIES LABELS "${ARG_LABELS}" ${properties})
endfunction()
