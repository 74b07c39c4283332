#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <torch/types.h>

#include "bench/timer.h"

namespace power::bench {
namespace {

constexpr int64_t kFlushBytes = int64_t{1} << 30;  // several times any L2, about 0.5 ms

}  // namespace

struct GpuTimer::Implementation {
  at::Tensor flush = at::empty({kFlushBytes}, at::TensorOptions().dtype(at::kByte).device(at::kCUDA));
};

GpuTimer::GpuTimer() : implementation_(new Implementation) {}
GpuTimer::~GpuTimer() { delete implementation_; }

std::vector<std::vector<double>> GpuTimer::run(const std::vector<std::function<void()>>& stages, int repeats,
                                               int warm_up) {
  std::vector<std::vector<double>> times(stages.size());
  for (int repeat = -warm_up; repeat < repeats; ++repeat) {
    std::vector<at::cuda::CUDAEvent> events;
    for (size_t i = 0; i <= stages.size(); ++i) events.emplace_back(cudaEventDefault);
    implementation_->flush.zero_();
    events[0].record();
    for (size_t i = 0; i < stages.size(); ++i) {
      stages[i]();
      events[i + 1].record();
    }
    events.back().synchronize();
    for (size_t i = 0; i < stages.size() && repeat >= 0; ++i) {
      times[i].push_back(events[i].elapsed_time(events[i + 1]));
    }
  }
  return times;
}

std::string gpu_name() { return at::cuda::getCurrentDeviceProperties()->name; }

}  // namespace power::bench
