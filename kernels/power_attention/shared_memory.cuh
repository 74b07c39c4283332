#pragma once

#include <algorithm>

#include "kernels/power_attention/bwd_dkdv.cuh"
#include "kernels/power_attention/bwd_dq.cuh"
#include "kernels/power_attention/chunk_sums.cuh"
#include "kernels/power_attention/fwd.cuh"
#include "kernels/power_attention/shared_memory.h"

namespace power::kernels {

template <int kDim>
size_t power_attention_shared_bytes(bool states) {
  if (!states) {
    return std::max({ForwardShared<kDim>::kBytes, QueryGradientShared<kDim>::kBytes, KeyGradientShared<kDim>::kBytes});
  }
  return std::max({ForwardShared<kDim>::kBytes, QueryGradientShared<kDim>::kChunkedBytes,
                   KeyGradientShared<kDim>::kChunkedBytes, ChunkSumsShared<kDim, 1>::kBytes,
                   ChunkSumsShared<kDim, 2>::kBytes});
}

}  // namespace power::kernels
