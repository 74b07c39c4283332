#include "train/device.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <sys/resource.h>
#include <torch/cuda.h>
#include <torch/utils.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <string_view>

#include "core/error.h"

#ifdef POWERTRAIN_HAVE_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDACachingAllocator.h>
#endif

namespace power::train {

torch::Device choose_device(const std::string& name) {
  if (name == "cpu") return torch::kCPU;
  const bool have_gpu = torch::cuda::is_available();
  if (name == "auto") return have_gpu ? torch::Device(torch::kCUDA, 0) : torch::Device(torch::kCPU);
  int index = 0;
  if (name != "cuda") {
    const std::string_view prefix = "cuda:";
    const char* last = name.data() + name.size();
    require(name.starts_with(prefix), ErrorKind::kUsage, "device '", name, "': use auto, cpu, cuda or cuda:N");
    const auto [end, status] = std::from_chars(name.data() + prefix.size(), last, index);
    require(status == std::errc() && end == last && index >= 0, ErrorKind::kUsage, "device '", name,
            "': use auto, cpu, cuda or cuda:N");
  }
  const int count = have_gpu ? static_cast<int>(torch::cuda::device_count()) : 0;
  require(index < count, ErrorKind::kUsage, "device '", name, "': this process sees ", count,
          " CUDA devices; use --device=cpu, or run `powertrain doctor` to see what is missing");
  return torch::Device(torch::kCUDA, static_cast<c10::DeviceIndex>(index));
}

torch::Dtype parse_dtype(const std::string& name) {
  if (name == "float32") return torch::kFloat32;
  if (name == "bfloat16") return torch::kBFloat16;
  if (name == "float16") return torch::kFloat16;
  fail(ErrorKind::kUsage, "dtype '", name, "': use float32, bfloat16 or float16");
}

void seed_everything(int64_t seed, bool deterministic) {
  if (deterministic) {
    // cuBLAS reads this at its first use; without it its results depend on the stream's workspace.
    setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
    at::globalContext().setDeterministicAlgorithms(true, false);
  }
  torch::manual_seed(static_cast<uint64_t>(seed));
}

std::optional<double> peak_flops(torch::Device device, torch::Dtype dtype) {
  struct Row {
    std::string_view name;
    double half;     // bfloat16 and float16 with float32 accumulation, dense
    double float32;  // TF32 is off: plain float32
  };
  // Data-sheet rates, FLOP/s.
  static constexpr std::array<Row, 8> kRates = {{{"H200", 989e12, 67e12},
                                                 {"H100 PCIe", 756e12, 51e12},
                                                 {"H100", 989e12, 67e12},
                                                 {"A100", 312e12, 19.5e12},
                                                 {"L40S", 362e12, 91.6e12},
                                                 {"L4", 121e12, 30.3e12},
                                                 {"RTX 4090", 165e12, 82.6e12},
                                                 {"RTX 3090", 71e12, 35.6e12}}};
  if (!device.is_cuda()) return std::nullopt;
  const std::string name = device_name(device);
  for (const Row& row : kRates) {
    if (name.find(row.name) != std::string::npos) return dtype == torch::kFloat32 ? row.float32 : row.half;
  }
  return std::nullopt;
}

std::string device_name(torch::Device device) {
#ifdef POWERTRAIN_HAVE_CUDA
  if (device.is_cuda()) return at::cuda::getDeviceProperties(device.index())->name;
#endif
  return str("CPU, ", at::get_num_threads(), at::get_num_threads() == 1 ? " thread" : " threads");
}

int64_t peak_memory_bytes(torch::Device device) {
#ifdef POWERTRAIN_HAVE_CUDA
  if (device.is_cuda()) {
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(device.index());
    return stats.reserved_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
  }
#endif
  struct rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

TimeMark::TimeMark(torch::Device device) : host_(std::chrono::steady_clock::now()) {
  if (device.is_cpu()) return;
  const c10::impl::VirtualGuardImpl guard(device.type());
  event_ = std::make_shared<c10::Event>(device.type(), c10::EventFlag::BACKEND_DEFAULT);  // the flag keeps the time
  event_->record(guard.getStream(device));
}

void TimeMark::wait() const {
  if (event_) event_->synchronize();
}

double TimeMark::seconds_since(const TimeMark& earlier) const {
  earlier.wait();
  wait();
  if (event_) return earlier.event_->elapsedTime(*event_) * 1e-3;
  return std::chrono::duration<double>(host_ - earlier.host_).count();
}

}  // namespace power::train
