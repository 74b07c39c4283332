#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <optional>
#include <string>

namespace power::train {

// "auto" (the first GPU, else the CPU), "cpu", "cuda" or "cuda:N". Throws Error(kUsage) where there is no such device.
torch::Device choose_device(const std::string& name);
// "float32", "bfloat16" or "float16".
torch::Dtype parse_dtype(const std::string& name);
// Seeds every generator; `deterministic` also makes LibTorch choose deterministic algorithms.
void seed_everything(int64_t seed, bool deterministic);

// What the device is called, e.g. "NVIDIA H200" or "CPU, 2 threads".
std::string device_name(torch::Device device);
// Dense matrix-product rate of the device by its data sheet, FLOP/s; nullopt where it is not known.
std::optional<double> peak_flops(torch::Device device, torch::Dtype dtype);
// Most memory in use so far, bytes: the caching allocator's reserved memory on a GPU, the process's resident set on a
// CPU.
int64_t peak_memory_bytes(torch::Device device);
void synchronize(torch::Device device);

}  // namespace power::train
