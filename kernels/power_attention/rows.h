#pragma once

#include "kernels/power_attention/args.h"

// The small kernels around the tile products; each reads or writes every token or row once.
namespace power::kernels {

// gates.sum, gates.segment, gates.key_decay from log_g.
void run_gate_sums(const AttentionArgs& args, void* stream);
// key_max from k.
void run_key_max(const AttentionArgs& args, void* stream);
// row_weight, delta and (layer) dy_rows from y, dy, r and the gates.
void run_backward_rows(const AttentionArgs& args, void* stream);
// dlog_g from row_dot, key_dot and, in the chunked form, key_state_dot and state_dot.
void run_gate_gradient(const AttentionArgs& args, void* stream);

}  // namespace power::kernels
