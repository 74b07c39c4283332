#pragma once

#include "kernels/power_attention/power_attention.h"

// The functions of power_attention.h for float32.
namespace power::kernels::float32 {

const char* unsupported_reason(const AttentionShape& shape);
size_t shared_memory_bytes(const AttentionShape& shape);
size_t row_stats_floats(const AttentionShape& shape);
size_t saved_states_bytes(const AttentionShape& shape, bool has_initial);
size_t forward_workspace_bytes(const ForwardParams& params);
size_t backward_workspace_bytes(const BackwardParams& params);
void forward(const ForwardParams& params);
void backward(const BackwardParams& params);

}  // namespace power::kernels::float32
