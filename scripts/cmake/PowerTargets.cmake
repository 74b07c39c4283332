# power_library(NAME [TORCH] SOURCES ... [DEPS ...])     a static layer library
# power_test(NAME [TORCH] SOURCES ... [DEPS ...] [LABELS ...])   a GoogleTest program; each case becomes a ctest test
#
# TORCH: the sources see LibTorch through one precompiled torch/torch.h, shared by all such targets.

if(NOT TARGET power_torch_pch)
  file(WRITE ${CMAKE_BINARY_DIR}/generated/torch_pch.cpp "")
  add_library(power_torch_pch OBJECT ${CMAKE_BINARY_DIR}/generated/torch_pch.cpp)
  target_link_libraries(power_torch_pch PRIVATE libtorch power_warnings)
  target_precompile_headers(power_torch_pch PRIVATE <torch/torch.h>)
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
  endif()
endfunction()

function(power_library name)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS})
  power_configure_target(${name} "${ARG_TORCH}")
endfunction()

function(power_test name)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gtest GTest::gtest_main)
  power_configure_target(${name} "${ARG_TORCH}")
  # Tests read their own small files and the shipped data through these.
  target_compile_definitions(${name} PRIVATE POWERTRAIN_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                                             POWERTRAIN_BINARY_DIR="${PROJECT_BINARY_DIR}")
  if(NOT ARG_LABELS)
    set(ARG_LABELS cpu)
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 120
    PROPERTIES LABELS "${ARG_LABELS}" ENVIRONMENT "OMP_NUM_THREADS=1" TIMEOUT 900)
endfunction()
