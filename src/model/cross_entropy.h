#pragma once

#include <torch/types.h>

#include <cstdint>

#include "model/linear.h"

namespace power::model {

// Sum over rows of the cross entropy of softmax(hidden @ W^T) against targets.
//   hidden (N,C) in the parameters' dtype, head.weight (V,C), targets (N) int64 -> scalar in the parameters' dtype
// The products run in the dtype of head.cast. Logits exist for one chunk of rows at a time, and the gradients are taken
// in the same pass, so the peak is one chunk of logits plus the gradients of hidden and W. The idea is that of Liger
// Kernel's fused linear cross entropy (Hsu et al. 2024, arXiv 2410.10989).
// rows_per_chunk: 0 chooses by device.
torch::Tensor cross_entropy_sum(const torch::Tensor& hidden, const Affine& head, const torch::Tensor& targets,
                                int64_t rows_per_chunk = 0);

}  // namespace power::model
