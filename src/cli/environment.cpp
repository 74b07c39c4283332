#include "cli/environment.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <dlfcn.h>
#include <sched.h>
#include <torch/cuda.h>

#include <cctype>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/git_commit.h"
#include "core/str.h"
#include "core/version.h"

#ifdef POWERTRAIN_HAVE_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAFunctions.h>
#include <torch/csrc/cuda/nccl.h>
#endif

namespace power::cli {
namespace {

namespace fs = std::filesystem;

// Folder that holds lib/libtorch_cpu.so of this process.
std::string loaded_libtorch() {
  Dl_info info = {};
  if (dladdr(reinterpret_cast<const void*>(&at::show_config), &info) == 0 || info.dli_fname == nullptr) return "";
  return fs::path(info.dli_fname).lexically_normal().parent_path().parent_path().string();
}

// The libraries carry no version function; their build settings do.
std::string loaded_libtorch_version() {
  const std::string config = at::show_config(), label = "TORCH_VERSION=";
  const size_t begin = config.find(label);
  if (begin == std::string::npos) return POWERTRAIN_LIBTORCH_VERSION;
  const size_t end = config.find_first_of(",\n ", begin);
  return config.substr(begin + label.size(), end - begin - label.size());
}

// "80-real;80-virtual;90a-real" -> {80, 90}
std::vector<int> parse_architectures(const std::string& list) {
  std::vector<int> numbers;
  std::istringstream entries(list);
  for (std::string entry; std::getline(entries, entry, ';');) {
    int number = 0;
    for (const char c : entry) {
      if (std::isdigit(static_cast<unsigned char>(c)) == 0) break;
      number = 10 * number + (c - '0');
    }
    if (number > 0 && (numbers.empty() || numbers.back() != number)) numbers.push_back(number);
  }
  return numbers;
}

int64_t available_memory() {
  std::ifstream meminfo("/proc/meminfo");
  for (std::string name, unit; meminfo >> name;) {
    int64_t kibibytes = 0;
    meminfo >> kibibytes;
    std::getline(meminfo, unit);
    if (name == "MemAvailable:") return kibibytes * 1024;
  }
  return 0;
}

void inspect_gpus(Environment& environment) {
  environment.cuda_version = POWERTRAIN_CUDA_VERSION;  // both empty without CUDA
  environment.architectures = parse_architectures(POWERTRAIN_CUDA_ARCHITECTURES);
#ifdef POWERTRAIN_HAVE_CUDA
  const uint64_t nccl = torch::cuda::nccl::version();  // major, minor and patch in 32, 16 and 16 bits
  environment.nccl_version = str(nccl >> 32, ".", (nccl >> 16) & 0xffff, ".", nccl & 0xffff);
  int count = 0;
  try {
    count = c10::cuda::device_count_ensure_non_zero();
  } catch (const c10::Error& error) {
    const std::string reason = error.what_without_backtrace();
    environment.gpu_problem = reason.substr(0, reason.find('\n'));
    return;
  }
  for (int index = 0; index < count; ++index) {
    const cudaDeviceProp& properties = *at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(index));
    environment.gpus.push_back(
        {properties.name, static_cast<int64_t>(properties.totalGlobalMem), 10 * properties.major + properties.minor});
  }
#else
  environment.gpu_problem = "this build has no CUDA";
#endif
}

}  // namespace

Environment inspect_environment() {
  Environment environment;
  environment.commit = POWERTRAIN_GIT_COMMIT;
  environment.libtorch_version = loaded_libtorch_version();
  environment.libtorch_path = loaded_libtorch();
  cpu_set_t cores;
  environment.cores = sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : 1;
  environment.threads = at::get_num_threads();
  environment.memory_available = available_memory();
  std::error_code error;
  const fs::space_info space = fs::space(".", error);
  environment.disk_available = error ? 0 : static_cast<int64_t>(space.available);
  inspect_gpus(environment);
  return environment;
}

}  // namespace power::cli
