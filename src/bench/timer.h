#pragma once

#include <functional>
#include <string>
#include <vector>

namespace power::bench {

// Times stages of GPU work with events. Each run follows a write over more than the L2 cache, long enough that the host
// has submitted the stages before the first begins.
class GpuTimer {
 public:
  GpuTimer();
  ~GpuTimer();
  GpuTimer(const GpuTimer&) = delete;
  GpuTimer& operator=(const GpuTimer&) = delete;

  // times[stage][repeat] in ms, after `warm_up` runs.
  std::vector<std::vector<double>> run(const std::vector<std::function<void()>>& stages, int repeats, int warm_up = 3);

 private:
  struct Implementation;
  Implementation* implementation_;
};

// As the driver calls it.
std::string gpu_name();

}  // namespace power::bench
