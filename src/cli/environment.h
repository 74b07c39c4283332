#pragma once

#include <cstdint>
#include <string>
#include <vector>

// What the program was built with and what it runs on.
namespace power::cli {

struct Gpu {
  std::string name;
  int64_t memory = 0;  // bytes
  int capability = 0;  // 90 for compute capability 9.0
};

struct Environment {
  std::string commit;
  std::string libtorch_version;    // of the library that was loaded
  std::string libtorch_path;       // its folder
  std::string cuda_version;        // built with; empty without CUDA
  std::string nccl_version;        // of the loaded library; empty without CUDA
  std::vector<int> architectures;  // with machine code or PTX in this build; 90 for sm_90
  std::vector<Gpu> gpus;
  std::string gpu_problem;       // why there is none although the build has CUDA
  int cores = 0;                 // this process may use
  int threads = 0;               // LibTorch uses
  int64_t memory_available = 0;  // bytes
  int64_t disk_available = 0;    // bytes, in the current folder
};

Environment inspect_environment();

}  // namespace power::cli
