#pragma once

// Reads and writes of global memory that blocks of one launch share.

#include "kernels/common/ptx.cuh"

namespace power::kernels {

#if !defined(POWER_EMULATE)

// Reads past the first-level cache: for data that is read once, and for what other blocks of this launch have written.
POWER_DEVICE uint4 load_through(const uint4* address) { return __ldcg(address); }
POWER_DEVICE float load_through(const float* address) { return __ldcg(address); }

// Other blocks see everything written before it no later than anything written after it.
POWER_DEVICE void fence_device() { __threadfence(); }
POWER_DEVICE int atomic_add(int* address, int value) { return atomicAdd(address, value); }

#else  // blocks run one after the other

inline uint4 load_through(const uint4* address) { return *address; }
inline float load_through(const float* address) { return *address; }
inline void fence_device() {}
inline int atomic_add(int* address, int value) {
  const int before = *address;
  *address += value;
  return before;
}

#endif

}  // namespace power::kernels
