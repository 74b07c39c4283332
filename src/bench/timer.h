#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace power::bench {

// Times stages of work: on a GPU with events, on a CPU by the clock. On a GPU each run follows a write over more than
// the L2 cache, long enough that the host has submitted the stages before the first begins.
class Timer {
 public:
  explicit Timer(at::Device device);

  // times[stage][repeat] in ms, after `warm_up` runs.
  std::vector<std::vector<double>> run(const std::vector<std::function<void()>>& stages, int repeats, int warm_up = 3);

 private:
  at::Device device_;
  at::Tensor flush_;  // GPU only
};

// "auto": the GPU. Throws Error(kRuntime) where there is none, and Error(kUsage) for an unknown name.
at::Device bench_device(const std::string& name);
// As the driver calls it; "CPU, 4 threads".
std::string device_name(at::Device device);

}  // namespace power::bench
