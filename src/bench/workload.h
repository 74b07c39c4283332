#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bench/operator_shape.h"

// What `bench operator` runs: power attention, and LibTorch's softmax attention on the same shapes.
namespace power::bench {

enum class Attention { kPower, kCudnn, kFlash };
const char* attention_name(Attention attention);  // "power", "softmax cuDNN", "softmax flash"

struct Work {
  double flop = 0;   // useful: see kWorkText
  double bytes = 0;  // every input read and every output written once
};

inline constexpr const char* kWorkText =
    "FLOP: 4 D forward and 10 D backward a visible pair, states of the chunked form 2 F D (1 + 1/R) and twice that;\n"
    "bytes: every input and output once";

struct Workload {
  std::string what;  // the attention, for power with its form: "power quadratic", "power chunk 1024"
  std::function<at::Tensor()> forward;
  std::vector<at::Tensor> inputs;  // which take gradients
  at::Tensor dy;
  Work forward_work, backward_work;
};

// bf16 on a GPU, float32 on a CPU. chunk_size as in ops::power_attention; softmax takes no gates.
Workload make_workload(const OperatorShape& shape, Attention attention, bool gated, std::optional<int64_t> chunk_size,
                       at::Device device);

// bf16 on a GPU, float32 on a CPU.
at::TensorOptions workload_options(at::Device device);

}  // namespace power::bench
