#include "bench/timer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/cuda.h>

#include <chrono>

#include "core/error.h"

#ifdef POWERTRAIN_HAVE_CUDA
#include <ATen/cuda/CUDAContext.h>
#endif

namespace power::bench {
namespace {

constexpr int64_t kFlushBytes = int64_t{1} << 30;  // several times any L2, about 0.5 ms

// A moment of the device's own time.
class Mark {
 public:
  explicit Mark(at::Device device) {
    if (device.is_cpu()) return;
    const c10::impl::VirtualGuardImpl guard(device.type());
    event_ = std::make_shared<c10::Event>(device.type(), c10::EventFlag::BACKEND_DEFAULT);  // the flag keeps the time
    event_->record(guard.getStream(device));
  }
  void wait() const {
    if (event_) event_->synchronize();
  }
  double ms_since(const Mark& earlier) const {
    if (event_) return earlier.event_->elapsedTime(*event_);
    return std::chrono::duration<double, std::milli>(host_ - earlier.host_).count();
  }

 private:
  std::chrono::steady_clock::time_point host_ = std::chrono::steady_clock::now();
  std::shared_ptr<c10::Event> event_;  // GPU only
};

}  // namespace

Timer::Timer(at::Device device) : device_(device) {
  if (device.is_cuda()) flush_ = at::empty({kFlushBytes}, at::TensorOptions().dtype(at::kByte).device(device));
}

std::vector<std::vector<double>> Timer::run(const std::vector<std::function<void()>>& stages, int repeats,
                                            int warm_up) {
  std::vector<std::vector<double>> times(stages.size());
  for (int repeat = -warm_up; repeat < repeats; ++repeat) {
    if (flush_.defined()) flush_.zero_();
    std::vector<Mark> marks = {Mark(device_)};
    for (const auto& stage : stages) {
      stage();
      marks.emplace_back(device_);
    }
    marks.back().wait();
    for (size_t i = 0; i < stages.size() && repeat >= 0; ++i) times[i].push_back(marks[i + 1].ms_since(marks[i]));
  }
  return times;
}

at::Device bench_device(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  require(name == "auto" || name == "cuda", ErrorKind::kUsage, "--device ", name, ": use auto, cuda or cpu");
  require(torch::cuda::is_available(), ErrorKind::kRuntime,
          "bench operator: no CUDA device is usable; see powertrain doctor, or time the CPU with --device cpu");
  return {at::kCUDA, 0};
}

std::string device_name(at::Device device) {
#ifdef POWERTRAIN_HAVE_CUDA
  if (device.is_cuda()) return at::cuda::getDeviceProperties(device.index())->name;
#endif
  return str("CPU, ", at::get_num_threads(), at::get_num_threads() == 1 ? " thread" : " threads");
}

}  // namespace power::bench
