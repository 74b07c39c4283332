#pragma once

// The one list of compiled kernels: instantiation, dispatch, error text and the test grid expand it.
//
// A head dim of 16..128 that is a multiple of 8 runs on the next compiled one, filled up with zeros by the loader.
// Degree 0 stands for "any": the degree is then a run-time value, with each query row scaled by a power of two so that
// high powers stay in range.

#define POWER_ATTENTION_HEAD_DIMS(X) X(32) X(64) X(128)
#define POWER_ATTENTION_DEGREES(X, head_dim) X(head_dim, 1) X(head_dim, 2) X(head_dim, 0)
// With states: the chunked form, initial and final states.
#define POWER_ATTENTION_STATE_DEGREES(X, head_dim) X(head_dim, 1) X(head_dim, 2)
// Decode: degrees with a state.
#define POWER_ATTENTION_DECODE_DEGREES(X, head_dim) X(head_dim, 1) X(head_dim, 2)

namespace power::kernels {

inline constexpr int kAnyDegree = 0;
inline constexpr int kMaxHeadDim = 128;
inline constexpr int kMaxDegree = 16;  // 128^16 is still a float32; the row scaling bounds a score by the head dim

}  // namespace power::kernels
