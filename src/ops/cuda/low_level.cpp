#include "ops/cuda/low_level.h"

#include <torch/library.h>

// CUDA key of the low-level operators.
TORCH_LIBRARY_IMPL(power_attention, CUDA, m) {
  using namespace power::ops;
  m.impl("attention", cuda::attention);
  m.impl("attention_backward", cuda::attention_backward);
  m.impl("update_state", cuda::update_state);
  m.impl("update_state_backward", cuda::update_state_backward);
  m.impl("discumsum", cuda::discumsum);
  m.impl("discumsum_backward", cuda::discumsum_backward);
  m.impl("query_state", cuda::query_state);
  m.impl("query_state_backward", cuda::query_state_backward);
}
