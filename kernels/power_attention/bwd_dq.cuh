#pragma once

#include "kernels/common/launch.h"
#include "kernels/power_attention/bwd.h"
#include "kernels/power_attention/config.h"
#include "kernels/power_attention/query_loop.cuh"
#include "kernels/power_attention/row_math.cuh"
#include "kernels/power_attention/supported.h"

// With u = (row_scale s)^(p-1) * gate (power_weight), A_ij = s u r_i the normalised weight, x = dY'.v - delta:
//   dq_i = p r_i sum_j u x k_j    dk_j = p sum_i u r_i x q_i    dv_j = sum_i A_ij dY'_i    dc_i = sum_j A_ij x - sum
//   A_ji x
// No atomics: one kernel owns query rows, the other keys.
namespace power::kernels {

template <int kDim>
struct QueryGradientShared {
  using Tile = QueryTile<kDim>;
  using Loop = KeyLoop<kDim, Tile::kThreads>;
  static constexpr int kRowBytes = Tile::kRows / kBlockRows * Image<kDim>::kBlockBytes;
  static constexpr int kStagesBytes = Loop::kStages * Loop::kStageBytes;
  static constexpr int kQOffset = kStagesBytes;
  static constexpr int kDyOffset = Tile::kGradientOverlaysStages ? 0 : kStagesBytes + kRowBytes;
  static constexpr int kFactorOffset = kStagesBytes + (Tile::kGradientOverlaysStages ? 1 : 2) * kRowBytes;
  static constexpr int kGateOffset = kFactorOffset + Loop::kStages * static_cast<int>(sizeof(KeyFactors));
  static constexpr int kSourceOffset = round_up(kGateOffset + static_cast<int>(sizeof(RowGates<Tile::kRows>)), 16);
  static constexpr int kBytes = kSourceOffset + static_cast<int>(sizeof(KeySource));
  static_assert(kRowBytes <= kStagesBytes);
  // The chunked form adds:
  using Sums = BlockSums<kDim, Tile::kM, Tile::kThreads>;
  static constexpr int kSumsOffset = round_up(kBytes, 16);
  static constexpr int kChunkedBytes = kSumsOffset + Sums::kBytes;
};

template <int kDim, int kDegree, Masking kMasking, int kKeys, int kM, int kRows, class Operand>
POWER_DEVICE void accumulate_dq(float (&dq)[kM][kDim / 8][4], float (&dot)[kM][2], const Operand& q, const Operand& dy,
                                const float (&row_scale)[kM][2], const float (&delta)[kM][2], const AttentionArgs& args,
                                const RowGates<kRows>& rows, uint32_t k_tile, uint32_t v_tile, const float* factors,
                                float block_factor, int key0, int first_key, int tile_row0, int lane) {
  float s[kM][kKeys / 8][4] = {}, x[kM][kKeys / 8][4] = {};
  k_tile += key0 * Image<kDim>::kRowBytes;  // within a block of 64 rows: the swizzle repeats
  v_tile += key0 * Image<kDim>::kRowBytes;
  q.multiply(s, k_tile, 0, lane);
  dy.multiply(x, v_tile, 0, lane);
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
          const float score = s[m][block][2 * half + i];
          const float u = power_weight<kDegree>(score, row_scale[m][half], weight, args.degree);
          const float ds = u * (x[m][block][2 * half + i] - delta[m][half]);
          dot[m][half] = fmaf(score, ds, dot[m][half]);
          s[m][block][2 * half + i] = ds;
        }
      }
    }
  }
  uint32_t ds[kM][kKeys / 16][4];
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    POWER_UNROLL
    for (int k = 0; k < kKeys / 16; ++k) pack_a_fragment(ds[m][k], s[m][2 * k], s[m][2 * k + 1]);
  }
  multiply_mnmajor<kDim>(dq, ds, k_tile, 0, lane);
}

// What the state before the chunk adds to dq / (p r) and to its product with q: the derivative of
// phi(q)^T S dY' - delta l.
template <int kDim, int kDegree, int kThreads, int kM, class Tail>
POWER_DEVICE void accumulate_state_dq(float (&dq)[kM][kDim / 8][4], float (&dot)[kM][2],
                                      const RowOperand<kDim, kM, true>& dy, const float (&delta)[kM][2],
                                      float state_factor, const AttentionArgs& args, int head, const Chunk& chunk,
                                      uint32_t stages, const uint8_t* q_tile, uint8_t* sums, int tile_row0, int thread,
                                      const Tail& tail) {
  const int lane = thread % 32;
  const uint16_t* image = state_image<kDim, kDegree>(args, args.states, head, chunk.index);
  const int blocks = image_blocks(kDim, args.head_dim, kDegree);
  float minus_delta[kM][2];
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) minus_delta[m][0] = -delta[m][0], minus_delta[m][1] = -delta[m][1];
  if constexpr (kDegree == 1) {
    stream_state<kDim, kThreads>(
        stages, image, blocks, thread,
        [&](int block, uint32_t address) { multiply_dimensions_transposed<kDim>(dq, dy, address, block, lane); }, tail);
    add_outer<kDim>(dq, minus_delta, state_keys<kDim, kDegree>(args, args.states, head, chunk.index), lane);
  } else {
    PhiGradient<kDim, kM, kThreads> gradient(sums, thread);
    stream_state<kDim, kThreads>(
        stages, image, blocks, thread,
        [&](int block, uint32_t address) {
          if (block >= args.state_tiles) {
            RowOperand<kDim, kM, false> q;
            q.load(shared_address(q_tile), tile_row0, lane);
            const int part = (block - args.state_tiles) % dimension_blocks(kDim);
            return gradient.add_key_products(q, address, part, minus_delta, lane);
          }
          gradient.contract(q_tile, tile_row0, dy, address, args.head_dim / kPhiBlock, lane,
                            [](int, const auto&, const auto&) {});
        },
        tail);
    gradient.get(dq);
  }
  scale<kDim>(dq, state_factor);
  add_dots<kDim>(dot, dq, q_tile, tile_row0, lane);
}

template <int kDim, int kDegree>
__global__ void __launch_bounds__(QueryTile<kDim>::kThreads, QueryTile<kDim>::kBackwardBlocks)
    power_attention_bwd_dq_kernel(const __grid_constant__ AttentionArgs args) {
  using Tile = QueryTile<kDim>;
  using Shared = QueryGradientShared<kDim>;
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
  const uint32_t q_tile = base + Shared::kQOffset, dy_tile = base + Shared::kDyOffset;
  load_tile_async<kDim, Tile::kRows, kThreads>(q_tile, head.rows(args.q, args), args.group, row0, row_end,
                                               args.head_dim, thread);
  load_tile_async<kDim, Tile::kRows, kThreads>(dy_tile, head.rows(args.dy, args), args.group, row0, row_end,
                                               args.head_dim, thread);
  const KeyLoop<kDim, kThreads> keys(args, gates, tile, base, factors, thread);
  // Without a state the keys come first, and wait for nothing that follows here.
  const bool keys_first = !Tile::kGradientOverlaysStages && (kDegree == kAnyDegree || !chunk.has_state(args));
  if (keys_first) keys.load_keys(keys.blocks.begin, first_source);
  const bool mild = keys.is_mild(gates);
  StatePart state;
  if constexpr (kDegree != kAnyDegree) {
    state = state_part(args, chunk, gates, keys.reference, keys.first_segment);
  }

  rows.load(args, gates, keys.reference, row0, row_end, thread);
  const auto load_first = [&] {
    if (state.any) {
      load_first_pair<kDim, kDegree, kThreads>(base, args, args.states, head.head, chunk.index, thread);
    } else {
      if (!keys_first) keys.load_keys(keys.blocks.begin, first_source);
      keys.load_factors(keys.blocks.begin, first_source, mild);
    }
  };
  if constexpr (!Tile::kGradientOverlaysStages) load_first();
  cp_async_commit();
  float row_scale[kM][2] = {}, delta[kM][2];
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    POWER_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = warp_row0 + 16 * m + 8 * half + lane / 4;
      delta[m][half] = row < row_end ? args.delta[int64_t{head.head} * args.padded_rows + row] : 0.0f;
      if constexpr (kDegree == kAnyDegree) {
        row_scale[m][half] = row < row_end ? args.row_scale[int64_t{head.head} * args.rows + row] : 0.0f;
      }
    }
  }
  cp_async_wait<0>();
  sync_block();
  RowOperand<kDim, kM, true> q, dy;
  dy.load(dy_tile, 16 * kM * warp, lane);
  if constexpr (Tile::kGradientOverlaysStages) {
    sync_block();
    load_first();
    cp_async_commit();
    cp_async_wait<0>();
    sync_block();
  }
  float dq[kM][kDim / 8][4] = {}, dot[kM][2] = {};
  if constexpr (kDegree != kAnyDegree) {
    if (state.any) {
      accumulate_state_dq<kDim, kDegree, kThreads>(dq, dot, dy, delta, state.factor, args, head.head, chunk, base,
                                                   shared + Shared::kQOffset, shared + Shared::kSumsOffset,
                                                   16 * kM * warp, thread,
                                                   [&] { keys.load(keys.blocks.begin, kept_source, mild); });
    }
  }
  q.load(q_tile, 16 * kM * warp, lane);
  const int warp_last_token = rows.token[16 * kM * (warp + 1) - 1];
  const auto to_own_gates = [&] { scale_to_own_gates<kDim>(dq, dot, rows, 16 * kM * warp, tile.first_token, lane); };
  constexpr int kKeys = Tile::kBackwardKeys;
  keys.template run<kKeys>(kept_source, mild, warp_last_token, to_own_gates,
                           [&](auto masking, uint32_t k_tile, uint32_t v_tile, const float* weights, float block_factor,
                               int key0, int first_key) {
                             accumulate_dq<kDim, kDegree, decltype(masking)::value, kKeys>(
                                 dq, dot, q, dy, row_scale, delta, args, rows, k_tile, v_tile, weights, block_factor,
                                 key0, first_key, 16 * kM * warp, lane);
                           });

  float factor[kM][2];
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    POWER_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = warp_row0 + 16 * m + 8 * half + lane / 4;
      const int64_t index = int64_t{head.head} * args.rows + row;
      const float r = row < row_end ? args.inverse[index] : 0.0f;
      factor[m][half] = r * static_cast<float>(args.degree);
      dot[m][half] = sum_of_row(dot[m][half]);
      if (lane % 4 != 0 || row >= row_end) continue;
      const float row_dot = dot[m][half] * r;
      const bool sum = args.normalize == Normalize::kSum;
      // For `sum` the true row_dot is 0: what is left is the rounding of Y in delta = dY.Y. The other gradient kernel
      // gets delta without it, and dlog_g then depends on float32 sums alone.
      if (sum) args.delta[int64_t{head.head} * args.padded_rows + row] = delta[m][half] + row_dot;
      if (args.gated) args.row_dot[index] = sum ? 0.0f : row_dot;
    }
  }
  const StridedView& out = args.dq;
  store_rows<kDim>(
      dq, factor, shared + Shared::kQOffset, 16 * kM * warp,
      const_cast<uint16_t*>(out.data) + head.batch * out.batch + int64_t{head.kv_head} * args.group.divisor * out.head,
      out.token, out.head, args.group, warp_row0, row_end, args.head_dim, lane);
}

template <int kDim, int kDegree>
void run_power_attention_bwd_dq(AttentionArgs args, void* stream) {
  using Tile = QueryTile<kDim>;
  using Shared = QueryGradientShared<kDim>;
  const dim3 grid = query_grid(args, Tile::kRows);
  launch(power_attention_bwd_dq_kernel<kDim, kDegree>, "power_attention_bwd_dq_kernel", grid, Tile::kThreads,
         args.states.images != nullptr ? Shared::kChunkedBytes : Shared::kBytes, stream, args);
}

}  // namespace power::kernels
