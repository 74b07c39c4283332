#pragma once

#include "kernels/common/launch.h"
#include "kernels/power_attention/config.h"
#include "kernels/power_attention/fwd.h"
#include "kernels/power_attention/query_loop.cuh"
#include "kernels/power_attention/row_math.cuh"
#include "kernels/power_attention/supported.h"

namespace power::kernels {

template <int kDim>
struct ForwardShared {
  using Tile = QueryTile<kDim>;
  using Loop = KeyLoop<kDim, Tile::kThreads>;
  static constexpr int kRowBytes = Tile::kRows / kBlockRows * Image<kDim>::kBlockBytes;
  static constexpr int kStagesBytes = Loop::kStages * Loop::kStageBytes;
  static constexpr int kRowOffset = kStagesBytes;
  static constexpr int kFactorOffset = kStagesBytes + kRowBytes;
  static constexpr int kGateOffset = kFactorOffset + Loop::kStages * static_cast<int>(sizeof(KeyFactors));
  static constexpr int kSourceOffset = round_up(kGateOffset + static_cast<int>(sizeof(RowGates<Tile::kRows>)), 16);
  static constexpr int kBytes = kSourceOffset + static_cast<int>(sizeof(KeySource));
};

// n += P V and l += sum P for kKeys keys key0.. of a stage, P = s u with u from power_weight.
template <int kDim, int kDegree, Masking kMasking, int kKeys, int kM, int kRows, class Operand>
POWER_DEVICE void accumulate_output(float (&n)[kM][kDim / 8][4], float (&l)[kM][2], const Operand& q,
                                    const float (&row_scale)[kM][2], const AttentionArgs& args,
                                    const RowGates<kRows>& rows, uint32_t k_tile, uint32_t v_tile, const float* factors,
                                    float block_factor, int key0, int first_key, int tile_row0, int lane) {
  float s[kM][kKeys / 8][4] = {};
  q.multiply(s, k_tile, key0, lane);
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    POWER_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = tile_row0 + 16 * m + 8 * half + lane / 4;
      POWER_UNROLL
      for (int block = 0; block < kKeys / 8; ++block) {
        POWER_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int column = key0 + 8 * block + 2 * (lane % 4) + i;
          const float weight = pair_weight<kMasking>(rows, row, factors, block_factor, column, first_key);
          float& score = s[m][block][2 * half + i];
          const float p = score * power_weight<kDegree>(score, row_scale[m][half], weight, args.degree);
          score = p;
          if constexpr (kMasking == Masking::kNone) l[m][half] += p;
        }
      }
    }
  }
  uint32_t p[kM][kKeys / 16][4];
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    POWER_UNROLL
    for (int k = 0; k < kKeys / 16; ++k) {
      pack_a_fragment(p[m][k], s[m][2 * k], s[m][2 * k + 1]);
      // The first rows of a sequence have few keys: with l from the rounded weights, these sum to exactly 1.
      if constexpr (kMasking != Masking::kNone) {
        l[m][0] += (bf16_low(p[m][k][0]) + bf16_high(p[m][k][0])) + (bf16_low(p[m][k][2]) + bf16_high(p[m][k][2]));
        l[m][1] += (bf16_low(p[m][k][1]) + bf16_high(p[m][k][1])) + (bf16_low(p[m][k][3]) + bf16_high(p[m][k][3]));
      }
    }
  }
  multiply_mnmajor<kDim>(n, p, v_tile, key0, lane);
}

// The rows' power-of-two scales.
template <int kDim, int kM>
POWER_DEVICE void find_row_scale(float (&row_scale)[kM][2], uint32_t q_tile, int row0, float key_max, int lane) {
  const uint32_t rows = q_tile + Image<kDim>::rows16(row0);
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    uint32_t q[kDim / 16][4];
    POWER_UNROLL
    for (int k = 0; k < kDim / 16; ++k) load_a_fragment<kDim>(q[k], rows, 16 * m, k, lane);
    POWER_UNROLL
    for (int half = 0; half < 2; ++half) {
      float largest = 0.0f;
      POWER_UNROLL
      for (int k = 0; k < kDim / 16; ++k) {
        POWER_UNROLL
        for (int i = 0; i < 2; ++i) {
          const uint32_t pair = q[k][2 * i + half];
          largest = fmaxf(largest, fmaxf(fabsf(bf16_low(pair)), fabsf(bf16_high(pair))));
        }
      }
      row_scale[m][half] = row_scale_for(largest_of_row(largest), key_max);
    }
  }
}

// l += q^T Z q, columns summed by the lane that holds them, for the block with rows 64*part.. of one part of Z.
template <int kDim, int kM>
POWER_DEVICE void accumulate_key_products(float (&l)[kM][2], const uint32_t (&q)[kM][kDim / 16][4], uint32_t block,
                                          int part, int lane) {
  constexpr int kParts = dimension_blocks(kDim), kSteps = kDim / 16 / kParts;
  POWER_UNROLL
  for (int p = 0; p < kParts; ++p) {
    if (part != p) continue;
    POWER_UNROLL
    for (int n = 0; n < kDim / 16; ++n) {
      float product[kM][2][4] = {};
      POWER_UNROLL
      for (int k = 0; k < kSteps; ++k) {
        uint32_t b[4];
        load_b_mnmajor<kDim>(b, block, 16 * k, n, lane);
        POWER_UNROLL
        for (int m = 0; m < kM; ++m) {
          mma_m16n8k16_bf16(product[m][0], q[m][p * kSteps + k], b[0], b[1]);
          mma_m16n8k16_bf16(product[m][1], q[m][p * kSteps + k], b[2], b[3]);
        }
      }
      POWER_UNROLL
      for (int m = 0; m < kM; ++m) {
        POWER_UNROLL
        for (int half = 0; half < 2; ++half) {
          POWER_UNROLL
          for (int j = 0; j < 2; ++j) {
            const uint32_t pair = pair_of(q, m, 2 * n + j, half);
            l[m][half] = fmaf(product[m][j][2 * half], bf16_low(pair), l[m][half]);
            l[m][half] = fmaf(product[m][j][2 * half + 1], bf16_high(pair), l[m][half]);
          }
        }
      }
    }
  }
}

// n and l of the keys before the chunk, relative to the gates before it. `tail` starts the copies that follow.
template <int kDim, int kDegree, int kThreads, int kM, class Tail>
POWER_DEVICE void accumulate_state_output(float (&n)[kM][kDim / 8][4], float (&l)[kM][2],
                                          const RowOperand<kDim, kM, true>& q, const AttentionArgs& args, int head,
                                          const Chunk& chunk, uint32_t stages, const uint8_t* q_tile, int tile_row0,
                                          int thread, const Tail& tail) {
  const int lane = thread % 32;
  const uint16_t* image = state_image<kDim, kDegree>(args, args.states, head, chunk.index);
  const int blocks = image_blocks(kDim, args.head_dim, kDegree);
  if constexpr (kDegree == 1) {
    stream_state<kDim, kThreads>(
        stages, image, blocks, thread,
        [&](int block, uint32_t address) { multiply_dimensions<kDim>(n, q, address, block, lane); }, tail);
    const float* z = state_keys<kDim, kDegree>(args, args.states, head, chunk.index);
    POWER_UNROLL
    for (int c = 0; c < kDim / 8; ++c) {
      const float z0 = z[8 * c + 2 * (lane % 4)], z1 = z[8 * c + 2 * (lane % 4) + 1];
      POWER_UNROLL
      for (int m = 0; m < kM; ++m) {
        POWER_UNROLL
        for (int half = 0; half < 2; ++half) {
          const uint32_t pair = pair_of(q.fragment, m, c, half);
          l[m][half] = fmaf(bf16_low(pair), z0, fmaf(bf16_high(pair), z1, l[m][half]));
        }
      }
    }
  } else {
    TileWalk walk;
    uint32_t rotated[4][kM][2], inner[kM][2];
    stream_state<kDim, kThreads>(
        stages, image, blocks, thread,
        [&](int block, uint32_t address) {
          if (block >= args.state_tiles) {
            const int part = (block - args.state_tiles) % dimension_blocks(kDim);
            return accumulate_key_products<kDim>(l, q.fragment, address, part, lane);
          }
          load_pairs<kDim>(inner, q_tile, tile_row0, walk.inner, lane);
          if (walk.inner == walk.outer) {
            POWER_UNROLL
            for (int x = 0; x < 4; ++x) rotate_pairs<kM>(rotated[x], inner, x);
          }
          POWER_UNROLL
          for (int x = 0; x < 4; ++x) {
            uint32_t phi[kM][1][4];
            phi_fragment<kM>(phi, rotated[x], inner);
            multiply_mnmajor<kDim>(n, phi, address, 16 * x, lane);
          }
          walk.next(args.head_dim / kPhiBlock);
        },
        tail);
  }
}

template <int kDim, int kDegree>
__global__ void __launch_bounds__(QueryTile<kDim>::kThreads, QueryTile<kDim>::kForwardBlocks)
    power_attention_fwd_kernel(const __grid_constant__ AttentionArgs args) {
  using Tile = QueryTile<kDim>;
  using Shared = ForwardShared<kDim>;
  constexpr int kM = Tile::kM, kThreads = Tile::kThreads;
  POWER_SHARED_MEMORY(shared);
  const uint32_t base = shared_address(shared);
  KeyFactors* factors = reinterpret_cast<KeyFactors*>(shared + Shared::kFactorOffset);
  auto& rows = *reinterpret_cast<RowGates<Tile::kRows>*>(shared + Shared::kGateOffset);
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const HeadIndex head(args, blockIdx.x);
  const KeySource first_source(args, head);
  auto& kept_source = *reinterpret_cast<KeySource*>(shared + Shared::kSourceOffset);
  if (thread == 0) kept_source = first_source;
  const GateArrays& gates = first_source.gates;
  const QueryRows<Tile::kRows> tile(args);
  if (tile.empty()) return;
  const Chunk& chunk = tile.chunk;
  const int row0 = tile.row0, row_end = tile.row_end, warp_row0 = row0 + 16 * kM * warp;
  load_tile_async<kDim, Tile::kRows, kThreads>(base + Shared::kRowOffset, head.rows(args.q, args), args.group, row0,
                                               row_end, args.head_dim, thread);
  const KeyLoop<kDim, kThreads> keys(args, gates, tile, base, factors, thread);
  const bool mild = keys.is_mild(gates);
  StatePart state;
  if constexpr (kDegree != kAnyDegree) {
    state = state_part(args, chunk, gates, keys.reference, keys.first_segment);
  }

  rows.load(args, gates, keys.reference, row0, row_end, thread);
  if (state.any) {
    load_first_pair<kDim, kDegree, kThreads>(base, args, args.states, head.head, chunk.index, thread);
  } else {
    keys.load(keys.blocks.begin, first_source, mild);
  }
  cp_async_commit();
  cp_async_wait<0>();
  sync_block();
  RowOperand<kDim, kM, true> q;
  q.load(base + Shared::kRowOffset, 16 * kM * warp, lane);
  float row_scale[kM][2] = {};
  if constexpr (kDegree == kAnyDegree) {
    find_row_scale<kDim>(row_scale, base + Shared::kRowOffset, 16 * kM * warp, args.key_max[head.head], lane);
  }

  float n[kM][kDim / 8][4] = {}, l[kM][2] = {};
  if constexpr (kDegree != kAnyDegree) {
    if (state.any) {
      accumulate_state_output<kDim, kDegree, kThreads>(n, l, q, args, head.head, chunk, base,
                                                       shared + Shared::kRowOffset, 16 * kM * warp, thread,
                                                       [&] { keys.load(keys.blocks.begin, kept_source, mild); });
      POWER_UNROLL
      for (int m = 0; m < kM; ++m) {
        POWER_UNROLL
        for (int half = 0; half < 2; ++half) l[m][half] *= state.factor;
        POWER_UNROLL
        for (int c = 0; c < kDim / 8; ++c) {
          POWER_UNROLL
          for (int i = 0; i < 4; ++i) n[m][c][i] *= state.factor;
        }
      }
    }
  }
  const int warp_last_token = rows.token[16 * kM * (warp + 1) - 1];
  const auto to_own_gates = [&] { scale_to_own_gates<kDim>(n, l, rows, 16 * kM * warp, tile.first_token, lane); };
  constexpr int kKeys = Tile::kForwardKeys;
  keys.template run<kKeys>(kept_source, mild, warp_last_token, to_own_gates,
                           [&](auto masking, uint32_t k_tile, uint32_t v_tile, const float* weights, float block_factor,
                               int key0, int first_key) {
                             accumulate_output<kDim, kDegree, decltype(masking)::value, kKeys>(
                                 n, l, q, row_scale, args, rows, k_tile, v_tile, weights, block_factor, key0, first_key,
                                 16 * kM * warp, lane);
                           });

  float r[kM][2];
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    POWER_UNROLL
    for (int half = 0; half < 2; ++half) {
      const float sum = sum_of_row(l[m][half]);
      const float unit = args.scale_power / power_unit<kDegree>(row_scale[m][half], args.degree);
      if (args.normalize == Normalize::kSum) {
        r[m][half] = sum == 0.0f ? 0.0f : 1.0f / sum;
      } else if (args.normalize == Normalize::kLayer) {
        r[m][half] = center_row(n[m], half, args.head_dim, args.scale_power,
                                [&](int block, int i) { return 8 * block + 2 * (lane % 4) + i; });
      } else {
        r[m][half] = unit;
      }
      const int row = warp_row0 + 16 * m + 8 * half + lane / 4;
      if (lane % 4 == 0 && row < row_end) {
        const int64_t index = int64_t{head.head} * args.rows + row;
        args.inverse[index] = r[m][half];
        if constexpr (kDegree == kAnyDegree) args.row_scale[index] = row_scale[m][half];
        if (args.l != nullptr) args.l[index] = sum * unit;
      }
    }
  }
  const StridedView& y = args.y;
  uint16_t* out =
      const_cast<uint16_t*>(y.data) + head.batch * y.batch + int64_t{head.kv_head} * args.group.divisor * y.head;
  store_rows<kDim>(n, r, shared + Shared::kRowOffset, 16 * kM * warp, out, y.token, y.head, args.group, warp_row0,
                   row_end, args.head_dim, lane);
}

template <int kDim, int kDegree>
void run_power_attention_fwd(AttentionArgs args, void* stream) {
  using Tile = QueryTile<kDim>;
  const dim3 grid = query_grid(args, Tile::kRows);
  launch(power_attention_fwd_kernel<kDim, kDegree>, "power_attention_fwd_kernel", grid, Tile::kThreads,
         ForwardShared<kDim>::kBytes, stream, args);
}

}  // namespace power::kernels
