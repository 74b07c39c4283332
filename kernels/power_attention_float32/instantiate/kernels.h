#pragma once

#include <algorithm>

#include "kernels/power_attention_float32/bwd_dkdv.cuh"
#include "kernels/power_attention_float32/bwd_dq.cuh"
#include "kernels/power_attention_float32/chunk_sums.cuh"
#include "kernels/power_attention_float32/fwd.cuh"
#include "kernels/power_attention_float32/state_rows.cuh"
#include "kernels/power_attention_float32/supported.h"

namespace power::kernels::float32 {

template <int kDim>
size_t most_shared_bytes() {
  return std::max({sizeof(ForwardShared<kDim>), sizeof(QueryGradientShared<kDim>), sizeof(KeyGradientShared<kDim>),
                   sizeof(ChunkSumsShared<kDim>), StateRowsShared<kDim>::bytes(true)});
}

}  // namespace power::kernels::float32

// The kernels of one head dim; used inside namespace power::kernels::float32.
#define POWER_INSTANTIATE(head_dim)                                  \
  template void run_forward<head_dim>(Args, void*);                  \
  template void run_backward_dq<head_dim>(Args, void*);              \
  template void run_backward_dkdv<head_dim>(Args, void*);            \
  template void run_chunk_sums<head_dim>(ChunkSumsArgs, int, void*); \
  template void run_state_rows<head_dim>(StateRowsArgs, int, void*); \
  template size_t most_shared_bytes<head_dim>();
