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

# Replaces a target's sources by files that include four of them each; those with options of their own stay as they are.
# CMake's UNITY_BUILD writes absolute paths, which end up in __FILE__ and keep the compiler cache from serving clones.
function(power_batch_sources name)
  get_target_property(sources ${name} SOURCES)
  set(kept "")
  set(includes "")
  foreach(source IN LISTS sources)
    get_source_file_property(own_options ${source} COMPILE_OPTIONS)
    if(source MATCHES "\\.cpp$" AND NOT own_options)
      cmake_path(ABSOLUTE_PATH source OUTPUT_VARIABLE path)
      cmake_path(RELATIVE_PATH path BASE_DIRECTORY ${PROJECT_SOURCE_DIR})
      list(APPEND includes "#include \"${path}\"\n")
    else()
      list(APPEND kept ${source})
    endif()
  endforeach()
  list(LENGTH includes count)
  set(first 0)
  while(first LESS count)
    list(SUBLIST includes ${first} 4 batch)
    string(CONCAT text ${batch})
    set(file ${CMAKE_CURRENT_BINARY_DIR}/${name}_${first}.cpp)
    file(CONFIGURE OUTPUT ${file} CONTENT "${text}" @ONLY)
    list(APPEND kept ${file})
    math(EXPR first "${first} + 4")
  endwhile()
  set_target_properties(${name} PROPERTIES SOURCES "${kept}")
endfunction()

function(power_configure_target name torch)
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${name} PRIVATE power_warnings)
  if(torch)
    target_link_libraries(${name} PUBLIC libtorch)
    target_precompile_headers(${name} REUSE_FROM power_torch_pch)
    if(POWERTRAIN_UNITY_BUILD)
      # At the end of the folder, when the target has all its sources and these their properties.
      cmake_language(EVAL CODE "cmake_language(DEFER CALL power_batch_sources [[${name}]])")
    endif()
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
