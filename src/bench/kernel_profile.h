#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace power::bench {

struct KernelTime {
  std::string name;   // as the profiler gives it, template arguments and all
  int64_t calls = 0;  // in one run of the work
  double ms = 0;      // in one run, of all calls; on a CPU without the operators that this one calls
};

// An operator while it ran, in ns.
struct Span {
  uint64_t thread = 0, start = 0, end = 0;
  std::string name;
};

struct OwnTime {
  int64_t calls = 0;
  uint64_t ns = 0;
};

// Operators call operators: each keeps the time that none of its callees took, so that the sum is what the threads
// spent.
std::map<std::string, OwnTime> own_times(std::vector<Span> spans);

// What `work` spends its time in, the longest first, seen by LibTorch's profiler over `repeats` runs: kernels and
// copies of a GPU (through CUPTI), operators on a CPU. Throws Error(kRuntime) where the profiler sees nothing.
std::vector<KernelTime> profile_kernels(at::Device device, const std::function<void()>& work, int repeats);

// A name for people: without return type, parameters and namespaces, template arguments kept; at most `width` bytes.
std::string short_kernel_name(const std::string& name, size_t width);

}  // namespace power::bench
