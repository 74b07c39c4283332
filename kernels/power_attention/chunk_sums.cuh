#pragma once

#include "kernels/common/launch.h"
#include "kernels/power_attention/chunk_sums.h"
#include "kernels/power_attention/config.h"
#include "kernels/power_attention/state.cuh"
#include "kernels/power_attention/supported.h"

// Sums over a chunk's rows of weight * phi(x) u^T: x, u = k, v for the states, q, dY' for their gradients. A block owns
// a slice of one chunk's units, a warp one unit, which stays in its accumulators while the rows stream by. The last
// block of a chunk sums the key products weight * x x^T, 16 rows a warp.
namespace power::kernels {

struct ChunkSumsArgs {
  AttentionArgs attention;
  StridedView x, u;
  FastDivisor group, slices;  // group: rows of a token in x and u; slices: blocks of a (head, chunk)
  StateArrays sums;
  int first_chunk, phi_units;
  bool of_queries;
};

// The rows' weights, rounded as they enter the products.
struct RowWeights {
  uint16_t state[kBlockRows];
  uint16_t keys[kBlockRows];
};

template <int kDim, int kDegree>
struct ChunkSumsShared {
  using Tile = ChunkSumTile<kDim, kDegree>;
  static constexpr int kStageBytes = 2 * Image<kDim>::kBlockBytes;  // x, u
  static constexpr int kWeightOffset = Tile::kStages * kStageBytes;
  static constexpr int kBytes = kWeightOffset + Tile::kStages * static_cast<int>(sizeof(RowWeights));
};

// What a lane loads to find dimensions 8*block0.. and 8*block1.. of 16 rows transposed: block0, rows 0-7 and 8-15,
// block1.
template <int kDim>
POWER_DEVICE uint32_t lane_of_transposed_pair(int block0, int block1, int lane) {
  return Image<kDim>::offset(lane & 15, lane < 16 ? block0 : block1);
}

// The A fragment of 16 dimensions times the rows' weights.
POWER_DEVICE void weight_dimensions(uint32_t (&a)[4], const uint32_t (&t)[4], uint32_t w0, uint32_t w1) {
  a[0] = multiply_bf16x2(t[0], w0);
  a[1] = multiply_bf16x2(t[2], w0);
  a[2] = multiply_bf16x2(t[1], w1);
  a[3] = multiply_bf16x2(t[3], w1);
}

// c += a * rows k0..k0+15 of a tile.
template <int kDim>
POWER_DEVICE void add_dimensions(float (&c)[kDim / 8][4], const uint32_t (&a)[4], uint32_t tile, int k0, int lane) {
  POWER_UNROLL
  for (int n = 0; n < kDim / 16; ++n) {
    uint32_t b[4];
    load_b_mnmajor<kDim>(b, tile, k0, n, lane);
    mma_m16n8k16_bf16(c[2 * n], a, b[0], b[1]);
    mma_m16n8k16_bf16(c[2 * n + 1], a, b[2], b[3]);
  }
}

// The weight of a row in the sums, and (queries) what turns it into that of the key products.
POWER_DEVICE void store_row_weight(RowWeights& weights, const ChunkSumsArgs& args, const HeadIndex& head,
                                   const GateArrays& gates, const Chunk& chunk, int row, int row_end, int at) {
  const AttentionArgs& a = args.attention;
  float weight = 0.0f, delta = -1.0f;
  if (row < row_end && args.of_queries) {
    weight = a.inverse[int64_t{head.head} * a.rows + row];
    delta = a.delta[int64_t{head.head} * a.padded_rows + row];
    if (a.gated) {
      const int token = token_of_row(a, row);
      const float gate = exp2_approx(difference(gates.sum[token], chunk.gates_before(gates)));
      weight = gates.segment[token] < chunk.first_key ? weight * gate : 0.0f;
    }
  } else if (row < row_end) {
    weight = 1.0f;
    if (a.gated) {
      const int last = chunk.end_key - 1;
      const float gate = exp2_approx(difference(gates.sum[last], gates.sum[row]));
      weight = gates.segment[last] <= row ? gate : 0.0f;
    }
  }
  const uint32_t both = pack_bf16(weight, -delta * weight);
  weights.state[at] = static_cast<uint16_t>(both & 0xffffu);
  weights.keys[at] = static_cast<uint16_t>(both >> 16);
}

// Turns four values of each of four neighbouring lanes: value j of lane q becomes value q of lane j.
POWER_DEVICE void transpose_quad(uint32_t (&values)[4], int lane) {
  POWER_UNROLL
  for (int bit = 1; bit < 4; bit *= 2) {
    POWER_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (i & bit) continue;
      uint32_t& low = values[i];
      uint32_t& high = values[i | bit];
      const bool upper = (lane & bit) != 0;
      const uint32_t received = shuffle_xor(upper ? low : high, bit);
      (upper ? low : high) = received;
    }
  }
}

// Writes 16 rows of a warp's accumulators into a block, 16 bytes a lane.
template <int kDim, int kN8>
POWER_DEVICE void store_block_rows(const float (&c)[kN8][4], float factor, uint16_t* block, int row0, int chunk0,
                                   int lane) {
  POWER_UNROLL
  for (int n = 0; n < kN8; n += 4) {
    POWER_UNROLL
    for (int half = 0; half < 2; ++half) {
      uint32_t packed[4];
      POWER_UNROLL
      for (int i = 0; i < 4; ++i) {
        packed[i] = pack_bf16(c[n + i][2 * half] * factor, c[n + i][2 * half + 1] * factor);
      }
      transpose_quad(packed, lane);
      const uint32_t at = Image<kDim>::offset(row0 + 8 * half + lane / 4, chunk0 + n + lane % 4) / 2;
      *reinterpret_cast<uint4*>(block + at) = {packed[0], packed[1], packed[2], packed[3]};
    }
  }
}

template <int kDim, ChunkSum kSum>
POWER_DEVICE void add_up_chunk(const ChunkSumsArgs& args, int head_index, int slice, uint8_t* shared) {
  constexpr int kDegree = kSum == ChunkSum::kDimensions ? 1 : 2;
  using Tile = ChunkSumTile<kDim, kDegree>;
  using Shared = ChunkSumsShared<kDim, kDegree>;
  constexpr bool kPhi = kSum == ChunkSum::kPhi;
  constexpr int kM = kPhi ? Tile::kM : 1, kN8 = (kPhi ? Tile::kColumns : kDim) / 8, kParts = kDim / Tile::kColumns;
  const uint32_t base = shared_address(shared);
  RowWeights* weights = reinterpret_cast<RowWeights*>(shared + Shared::kWeightOffset);
  const AttentionArgs& attention = args.attention;
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const HeadIndex head(attention, head_index);
  const GateArrays gates = head.gates(attention);
  const Chunk chunk(attention, args.first_chunk + static_cast<int>(blockIdx.y));
  const int row_begin = args.of_queries ? chunk.first_row : chunk.first_key;
  const int row_end = args.of_queries ? chunk.end_row : chunk.end_key;
  const int steps = (row_end - row_begin + kBlockRows - 1) / kBlockRows;
  const auto view = [&](const StridedView& x) { return args.of_queries ? head.rows(x, attention) : head.keys(x); };
  const RowView x_view = view(args.x), u_view = view(args.u);

  const auto load_stage = [&](int step) {
    const int slot = step % Tile::kStages, row0 = row_begin + step * kBlockRows;
    const uint32_t tile = base + slot * Shared::kStageBytes;
    if (thread < Tile::kLoadThreads) {
      load_tile_async<kDim, kBlockRows, Tile::kLoadThreads>(tile, x_view, args.group, row0, row_end, attention.head_dim,
                                                            thread);
      if constexpr (kSum != ChunkSum::kKeys) {
        load_tile_async<kDim, kBlockRows, Tile::kLoadThreads>(tile + Image<kDim>::kBlockBytes, u_view, args.group, row0,
                                                              row_end, attention.head_dim, thread);
      }
    }
    const int at = thread - (Tile::kThreads - kBlockRows);
    if (at >= 0) store_row_weight(weights[slot], args, head, gates, chunk, row0 + at, row_end, at);
  };

  const int unit = slice * Tile::kWarps + warp;
  const bool idle = unit >= (kPhi ? args.phi_units : ceil_div(attention.head_dim, 16));
  TileWalk tile_of_unit;
  if constexpr (kPhi) {
    for (int i = 0; i < unit / kParts; ++i) tile_of_unit.next(attention.head_dim / kPhiBlock);
  }
  const uint32_t own_pair = kPhi ? lane_of_transposed_pair<kDim>(tile_of_unit.outer, tile_of_unit.inner, lane)
                                 : lane_of_transposed_pair<kDim>(2 * unit, 2 * unit + 1, lane);
  float sums[kM][kN8][4] = {};
  [[maybe_unused]] float key_sum[4] = {};  // degree 1

  const auto add_rows = [&](uint32_t x_tile, uint32_t u_tile, const RowWeights& row_weights) {
    POWER_ROLLED
    for (int k0 = 0; k0 < kBlockRows; k0 += 16) {
      const uint16_t* w = (kSum == ChunkSum::kKeys ? row_weights.keys : row_weights.state) + k0 + 2 * (lane % 4);
      const uint32_t w0 = *reinterpret_cast<const uint32_t*>(w), w1 = *reinterpret_cast<const uint32_t*>(w + 8);
      if constexpr (!kPhi) {
        uint32_t t[4], a[4];
        ldmatrix_x4_trans(t, x_tile + own_pair + Image<kDim>::rows(k0));
        weight_dimensions(a, t, w0, w1);
        add_dimensions<kDim>(sums[0], a, kSum == ChunkSum::kKeys ? x_tile : u_tile, k0, lane);
        if constexpr (kSum == ChunkSum::kDimensions) {
          const uint32_t* key_weights = reinterpret_cast<const uint32_t*>(row_weights.keys + k0 + 2 * (lane % 4));
          weight_dimensions(a, t, key_weights[0], key_weights[4]);
          constexpr uint32_t kOnes = 0x3f803f80u;
          mma_m16n8k16_bf16(key_sum, a, kOnes, kOnes);
        }
      } else {
        uint32_t t[4];  // outer, inner
        ldmatrix_x4_trans(t, x_tile + own_pair + Image<kDim>::rows(k0));
        // A lane holds dimension lane/4 of the outer block. Its product 16x + 8 odd + lane/4 takes dimension
        // 2 ((lane/8)^x) + odd: that of this lane or the next row's for x = 0, then from 8x lanes away.
        uint32_t outer[2][2];
        POWER_UNROLL
        for (int half = 0; half < 2; ++half) {
          const uint32_t mine = multiply_bf16x2(t[half], half == 0 ? w0 : w1), other = shuffle_xor(mine, 4);
          outer[half][0] = (lane & 4) == 0 ? mine : other;
          outer[half][1] = (lane & 4) == 0 ? other : mine;
        }
        uint32_t a[kM][4];
        POWER_UNROLL
        for (int x = 0; x < kM; ++x) {
          POWER_UNROLL
          for (int odd = 0; odd < 2; ++odd) {
            POWER_UNROLL
            for (int half = 0; half < 2; ++half) {
              const uint32_t i = x == 0 ? outer[half][odd] : shuffle_xor(outer[half][odd], 8 * x);
              a[x][2 * half + odd] = multiply_bf16x2(i, t[2 + half]);
            }
          }
        }
        POWER_UNROLL
        for (int n = 0; n < kN8 / 2; ++n) {
          uint32_t b[4];
          load_b_mnmajor<kDim>(b, u_tile, k0, unit % kParts * (kN8 / 2) + n, lane);
          POWER_UNROLL
          for (int x = 0; x < kM; ++x) {
            mma_m16n8k16_bf16(sums[x][2 * n], a[x], b[0], b[1]);
            mma_m16n8k16_bf16(sums[x][2 * n + 1], a[x], b[2], b[3]);
          }
        }
      }
    }
  };

  for (int step = 0; step < Tile::kStages - 1; ++step) {
    if (step < steps) load_stage(step);
    cp_async_commit();
  }
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<Tile::kStages - 2>();
    sync_block();
    if (step + Tile::kStages - 1 < steps) load_stage(step + Tile::kStages - 1);
    cp_async_commit();
    const int slot = step % Tile::kStages;
    const uint32_t x_tile = base + slot * Shared::kStageBytes;
    if (!idle) add_rows(x_tile, x_tile + Image<kDim>::kBlockBytes, weights[slot]);
  }
  if (idle) return;

  const int64_t slot = int64_t{head.head} * attention.chunks + chunk.index;
  uint16_t* image = args.sums.images + slot * image_blocks(kDim, attention.head_dim, kDegree) * block_elements(kDim);
  float* keys = args.sums.keys + slot * key_products(kDim, kDegree);
  if constexpr (kSum == ChunkSum::kPhi) {
    const float factor = tile_of_unit.outer == tile_of_unit.inner ? 1.0f : 2.0f;
    POWER_UNROLL
    for (int x = 0; x < kM; ++x) {
      store_block_rows<kDim>(sums[x], factor, image + unit / kParts * block_elements(kDim), 16 * x, unit % kParts * kN8,
                             lane);
    }
  } else if constexpr (kSum == ChunkSum::kKeys) {
    POWER_UNROLL
    for (int n = 0; n < kDim / 8; ++n) {
      POWER_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = 16 * unit + 8 * half + lane / 4;
        float* out = keys + Image<kDim>::offset(row, n) / 2 + 2 * (lane % 4);
        out[0] = sums[0][n][2 * half];
        out[1] = sums[0][n][2 * half + 1];
      }
    }
  } else {
    store_block_rows<kDim>(sums[0], 1.0f, image, 16 * unit, 0, lane);
    if (lane % 4 == 0) {
      keys[16 * unit + lane / 4] = key_sum[0];
      keys[16 * unit + 8 + lane / 4] = key_sum[2];
    }
  }
}

template <int kDim, int kDegree>
__global__ void __launch_bounds__(ChunkSumTile<kDim, kDegree>::kThreads, ChunkSumTile<kDim, kDegree>::kBlocks)
    chunk_sums_kernel(const __grid_constant__ ChunkSumsArgs args) {
  POWER_SHARED_MEMORY(shared);
  const int head = divide(blockIdx.x, args.slices), slices = static_cast<int>(args.slices.divisor);
  const int slice = static_cast<int>(blockIdx.x) - head * slices;
  if constexpr (kDegree == 1) {
    add_up_chunk<kDim, ChunkSum::kDimensions>(args, head, slice, shared);
  } else if (slice + 1 < slices) {
    add_up_chunk<kDim, ChunkSum::kPhi>(args, head, slice, shared);
  } else {
    add_up_chunk<kDim, ChunkSum::kKeys>(args, head, 0, shared);
  }
}

template <int kDim, int kDegree>
void run_chunk_sums(ChunkSumsArgs args, int first, int end, void* stream) {
  if (first >= end) return;
  using Tile = ChunkSumTile<kDim, kDegree>;
  args.first_chunk = first;
  args.phi_units = kDegree == 1 ? 0 : args.attention.state_tiles * (kDim / Tile::kColumns);
  const int slices = ceil_div(args.phi_units, Tile::kWarps) + 1;
  args.slices = FastDivisor(slices);
  const dim3 grid(args.attention.batch * args.attention.kv_heads.divisor * slices, end - first);
  launch(chunk_sums_kernel<kDim, kDegree>, "chunk_sums_kernel", grid, Tile::kThreads,
         ChunkSumsShared<kDim, kDegree>::kBytes, stream, args);
}

template <int kDim, int kDegree>
void run_chunk_states(const AttentionArgs& args, int first, int end, void* stream) {
  run_chunk_sums<kDim, kDegree>({args, args.k, args.v, FastDivisor(), {}, args.states, 0, 0, false}, first, end,
                                stream);
}

template <int kDim, int kDegree>
void run_chunk_dstates(const AttentionArgs& args, int first, int end, void* stream) {
  run_chunk_sums<kDim, kDegree>({args, args.q, args.dy, args.group, {}, args.dstates, 0, 0, true}, first, end, stream);
}

}  // namespace power::kernels
