#pragma once

#include "kernels/power_attention/args.h"

// What the float32 kernels receive. Sizes, gates and row statistics are those of the bf16 family, whose kernels for
// gates work on them; rows, tiles and chunks mean the same.
namespace power::kernels::float32 {

struct View {
  float* data;
  int64_t batch, token, head;
};

// An index tuple i1 <= ... <= ip of phi: i_n is byte n-1; and how many orders of the indices it stands for.
struct alignas(8) Feature {
  uint32_t indices;
  float multiplicity;
};

inline constexpr int kFeaturePadding = 64;  // entries of the table of features: a multiple, the last ones (0, 0)

// States of all chunks, sym-lex/1: head_dim numbers a feature, and key sums, one a feature. Strides count states.
struct States {
  float* sums;
  float* keys;
  int64_t batch, head, chunk;
};

// States at the interface; null where there is none.
struct OutsideStates {
  const float *in_state, *in_keys;  // before the first key; backward: gradient after the last one
  float *out_state, *out_keys;      // after the last key; backward: gradient before the first one
};

struct Args {
  AttentionArgs attention;  // its views, states and dy_rows are not used
  View q, k, v, y, dy, dq, dk, dv;
  const float* dl;          // gradient of l, (batch, kv head, rows), or null
  const Feature* features;  // null where there are no states
  int feature_count;
  States states;   // the state before each chunk
  States dstates;  // the gradient of the state after each chunk
};

}  // namespace power::kernels::float32
