#include "ops/composed/low_level.h"

#include <torch/library.h>

// CUDA key of the low-level operators: the composed forms.
TORCH_LIBRARY_IMPL(power_attention, CUDA, m) {
  using namespace power::ops;
  m.impl("attention", composed::attention);
  m.impl("attention_backward", composed::attention_backward);
  m.impl("update_state", composed::update_state);
  m.impl("update_state_backward", composed::update_state_backward);
  m.impl("discumsum", composed::discumsum);
  m.impl("discumsum_backward", composed::discumsum_backward);
  m.impl("query_state", composed::query_state);
  m.impl("query_state_backward", composed::query_state_backward);
}
