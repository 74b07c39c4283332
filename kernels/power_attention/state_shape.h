#pragma once

#include <cstdint>

#include "kernels/common/device.h"

// Sizes of the states inside the kernels; docs/kernels.md has the layout.
namespace power::kernels {

inline constexpr int kPhiBlock = 8;  // phi pairs blocks of 8 dimensions: 64 rows of a state a pair of blocks

// A state is cut into blocks of 64 rows x kDim; blocks that hold one row a dimension.
POWER_HOST_DEVICE constexpr int dimension_blocks(int dim) { return (dim + 63) / 64; }

// Blocks of the state itself. `dim` is the compiled head dim, `head_dim` the problem's.
POWER_HOST_DEVICE constexpr int state_tiles(int dim, int head_dim, int degree) {
  const int blocks = head_dim / kPhiBlock;
  return degree == 1 ? dimension_blocks(dim) : blocks * (blocks + 1) / 2;
}

// Blocks of an image: the state and, for degree 2, the key products in two bf16 parts.
POWER_HOST_DEVICE constexpr int image_blocks(int dim, int head_dim, int degree) {
  return state_tiles(dim, head_dim, degree) + (degree == 1 ? 0 : 2 * dimension_blocks(dim));
}

POWER_HOST_DEVICE constexpr int64_t block_elements(int dim) { return int64_t{64} * dim; }

// float32 key products of a state.
POWER_HOST_DEVICE constexpr int64_t key_products(int dim, int degree) { return degree == 1 ? dim : int64_t{dim} * dim; }

}  // namespace power::kernels
