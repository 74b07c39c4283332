#pragma once

#include <cstddef>

namespace power::kernels {

// Bytes of shared memory of a block, of that kernel of a head dim which takes most; with states the chunked form, and
// initial and final states. The launches take theirs from the same constants (shared_memory.cuh). For
// POWER_ATTENTION_HEAD_DIMS.
template <int kDim>
size_t power_attention_shared_bytes(bool states);

}  // namespace power::kernels
