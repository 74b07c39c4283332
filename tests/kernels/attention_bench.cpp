// Times the kernels without LibTorch, on random inputs: power_kernels_bench [fp32] [B T H R D p CHUNK]... (0: quadratic
// form)
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "kernels/power_attention/power_attention.h"

namespace {

using namespace power::kernels;

void check(cudaError_t status) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "power_kernels_bench: %s\n", cudaGetErrorString(status));
  std::exit(1);
}

void* allocate(size_t bytes) {
  void* pointer = nullptr;
  check(cudaMalloc(&pointer, std::max<size_t>(bytes, 16)));
  return pointer;
}

DataType dtype = DataType::kBFloat16;
size_t element_bytes() { return dtype == DataType::kFloat32 ? 4 : 2; }

// Random normals times size; a million different values, repeated.
void* random_values(size_t count, double size) {
  static std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<char> block(std::min<size_t>(count, 1 << 20) * element_bytes());
  for (size_t i = 0; i < block.size() / element_bytes(); ++i) {
    const float value = static_cast<float>(size) * normal(random);
    uint32_t bits;
    static_assert(sizeof bits == sizeof value);
    __builtin_memcpy(&bits, &value, 4);
    const uint16_t rounded = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    if (dtype == DataType::kFloat32) {
      __builtin_memcpy(&block[4 * i], &bits, 4);
    } else {
      __builtin_memcpy(&block[2 * i], &rounded, 2);
    }
  }
  const size_t bytes = count * element_bytes();
  char* pointer = static_cast<char*>(allocate(bytes));
  for (size_t at = 0; at < bytes; at += block.size()) {
    check(cudaMemcpy(pointer + at, block.data(), std::min(block.size(), bytes - at), cudaMemcpyHostToDevice));
  }
  return pointer;
}

// Median and 90th percentile in ms; the L2 cache is overwritten before each run.
std::pair<double, double> time_ms(const std::function<void()>& run) {
  static void* flush = allocate(256 << 20);
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < 23; ++i) {
    check(cudaMemsetAsync(flush, i, 256 << 20));
    check(cudaEventRecord(begin));
    run();
    check(cudaEventRecord(end));
    check(cudaEventSynchronize(end));
    float ms;
    check(cudaEventElapsedTime(&ms, begin, end));
    if (i >= 3) times.push_back(ms);
  }
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times[times.size() * 9 / 10]};
}

void bench(int B, int T, int H, int R, int D, int p, int chunk, bool gated) {
  const size_t rows = size_t(B) * T * H * R, keys = size_t(B) * T * H;
  ForwardParams f;
  f.shape = {dtype, B, T, T, H, R, D, p, 1 / std::sqrt(double(D)), Normalize::kSum, chunk};
  const auto query_view = [&](void* data) { return TensorView{data, int64_t(T) * H * R * D, H * R * D, D}; };
  const auto key_view = [&](void* data) { return TensorView{data, int64_t(T) * H * D, H * D, D}; };
  const double size = 1 / std::sqrt(double(D));
  f.q = query_view(random_values(rows * D, size));
  f.k = key_view(random_values(keys * D, size));
  f.v = key_view(random_values(keys * D, size));
  f.y = query_view(allocate(rows * D * element_bytes()));
  f.row_stats = static_cast<float*>(allocate(row_stats_floats(f.shape) * 4));
  if (gated) {
    std::vector<float> gates(keys);
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    for (float& g : gates) g = -std::log1p(std::exp(-(6.906768f + normal(random))));
    float* log_g = static_cast<float*>(allocate(keys * 4));
    check(cudaMemcpy(log_g, gates.data(), keys * 4, cudaMemcpyHostToDevice));
    f.log_g = {log_g, int64_t(T) * H, H, 1};
  }
  const size_t state_bytes = saved_states_bytes(f.shape, false);
  if (state_bytes > 0) f.states = allocate(state_bytes);
  f.workspace = allocate(forward_workspace_bytes(f));
  BackwardParams b;
  b.shape = f.shape;
  b.q = f.q;
  b.k = f.k;
  b.v = f.v;
  b.log_g = f.log_g;
  b.states = f.states;
  b.y = f.y;
  b.dy = query_view(random_values(rows * D, 1));
  b.row_stats = f.row_stats;
  b.dq = query_view(allocate(rows * D * element_bytes()));
  b.dk = key_view(allocate(keys * D * element_bytes()));
  b.dv = key_view(allocate(keys * D * element_bytes()));
  b.dlog_g = static_cast<float*>(allocate(keys * 4));
  b.dlog_g_batch = int64_t(T) * H;
  b.dlog_g_token = H;
  b.dlog_g_head = 1;
  b.workspace = allocate(backward_workspace_bytes(b));

  const auto forward = time_ms([&] { power_attention_forward(f); });
  const auto backward = time_ms([&] { power_attention_backward(b); });
  double recomputed = 0;
  if (state_bytes > 0) {
    BackwardParams again = b;
    again.states = nullptr;
    again.workspace = allocate(backward_workspace_bytes(again));
    recomputed = time_ms([&] { power_attention_backward(again); }).first;
    check(cudaFree(again.workspace));
    check(cudaFree(f.states));
  }
  // FLOP of the definition's products: 2 in the forward pass, 7 (5 without recomputing scores twice) in the backward
  // pass for each visible pair, and the states' 2 F D a row and product.
  const double span = chunk > 0 ? std::min(chunk, T) : T, pairs = double(B) * H * R * T * (span + 1) / 2;
  double features = 1;
  for (int i = 0; i < p; ++i) features *= double(D + i) / (i + 1);
  const double states = T > span ? double(B) * H * T * 2 * features * D : 0;
  const double forward_flop = 4 * pairs * D + states * (1 + R), backward_flop = 14 * pairs * D + states * (2 + 2 * R);
  std::printf(
      "B%-3d T%-6d H%-3d R%-2d D%-4d p%d c%-5d %s  fwd %8.3f ms (p90 %8.3f) %6.1f TFLOP/s   bwd %8.3f ms (p90 %8.3f) "
      "%6.1f TFLOP/s   fwd+bwd %8.3f ms",
      B, T, H, R, D, p, chunk, gated ? "gated  " : "ungated", forward.first, forward.second,
      forward_flop / forward.first * 1e-9, backward.first, backward.second, backward_flop / backward.first * 1e-9,
      forward.first + backward.first);
  if (recomputed > 0) std::printf("   states made again %8.3f ms", forward.first + recomputed);
  std::printf("\n");
  std::fflush(stdout);
  for (const void* pointer : {f.q.data, f.k.data, f.v.data, f.y.data, b.dy.data, b.dq.data, b.dk.data, b.dv.data}) {
    check(cudaFree(const_cast<void*>(pointer)));
  }
  for (void* pointer : {static_cast<void*>(f.row_stats), f.workspace, b.workspace, static_cast<void*>(b.dlog_g),
                        static_cast<void*>(const_cast<float*>(f.log_g.data))}) {
    check(cudaFree(pointer));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "fp32") == 0) {
    dtype = DataType::kFloat32;
    --argc;
    ++argv;
  }
  if ((argc - 1) % 7 != 0) {
    std::fprintf(stderr, "usage: power_kernels_bench [fp32] [B T H R D p CHUNK]...\n");
    return 2;
  }
  cudaDeviceProp device;
  check(cudaGetDeviceProperties(&device, 0));
  std::printf(
      "%s, %d multiprocessors; 14 d FLOP a pair in the backward pass; L2 overwritten before each run, median of 20\n",
      device.name, device.multiProcessorCount);
  std::vector<std::vector<int>> shapes;
  for (int i = 1; i < argc; i += 7) {
    shapes.emplace_back();
    for (int j = 0; j < 7; ++j) shapes.back().push_back(std::atoi(argv[i + j]));
  }
  if (shapes.empty()) {
    shapes = {{64, 1024, 12, 1, 64, 2, 0},    {16, 4096, 8, 1, 64, 2, 0},    {8, 8192, 12, 1, 64, 2, 1024},
              {1, 16384, 12, 1, 64, 2, 1024}, {1, 65536, 8, 1, 64, 2, 1024}, {64, 1024, 3, 4, 64, 2, 0},
              {64, 1024, 24, 1, 32, 2, 0},    {64, 1024, 6, 1, 128, 2, 0},   {64, 1024, 12, 1, 64, 1, 0},
              {64, 1024, 12, 1, 64, 4, 0},    {1, 65536, 16, 1, 32, 2, 512}, {1, 65536, 4, 1, 128, 2, 2048},
              {1, 65536, 2, 4, 64, 2, 1024}};
  }
  for (const auto& s : shapes) bench(s[0], s[1], s[2], s[3], s[4], s[5], s[6], true);
  const auto& s = shapes[0];
  bench(s[0], s[1], s[2], s[3], s[4], s[5], s[6], false);
  return 0;
}
