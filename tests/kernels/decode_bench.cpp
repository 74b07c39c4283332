// Times decoding without LibTorch, on random inputs: power_decode_bench [B H R D [splits..]].
//
// A CUDA graph holds one token through as many layers as it takes for their states to exceed the second-level cache; it
// is replayed over whole periods of the window, in each of which it grows to 64 tokens and is folded. Then the
// windows are set to about half their size, where nothing is folded, and to their end, where all are.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "kernels/power_attention/decode.h"
#include "kernels/power_attention/decode_layout.h"

namespace {

using namespace power::kernels;

void check(cudaError_t status) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "power_decode_bench: %s\n", cudaGetErrorString(status));
  std::exit(1);
}

class Memory {
 public:
  explicit Memory(size_t bytes) { check(cudaMalloc(&data_, bytes)); }
  Memory(const Memory&) = delete;
  ~Memory() { check(cudaFree(data_)); }
  template <class T = void>
  T* data() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
};

void fill_bf16(const Memory& memory, size_t count, double size) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> values(count);
  for (uint16_t& x : values) {
    const float value = static_cast<float>(size) * normal(random);
    uint32_t bits;
    static_assert(sizeof bits == sizeof value);
    __builtin_memcpy(&bits, &value, 4);
    x = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
  check(cudaMemcpy(memory.data(), values.data(), count * 2, cudaMemcpyHostToDevice));
}

struct Shape {
  int batch, kv_heads, group, head_dim, splits;  // splits 0: the default
};

void bench(const Shape& s, int multiprocessors) {
  constexpr int kWindow = 256, kPeriod = kDecodeFoldTokens;
  DecodeShape shape;
  shape.batch = s.batch;
  shape.kv_heads = s.kv_heads;
  shape.group = s.group;
  shape.head_dim = s.head_dim;
  shape.window = kWindow;
  const int splits = s.splits > 0 ? s.splits : decode_splits(shape, 1, multiprocessors);
  const size_t records = size_t(s.batch) * s.kv_heads, record = decode_record_bytes(shape);
  const size_t rows = size_t(s.head_dim) * (s.head_dim + 1) / 2;
  // A token reads: the state's high half, the key sum, half a window of keys, values and gates on average; and once a
  // window it reads and writes both halves and reads the window again.
  const double state_bytes = double(rows) * s.head_dim * 2, window_bytes = kPeriod * (4.0 * s.head_dim + 4);
  const double read = state_bytes + rows * 4.0 + window_bytes / 2;
  const double folded = (4 * state_bytes + 8.0 * rows + window_bytes) / kPeriod;
  const int layers = std::max(1, int(std::ceil(256e6 / (double(records) * state_bytes))));
  Memory cache(record * records * layers), q(records * s.group * s.head_dim * 2), k(records * s.head_dim * 2);
  Memory v(records * s.head_dim * 2), y(records * s.group * s.head_dim * 2), log_g(records * 4);
  Memory workspace(decode_workspace_bytes(shape, 1, splits));
  check(cudaMemset(cache.data(), 0, record * records * layers));
  fill_bf16(q, records * s.group * s.head_dim, 1 / std::sqrt(double(s.head_dim)));
  fill_bf16(k, records * s.head_dim, 1 / std::sqrt(double(s.head_dim)));
  fill_bf16(v, records * s.head_dim, 1);
  std::vector<float> gates(records);
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (float& g : gates) g = -std::log1p(std::exp(-(6.906768f + normal(random))));
  check(cudaMemcpy(log_g.data(), gates.data(), records * 4, cudaMemcpyHostToDevice));

  cudaStream_t stream;
  check(cudaStreamCreate(&stream));
  DecodeParams params;
  params.shape = shape;
  params.scale = 1 / std::sqrt(double(s.head_dim));
  const int64_t key_token = int64_t{s.kv_heads} * s.head_dim, query_token = key_token * s.group;
  params.q = {q.data(), query_token, query_token, s.head_dim};
  params.k = {k.data(), key_token, key_token, s.head_dim};
  params.v = {v.data(), key_token, key_token, s.head_dim};
  params.y = {y.data(), query_token, query_token, s.head_dim};
  params.log_g = {log_g.data<float>(), s.kv_heads, s.kv_heads, 1};
  params.splits = splits;
  params.workspace = workspace.data();
  params.stream = stream;
  cudaGraph_t captured;
  cudaGraphExec_t graph;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int layer = 0; layer < layers; ++layer) {
    params.cache = cache.data<char>() + record * records * layer;
    power_attention_decode(params);
  }
  check(cudaStreamEndCapture(stream, &captured));
  check(cudaGraphInstantiate(&graph, captured, 0));
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  const auto elapsed = [&] {
    check(cudaEventSynchronize(end));
    float ms;
    check(cudaEventElapsedTime(&ms, begin, end));
    return double(ms) / layers;
  };
  for (int i = 0; i < kWindow + 8; ++i) check(cudaGraphLaunch(graph, stream));  // every sequence has folded once
  check(cudaEventRecord(begin, stream));
  for (int i = 0; i < kWindow; ++i) check(cudaGraphLaunch(graph, stream));
  check(cudaEventRecord(end, stream));
  const double mean = elapsed() / kWindow;
  std::vector<double> steps;
  for (int i = 0; i < kWindow; ++i) {
    check(cudaEventRecord(begin, stream));
    check(cudaGraphLaunch(graph, stream));
    check(cudaEventRecord(end, stream));
    steps.push_back(elapsed());
  }
  std::sort(steps.begin(), steps.end());
  const auto set_windows = [&](int length) {
    const DecodeMeta meta{length, 0.0f, 1, 1, 0};
    const std::vector<DecodeMeta> metas(records * layers, meta);
    check(cudaMemcpy2D(cache.data(), record, metas.data(), sizeof meta, sizeof meta, metas.size(),
                       cudaMemcpyHostToDevice));
  };
  constexpr int kReplays = 48;
  set_windows(kPeriod / 2 - kReplays / 2 - 4);
  for (int i = 0; i < 4; ++i) check(cudaGraphLaunch(graph, stream));
  check(cudaEventRecord(begin, stream));
  for (int i = 0; i < kReplays; ++i) check(cudaGraphLaunch(graph, stream));
  check(cudaEventRecord(end, stream));
  const double without_fold = elapsed() / kReplays;
  set_windows(kPeriod - 1);
  check(cudaGraphLaunch(graph, stream));
  check(cudaEventRecord(begin, stream));
  check(cudaGraphLaunch(graph, stream));
  check(cudaEventRecord(end, stream));
  const double all_fold = elapsed();
  const double bytes = (read + folded) * double(records);
  std::printf("%5d %4d %3d %4d %7d %7d | %8.4f %8.4f %8.4f %8.4f | %8.4f %8.4f | %8.4f %6.2f\n", s.batch, s.kv_heads,
              s.group, s.head_dim, splits, layers, mean, steps[0], steps[kWindow / 2], steps[kWindow - 1], without_fold,
              all_fold, bytes / 4.2e12 * 1e3, bytes / mean * 1e-9);
  std::fflush(stdout);
  check(cudaGraphExecDestroy(graph));
  check(cudaGraphDestroy(captured));
  check(cudaStreamDestroy(stream));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && argc < 5) {
    std::fprintf(stderr, "usage: power_decode_bench [B H R D [splits..]]\n");
    return 2;
  }
  cudaDeviceProp device;
  check(cudaGetDeviceProperties(&device, 0));
  std::printf("%s, %d multiprocessors; degree 2, bf16, one token a sequence, window growing and folded\n", device.name,
              device.multiProcessorCount);
  std::printf(
      "ms a layer: mean of a period replayed at once; fastest, median, slowest of single replays; mean without\n"
      "a fold at half a window; every sequence folding\n");
  std::printf(
      "    B    H   R    D  splits  layers |     mean  fastest   median  slowest |  no fold all fold | "
      "at 4.2 TB/s    TB/s\n");
  const auto number = [&](int i) { return i < argc ? std::atoi(argv[i]) : 0; };
  if (argc > 1) {
    for (int i = 5; i < std::max(argc, 6); ++i) {
      bench({number(1), number(2), number(3), number(4), number(i)}, device.multiProcessorCount);
    }
    return 0;
  }
  for (const Shape& s : {Shape{1, 12, 1, 64, 0},
                         {8, 12, 1, 64, 0},
                         {64, 12, 1, 64, 0},
                         {256, 12, 1, 64, 0},
                         {64, 12, 1, 128, 0},
                         {64, 3, 4, 64, 0},
                         {64, 24, 1, 32, 0}}) {
    bench(s, device.multiProcessorCount);
  }
  std::printf("other splits\n");
  for (const Shape& s : {Shape{1, 12, 1, 64, 11},
                         {1, 12, 1, 64, 17},
                         {1, 12, 1, 64, 22},
                         {1, 12, 1, 64, 33},
                         {8, 12, 1, 64, 5},
                         {8, 12, 1, 64, 11},
                         {8, 12, 1, 64, 17},
                         {64, 12, 1, 64, 3},
                         {64, 12, 1, 64, 4},
                         {64, 12, 1, 64, 6},
                         {64, 12, 1, 64, 8},
                         {64, 12, 1, 64, 11},
                         {64, 12, 1, 64, 17},
                         {256, 12, 1, 64, 1},
                         {256, 12, 1, 64, 2},
                         {256, 12, 1, 64, 3},
                         {256, 12, 1, 64, 4},
                         {256, 12, 1, 64, 6},
                         {256, 12, 1, 64, 11}}) {
    bench(s, device.multiProcessorCount);
  }
  return 0;
}
