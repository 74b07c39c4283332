#include "bench/kernel_profile.h"

#include <torch/csrc/autograd/profiler_kineto.h>
#include <torch/cuda.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <tuple>

#include "core/error.h"

namespace power::bench {
namespace profiler = torch::autograd::profiler;

std::map<std::string, OwnTime> own_times(std::vector<Span> spans) {
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    return std::tie(a.thread, a.start, b.end) < std::tie(b.thread, b.start, a.end);  // the caller before its callee
  });
  std::map<std::string, OwnTime> totals;
  std::vector<std::pair<const Span*, uint64_t>> open;  // with what callees took
  const auto close = [&] {
    const auto [span, callees] = open.back();
    open.pop_back();
    OwnTime& total = totals[span->name];
    total.calls += 1;
    total.ns += span->end - span->start - std::min(callees, span->end - span->start);
  };
  for (const Span& span : spans) {
    while (!open.empty() && (open.back().first->thread != span.thread || open.back().first->end <= span.start)) close();
    if (!open.empty()) open.back().second += span.end - span.start;
    open.emplace_back(&span, 0);
  }
  while (!open.empty()) close();
  return totals;
}

std::vector<KernelTime> profile_kernels(at::Device device, const std::function<void()>& work, int repeats) {
  const profiler::ProfilerConfig config(profiler::ProfilerState::KINETO);
  std::set<profiler::ActivityType> activities = {profiler::ActivityType::CPU};
  if (device.is_cuda()) activities = {profiler::ActivityType::CPU, profiler::ActivityType::CUDA};
  setenv("KINETO_LOG_LEVEL", "5", 0);  // it would report on stderr that a machine has no GPU
  work();                              // what is done once (handles, choices of algorithms) is no part of a run
  const auto settle = [&] {
    if (device.is_cuda()) torch::cuda::synchronize(device.index());
  };
  settle();
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities);
  for (int repeat = 0; repeat < repeats; ++repeat) work();
  settle();
  const auto result = profiler::disableProfiler();

  std::vector<Span> spans;
  for (const profiler::KinetoEvent& event : result->events()) {
    if (event.deviceType() != device.type() || event.isHiddenEvent()) continue;
    spans.push_back({event.startThreadId(), event.startNs(), event.endNs(), event.name()});
  }
  require(!spans.empty(), ErrorKind::kRuntime, "bench operator: LibTorch's profiler saw no ",
          device.is_cuda() ? "kernel; end other programs that profile this GPU (only one can), or leave out --breakdown"
                           : "operator; leave out --breakdown");
  if (device.is_cuda()) {  // kernels call no kernels, but those of two streams may overlap
    for (size_t i = 0; i < spans.size(); ++i) spans[i].thread = i;
  }
  std::vector<KernelTime> times;
  for (const auto& [name, total] : own_times(std::move(spans))) {
    times.push_back({name, (total.calls + repeats - 1) / repeats, static_cast<double>(total.ns) * 1e-6 / repeats});
  }
  std::sort(times.begin(), times.end(), [](const KernelTime& a, const KernelTime& b) { return a.ms > b.ms; });
  return times;
}

std::string short_kernel_name(const std::string& name, size_t width) {
  std::string text = name;
  const std::string unnamed = "(anonymous namespace)::";
  for (size_t at = text.find(unnamed); at != std::string::npos; at = text.find(unnamed)) text.erase(at, unnamed.size());
  // Outside template arguments: the parameters' bracket stands right behind the name; the name begins after the last
  // space or "::" before it.
  size_t begin = 0, end = std::string::npos;
  int depth = 0;
  for (size_t i = 0; i < text.size() && end == std::string::npos; ++i) {
    const char c = text[i];
    depth += c == '<' ? 1 : c == '>' ? -1 : 0;
    if (depth > 0) continue;
    if (c == '(' && i > begin) end = i;
    if (c == ' ' || (c == ':' && i > 0 && text[i - 1] == ':')) begin = i + 1;
  }
  if (end != std::string::npos) text = text.substr(begin, end - begin);
  return text.size() <= width ? text : text.substr(0, width - 3) + "...";
}

}  // namespace power::bench
