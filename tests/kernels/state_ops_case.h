#pragma once

#include <string>

#include "tests/kernels/attention_case.h"

// The parts of the chunked form as functions of their own (power_attention_float32/state_ops.h) against double loops.
namespace power::kernels::testing {

struct StateOpsCase {
  int batch = 1, tokens = 0, kv_heads = 1, group = 1, head_dim = 8, degree = 2, chunk = 0;
  Gates gates = Gates::kNone;  // kNone, kMild or kSegments
  double scale = 0.3;

  std::string name() const;
};

// Runs update_state and query_state, forward and backward.
CaseResult run_state_ops_case(Device& device, const StateOpsCase& c);

// Runs discounted_sum, forward and backward, over `chunks` chunks of `elements` elements.
CaseResult run_discounted_sum_case(Device& device, int batch, int chunks, int heads, int elements, bool full);

}  // namespace power::kernels::testing
