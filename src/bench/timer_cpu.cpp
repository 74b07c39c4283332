#include "bench/timer.h"
#include "core/error.h"

// A build without CUDA has nothing to time.
namespace power::bench {

struct GpuTimer::Implementation {};

GpuTimer::GpuTimer() : implementation_(nullptr) {
  fail(ErrorKind::kRuntime, "bench operator: this build has no CUDA; configure with cmake --preset cuda");
}
GpuTimer::~GpuTimer() = default;

std::vector<std::vector<double>> GpuTimer::run(const std::vector<std::function<void()>>&, int, int) { return {}; }

std::string gpu_name() { return ""; }

}  // namespace power::bench
