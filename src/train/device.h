#pragma once

#include <c10/core/Event.h>
#include <torch/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace power::train {

// "auto" (the first GPU, else the CPU), "cpu", "cuda" or "cuda:N". Throws Error(kUsage) where there is no such device.
torch::Device choose_device(const std::string& name);
// "float32", "bfloat16" or "float16".
torch::Dtype parse_dtype(const std::string& name);
// Seeds every generator; `deterministic` also makes LibTorch choose deterministic algorithms.
void seed_everything(int64_t seed, bool deterministic);

// What the device is called, e.g. "NVIDIA H200" or "CPU, 2 threads".
std::string device_name(torch::Device device);
// Dense matrix-product rate of the device by its data sheet, FLOP/s; nullopt where it is not known.
std::optional<double> peak_flops(torch::Device device, torch::Dtype dtype);
// Most memory in use so far, bytes: the caching allocator's reserved memory on a GPU, the process's resident set on a
// CPU.
int64_t peak_memory_bytes(torch::Device device);

// A point in a device's work. The time between two is the device's own: on a GPU it does not depend on how far the host
// has run ahead.
class TimeMark {
 public:
  // Now, for a CPU; when the work submitted so far is done, for a GPU.
  explicit TimeMark(torch::Device device);
  // Waits until the point is reached, and not for work submitted after it.
  void wait() const;
  // Waits for both points.
  double seconds_since(const TimeMark& earlier) const;

 private:
  std::chrono::steady_clock::time_point host_;
  std::shared_ptr<c10::Event> event_;  // empty on a CPU
};

}  // namespace power::train
