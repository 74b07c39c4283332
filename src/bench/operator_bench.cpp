#include "bench/operator_bench.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <ostream>

#include "bench/operator_report.h"
#include "bench/timer.h"
#include "core/error.h"
#include "core/file.h"

namespace power::bench {
namespace {

constexpr int kProfiledRuns = 5;

void set_times(Pass& pass, std::vector<double> times) {
  std::sort(times.begin(), times.end());
  pass.median = times[times.size() / 2];
  pass.p90 = times[times.size() * 9 / 10];
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// FLOP/s of a square product and bytes/s (read and written) of a copy, on random data.
void measure_ceilings(Timer& timer, at::Device device, OperatorBenchResult& result) {
  const int64_t size = device.is_cuda() ? 8192 : 1024;
  const int64_t copied = device.is_cuda() ? int64_t{1} << 31 : int64_t{1} << 26;
  const at::TensorOptions options = workload_options(device);
  const at::Tensor a = at::randn({size, size}, options), b = at::randn({size, size}, options);
  at::Tensor c = at::empty({size, size}, options);
  Pass pass;
  set_times(pass, timer.run({[&] { at::mm_out(c, a, b.t()); }}, 10)[0]);
  result.matmul_flops = pass.per_second(2.0 * static_cast<double>(size * size * size));
  result.product = str(device.is_cuda() ? "bf16" : "float32", " product of ", size, "^3");
  const at::Tensor from = at::randn({copied / a.element_size()}, options);
  at::Tensor to = at::empty_like(from);
  set_times(pass, timer.run({[&] { to.copy_(from); }}, 10)[0]);
  result.copy_bytes = pass.per_second(2.0 * static_cast<double>(copied));
}

OperatorBenchRow measure(Timer& timer, const OperatorShape& shape, Attention attention, at::Device device,
                         const OperatorBenchOptions& options) {
  OperatorBenchRow row;
  row.shape = shape;
  row.attention = attention;
  row.what = attention_name(attention);
  try {
    const Workload load = make_workload(shape, attention, options.gated, options.chunk_size, device);
    row.what = load.what;
    row.forward.work = load.forward_work;
    row.backward.work = load.backward_work;
    row.both.work = {load.forward_work.flop + load.backward_work.flop,
                     load.forward_work.bytes + load.backward_work.bytes};
    at::Tensor y;
    const auto forward = [&] { y = load.forward(); };
    const auto times =
        timer.run({forward, [&] { torch::autograd::grad({y}, load.inputs, {load.dy}); }}, options.repeats);
    set_times(row.forward, times[0]);
    set_times(row.backward, times[1]);
    std::vector<double> sums = times[0];
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += times[1][i];
    set_times(row.both, std::move(sums));
    if (!options.breakdown) return row;
    row.forward.kernels = profile_kernels(device, forward, kProfiledRuns);
    // The graph stays, so that the backward pass runs again and again on one forward pass.
    row.backward.kernels = profile_kernels(
        device, [&] { torch::autograd::grad({y}, load.inputs, {load.dy}, /*retain_graph=*/true); }, kProfiledRuns);
  } catch (const Error&) {
    throw;  // of the bench itself
  } catch (const c10::Error& error) {
    row.failure = first_line(error.what_without_backtrace());
  } catch (const std::exception& error) {  // of the kernels
    row.failure = first_line(error.what());
  }
  return row;
}

std::vector<OperatorShape> choose_shapes(const OperatorBenchOptions& options) {
  if (!options.contexts.empty()) {
    require(options.shapes.size() <= 1, ErrorKind::kUsage,
            "--contexts goes with one --shape, whose tokens it cuts into sequences; ", options.shapes.size(), " given");
    const OperatorShape usual{1, 65536, 12};
    return shapes_of_contexts(options.shapes.empty() ? usual : options.shapes.front(), options.contexts);
  }
  require(options.svg.empty(), ErrorKind::kUsage,
          "--svg draws tokens/s over the context: add --contexts, as --contexts 1024,4096,16384,65536");
  if (!options.shapes.empty()) return options.shapes;
  return {{64, 1024, 12}, {16, 4096, 8}, {8, 8192, 12}, {1, 16384, 12}, {1, 65536, 8}};
}

}  // namespace

OperatorBenchResult run_bench_operator(const OperatorBenchOptions& options, std::ostream& out) {
  const std::vector<OperatorShape> shapes = choose_shapes(options);
  const at::Device device = bench_device(options.device);
  std::vector<Attention> attentions = {Attention::kPower};
  if (options.softmax && device.is_cuda()) attentions.push_back(Attention::kCudnn);
  if (options.softmax) attentions.push_back(Attention::kFlash);
  Timer timer(device);
  OperatorBenchResult result;
  result.device = device_name(device);
  measure_ceilings(timer, device, result);
  if (!options.json) print_head(result, options, out);
  for (const OperatorShape& shape : shapes) {
    std::vector<OperatorBenchRow> rows;
    for (const Attention attention : attentions) rows.push_back(measure(timer, shape, attention, device, options));
    if (!options.json) print_shape(rows, result, out);
    result.rows.insert(result.rows.end(), rows.begin(), rows.end());
  }
  if (options.json) out << bench_json(result, options).dump(2) << std::endl;
  if (!options.svg.empty()) write_file_atomic(options.svg, context_chart(result));
  return result;
}

}  // namespace power::bench
