#pragma once

#include "kernels/power_attention/attention_tile.cuh"
#include "kernels/power_attention/state_shape.h"

// States inside the chunked form, and the products of a warp's rows with them.
//
// Degree 2: phi is cut into tiles of 64 products x_i x_j, i from a block of 8 dimensions (outer), j from a block that
// is not before it (inner). Row 16*((j>>1)^(i>>1)) + 8*(i&1) + j of the tile holds the product of i and j: then a lane
// finds both factors of its part of an A fragment in the fragments of the rows themselves, one of them after a shuffle
// over the four lanes of a row. Off the diagonal both orders of a product are one tile, which weighs 2: the factor is
// in the state. Degree 1: a state's row is a dimension.
namespace power::kernels {

// Chunk `index`, its keys and the query rows that stand in it.
struct Chunk {
  int index, first_key, end_key, first_row, end_row;

  POWER_DEVICE Chunk(const AttentionArgs& args, int chunk) : index(chunk) {
    const int group = static_cast<int>(args.group.divisor);
    first_key = chunk * args.chunk;
    end_key = args.keys - first_key < args.chunk ? args.keys : first_key + args.chunk;
    first_row = first_key > args.first_key ? (first_key - args.first_key) * group : 0;
    end_row = end_key > args.first_key ? (end_key - args.first_key) * group : 0;
  }
  // The running gates just before the chunk's first token.
  POWER_DEVICE FloatPair gates_before(const GateArrays& gates) const {
    return first_key > 0 ? gates.sum[first_key - 1] : FloatPair{0.0f, 0.0f};
  }
  POWER_DEVICE bool has_state(const AttentionArgs& args) const {
    return args.states.images != nullptr && (index > 0 || args.has_initial);
  }
  POWER_DEVICE bool has_dstate(const AttentionArgs& args) const {
    return args.dstates.images != nullptr && (index + 1 < args.chunks || args.has_final);
  }
};

template <int kDim, int kDegree>
POWER_DEVICE const uint16_t* state_image(const AttentionArgs& args, const StateArrays& states, int head, int chunk) {
  return states.images +
         (int64_t{head} * args.chunks + chunk) * image_blocks(kDim, args.head_dim, kDegree) * block_elements(kDim);
}

template <int kDim, int kDegree>
POWER_DEVICE float* state_keys(const AttentionArgs& args, const StateArrays& states, int head, int chunk) {
  return states.keys + (int64_t{head} * args.chunks + chunk) * key_products(kDim, kDegree);
}

// The tiles of phi in the order of an image.
struct TileWalk {
  int outer = 0, inner = 0;
  POWER_DEVICE void next(int blocks) {
    if (++inner == blocks) inner = ++outer;
  }
};

// Copies blocks 2*pair and 2*pair+1 of an image into one stage.
template <int kDim, int kThreads>
POWER_DEVICE void load_state_pair(uint32_t stage, const uint16_t* image, int pair, int blocks, int thread) {
  constexpr int kPieces = Image<kDim>::kBlockBytes / 16;
  static_assert(kPieces % kThreads == 0);
  const int first = again(thread);
  const uint16_t* source = image + 2 * pair * block_elements(kDim) + 8 * first;
  POWER_UNROLL
  for (int block = 0; block < 2; ++block) {
    if (2 * pair + block == blocks) break;
    POWER_UNROLL
    for (int piece = block * kPieces; piece < (block + 1) * kPieces; piece += kThreads) {
      cp_async_16(stage + 16 * (piece + first), source + 8 * piece, true);
    }
  }
}

// The stage that holds the first pair of an image: the stages alternate so that what follows the image begins in stage
// 0.
POWER_DEVICE int first_state_stage(int blocks) { return (blocks + 1) / 2 % 2; }

// Calls use(block, shared address) for every block of an image. The first pair has landed and is visible; `tail` starts
// the copies that follow while the last blocks are in use. Ends without waiting for other warps.
template <int kDim, int kThreads, class Use, class Tail>
POWER_DEVICE void stream_state(uint32_t stages, const uint16_t* image, int blocks, int thread, const Use& use,
                               const Tail& tail) {
  constexpr int kStageBytes = 2 * Image<kDim>::kBlockBytes;
  const int pairs = (blocks + 1) / 2;
  POWER_ROLLED
  for (int pair = 0; pair < pairs; ++pair) {
    if (pair > 0) {
      cp_async_wait<0>();
      sync_block();
    }
    const int stage = (pairs - pair) % 2;
    if (pair + 1 < pairs) {
      load_state_pair<kDim, kThreads>(stages + (stage ^ 1) * kStageBytes, image, pair + 1, blocks, thread);
    } else {
      tail();
    }
    cp_async_commit();
    POWER_ROLLED
    for (int block = 2 * pair; block < 2 * pair + 2 && block < blocks; ++block) {
      use(block, stages + stage * kStageBytes + block % 2 * Image<kDim>::kBlockBytes);
    }
  }
}

template <int kDim, int kDegree, int kThreads>
POWER_DEVICE void load_first_pair(uint32_t stages, const AttentionArgs& args, const StateArrays& states, int head,
                                  int chunk, int thread) {
  const int blocks = image_blocks(kDim, args.head_dim, kDegree);
  load_state_pair<kDim, kThreads>(stages + first_state_stage(blocks) * 2 * Image<kDim>::kBlockBytes,
                                  state_image<kDim, kDegree>(args, states, head, chunk), 0, blocks, thread);
}

// Elements 8*block + 2*(lane%4), +1 of rows lane/4 and lane/4 + 8 of each 16: what an A fragment holds of a block.
template <int kDim, int kM>
POWER_DEVICE void load_pairs(uint32_t (&pairs)[kM][2], const uint8_t* tile, int row0, int block, int lane) {
  const uint8_t* own = tile + Image<kDim>::offset(row0 + lane / 4, block) + 4 * (lane % 4);
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    POWER_UNROLL
    for (int half = 0; half < 2; ++half) {
      pairs[m][half] = *reinterpret_cast<const uint32_t*>(own + Image<kDim>::rows(16 * m + 8 * half));
    }
  }
}

// The pair that the lane holds of block n8 of its rows, out of the rows' A fragments.
template <int kM, int kK16>
POWER_DEVICE uint32_t pair_of(const uint32_t (&rows)[kM][kK16][4], int m, int n8, int half) {
  return rows[m][n8 / 2][n8 % 2 * 2 + half];
}

// The outer block's pairs of the lane x steps away.
template <int kM>
POWER_DEVICE void rotate_pairs(uint32_t (&rotated)[kM][2], const uint32_t (&outer)[kM][2], int x) {
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    POWER_UNROLL
    for (int half = 0; half < 2; ++half) {
      rotated[m][half] = x == 0 ? outer[m][half] : shuffle_xor(outer[m][half], x);
    }
  }
}

// A fragments of phi: products 16*x.. of a tile.
template <int kM>
POWER_DEVICE void phi_fragment(uint32_t (&a)[kM][1][4], const uint32_t (&rotated)[kM][2],
                               const uint32_t (&inner)[kM][2]) {
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    POWER_UNROLL
    for (int half = 0; half < 2; ++half) {
      a[m][0][half] = multiply_bf16x2(repeat_low(rotated[m][half]), inner[m][half]);
      a[m][0][2 + half] = multiply_bf16x2(repeat_high(rotated[m][half]), inner[m][half]);
    }
  }
}

// With dphi = G S^T for products 16*x.. of one tile S, the derivative of phi applied to it: `inner_sum` for the rows'
// inner block, and in `outer_sum` what flush_outer turns into the same for the outer one.
template <int kM, class Operand>
POWER_DEVICE void contract_phi(float (&inner_sum)[kM][4], float (&outer_sum)[kM][4], const Operand& g,
                               const uint32_t (&rotated)[kM][2], const uint32_t (&inner)[kM][2], uint32_t block, int x,
                               int lane) {
  float dphi[kM][2][4] = {};
  g.multiply(dphi, block, 16 * x, lane);
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    POWER_UNROLL
    for (int half = 0; half < 2; ++half) {
      const float j0 = bf16_low(inner[m][half]), j1 = bf16_high(inner[m][half]);
      POWER_UNROLL
      for (int odd = 0; odd < 2; ++odd) {
        const float i = odd ? bf16_high(rotated[m][half]) : bf16_low(rotated[m][half]);
        const float d0 = dphi[m][odd][2 * half], d1 = dphi[m][odd][2 * half + 1];
        inner_sum[m][2 * half] = fmaf(d0, i, inner_sum[m][2 * half]);
        inner_sum[m][2 * half + 1] = fmaf(d1, i, inner_sum[m][2 * half + 1]);
        float& outer = outer_sum[m][2 * half + odd];
        outer = fmaf(d0, j0, fmaf(d1, j1, outer));
      }
    }
  }
}

template <int kM>
POWER_DEVICE void flush_outer(float (&sum)[kM][4], float (&outer_sums)[4][kM][4]) {
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    POWER_UNROLL
    for (int i = 0; i < 4; ++i) {
      sum[m][i] = outer_sums[0][m][i];
      outer_sums[0][m][i] = 0.0f;
      POWER_UNROLL
      for (int x = 1; x < 4; ++x) {
        sum[m][i] += shuffle_xor(outer_sums[x][m][i], x);
        outer_sums[x][m][i] = 0.0f;
      }
    }
  }
}

// A thread's own accumulators by block of 8 columns, where the block is known at run time only.
template <int kDim, int kM, int kThreads>
class BlockSums {
 public:
  static constexpr int kBytes = kDim / 8 * kM * kThreads * 16;

  POWER_DEVICE BlockSums(uint8_t* memory, int thread) : own_(reinterpret_cast<Four*>(memory) + thread) {
    POWER_UNROLL
    for (int i = 0; i < kDim / 8 * kM; ++i) own_[i * kThreads] = {};
  }
  POWER_DEVICE void add(int block, const float (&sum)[kM][4], float factor) {
    POWER_UNROLL
    for (int m = 0; m < kM; ++m) {
      Four four = own_[(block * kM + m) * kThreads];
      POWER_UNROLL
      for (int i = 0; i < 4; ++i) four.value[i] = fmaf(sum[m][i], factor, four.value[i]);
      own_[(block * kM + m) * kThreads] = four;
    }
  }
  POWER_DEVICE float get(int m, int block, int i) const { return own_[(block * kM + m) * kThreads].value[i]; }

 private:
  struct alignas(16) Four {
    float value[4];
  };
  Four* own_;
};

// Half the gradient of the rows through phi (that of degree 2 is 2 x times it), one tile after the other.
template <int kDim, int kM, int kThreads>
class PhiGradient {
 public:
  POWER_DEVICE PhiGradient(uint8_t* memory, int thread) : sums_(memory, thread) {}

  // The next tile; with_phi(x, rotated, inner) is called for each 16 products of it.
  template <class Operand, class WithPhi>
  POWER_DEVICE void contract(const uint8_t* rows, int row0, const Operand& g, uint32_t block, int blocks, int lane,
                             const WithPhi& with_phi) {
    uint32_t inner[kM][2];
    load_pairs<kDim>(inner, rows, row0, walk_.inner, lane);
    if (walk_.inner == walk_.outer) {
      POWER_UNROLL
      for (int x = 0; x < 4; ++x) rotate_pairs<kM>(outer_[x], inner, x);
    }
    float sum[kM][4] = {};
    POWER_UNROLL
    for (int x = 0; x < 4; ++x) {
      with_phi(x, outer_[x], inner);
      contract_phi<kM>(sum, outer_sums_[x], g, outer_[x], inner, block, x, lane);
    }
    sums_.add(walk_.inner, sum, 0.5f);
    const int outer = walk_.outer;
    walk_.next(blocks);
    if (walk_.outer == outer) return;
    flush_outer<kM>(sum, outer_sums_);
    sums_.add(outer, sum, 0.5f);
  }
  // Adds rows * block, where the block holds rows 64*part.. of the key products.
  template <class Operand>
  POWER_DEVICE void add_key_products(const Operand& rows, uint32_t block, int part, const float (&factor)[kM][2],
                                     int lane) {
    constexpr int kParts = dimension_blocks(kDim), kSteps = kDim / 16 / kParts;
    POWER_ROLLED
    for (int n = 0; n < kDim / 16; ++n) {
      float product[kM][2][4] = {}, left[kM][4], right[kM][4];
      POWER_UNROLL
      for (int k = 0; k < kSteps; ++k) {
        uint32_t b[4], a[kM][1][4];
        rows.fragment_of(a, part * kSteps + k, lane);
        load_b_mnmajor<kDim>(b, block, 16 * k, n, lane);
        POWER_UNROLL
        for (int m = 0; m < kM; ++m) {
          mma_m16n8k16_bf16(product[m][0], a[m][0], b[0], b[1]);
          mma_m16n8k16_bf16(product[m][1], a[m][0], b[2], b[3]);
        }
      }
      POWER_UNROLL
      for (int m = 0; m < kM; ++m) {
        POWER_UNROLL
        for (int i = 0; i < 4; ++i) {
          left[m][i] = product[m][0][i] * factor[m][i / 2];
          right[m][i] = product[m][1][i] * factor[m][i / 2];
        }
      }
      sums_.add(2 * n, left, 1.0f);
      sums_.add(2 * n + 1, right, 1.0f);
    }
  }
  POWER_DEVICE void get(float (&c)[kM][kDim / 8][4]) const {
    POWER_UNROLL
    for (int m = 0; m < kM; ++m) {
      POWER_UNROLL
      for (int n = 0; n < kDim / 8; ++n) {
        POWER_UNROLL
        for (int i = 0; i < 4; ++i) c[m][n][i] = sums_.get(m, n, i);
      }
    }
  }

 private:
  TileWalk walk_;
  uint32_t outer_[4][kM][2];
  float outer_sums_[4][kM][4] = {};
  BlockSums<kDim, kM, kThreads> sums_;
};

// c += rows * block, where the block holds rows 64*part.. of a (kDim, kDim) matrix.
template <int kDim, int kM, class Operand>
POWER_DEVICE void multiply_dimensions(float (&c)[kM][kDim / 8][4], const Operand& rows, uint32_t block, int part,
                                      int lane) {
  constexpr int kParts = dimension_blocks(kDim), kSteps = kDim / 16 / kParts;
  POWER_UNROLL
  for (int p = 0; p < kParts; ++p) {
    if (part != p) continue;
    POWER_UNROLL
    for (int k = 0; k < kSteps; ++k) {
      uint32_t a[kM][1][4];
      rows.fragment_of(a, p * kSteps + k, lane);
      multiply_mnmajor<kDim>(c, a, block, 16 * k, lane);
    }
  }
}

// c += rows * block^T: columns 64*part.. of the result.
template <int kDim, int kM, class Operand>
POWER_DEVICE void multiply_dimensions_transposed(float (&c)[kM][kDim / 8][4], const Operand& rows, uint32_t block,
                                                 int part, int lane) {
  constexpr int kParts = dimension_blocks(kDim), kColumns = kDim / 16 / kParts;
  POWER_UNROLL
  for (int p = 0; p < kParts; ++p) {
    if (part != p) continue;
    POWER_UNROLL
    for (int n = 0; n < kColumns; ++n) {
      float sum[kM][2][4] = {};
      rows.multiply(sum, block, 16 * n, lane);
      POWER_UNROLL
      for (int m = 0; m < kM; ++m) {
        POWER_UNROLL
        for (int i = 0; i < 4; ++i) {
          c[m][2 * (p * kColumns + n)][i] += sum[m][0][i];
          c[m][2 * (p * kColumns + n) + 1][i] += sum[m][1][i];
        }
      }
    }
  }
}

template <int kDim, int kM>
POWER_DEVICE void scale(float (&c)[kM][kDim / 8][4], float factor) {
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    POWER_UNROLL
    for (int n = 0; n < kDim / 8; ++n) {
      POWER_UNROLL
      for (int i = 0; i < 4; ++i) c[m][n][i] *= factor;
    }
  }
}

// Adds x[8c + 2*(lane%4), +1] * factor[m][half] to every row's columns.
template <int kDim, int kM>
POWER_DEVICE void add_outer(float (&c)[kM][kDim / 8][4], const float (&factor)[kM][2], const float* x, int lane) {
  POWER_UNROLL
  for (int n = 0; n < kDim / 8; ++n) {
    const float x0 = x[8 * n + 2 * (lane % 4)], x1 = x[8 * n + 2 * (lane % 4) + 1];
    POWER_UNROLL
    for (int m = 0; m < kM; ++m) {
      POWER_UNROLL
      for (int half = 0; half < 2; ++half) {
        c[m][n][2 * half] = fmaf(x0, factor[m][half], c[m][n][2 * half]);
        c[m][n][2 * half + 1] = fmaf(x1, factor[m][half], c[m][n][2 * half + 1]);
      }
    }
  }
}

// dot += the rows' products with c.
template <int kDim, int kM>
POWER_DEVICE void add_dots(float (&dot)[kM][2], const float (&c)[kM][kDim / 8][4], const uint8_t* rows, int row0,
                           int lane) {
  POWER_UNROLL
  for (int n = 0; n < kDim / 8; ++n) {
    uint32_t pairs[kM][2];
    load_pairs<kDim>(pairs, rows, row0, n, lane);
    POWER_UNROLL
    for (int m = 0; m < kM; ++m) {
      POWER_UNROLL
      for (int half = 0; half < 2; ++half) {
        dot[m][half] = fmaf(c[m][n][2 * half], bf16_low(pairs[m][half]), dot[m][half]);
        dot[m][half] = fmaf(c[m][n][2 * half + 1], bf16_high(pairs[m][half]), dot[m][half]);
      }
    }
  }
}

}  // namespace power::kernels
