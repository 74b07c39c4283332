#pragma once

// The one list of compiled float32 kernels: instantiation, dispatch, error text and the test grid expand it. The degree
// is a run-time value everywhere; a head dim that is a multiple of 8 runs on the next compiled one, filled up with
// zeros.

#define POWER_ATTENTION_FLOAT32_HEAD_DIMS(X) X(32) X(64) X(128)
// Largest head dim of the chunked form and of states, by degree: what a state costs bounds it.
#define POWER_ATTENTION_FLOAT32_STATE_DEGREES(X) X(1, 128) X(2, 128) X(3, 32) X(4, 32)

namespace power::kernels::float32 {

// Largest head dim with a state of this degree; 0 where there is none.
constexpr int largest_state_head_dim(int degree) {
#define POWER_DEGREE(with_state, head_dim) \
  if (degree == with_state) return head_dim;
  POWER_ATTENTION_FLOAT32_STATE_DEGREES(POWER_DEGREE)
#undef POWER_DEGREE
  return 0;
}

}  // namespace power::kernels::float32
