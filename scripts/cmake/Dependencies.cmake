# System libraries; scripts/setup.sh installs their Debian packages.
find_package(yaml-cpp REQUIRED)
if(NOT TARGET yaml-cpp::yaml-cpp)  # 0.7 (Debian 12) names the target yaml-cpp, 0.8 (Ubuntu 24.04) yaml-cpp::yaml-cpp
  add_library(yaml-cpp::yaml-cpp ALIAS yaml-cpp)
endif()
find_package(spdlog REQUIRED)
find_package(cxxopts REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(LibArchive REQUIRED)
find_path(XXHASH_INCLUDE xxhash.h REQUIRED)
find_path(GLOO_INCLUDE gloo/context.h)  # headers only; without them there is no CPU process group
