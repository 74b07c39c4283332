#pragma once

#include "kernels/common/launch.h"
#include "kernels/power_attention_float32/features.cuh"
#include "kernels/power_attention_float32/kernels.h"
#include "kernels/power_attention_float32/query_tile.cuh"

// Sums over a chunk's rows of weight * phi(x) [u, w]^T: x, u, w = k, v, 1 for the states, q, dY', -delta for their
// gradients. A block owns 64 features of one chunk, which stay in its accumulators while the rows stream by.
namespace power::kernels::float32 {

template <int kDim>
struct alignas(128) SumStage {
  uint8_t x[SumTile<kDim>::kStep * Tile<kDim>::kRowBytes], u[SumTile<kDim>::kStep * Tile<kDim>::kRowBytes];
  float weight[SumTile<kDim>::kStep], key[SumTile<kDim>::kStep];
};

template <int kDim>
struct ChunkSumsShared {
  SumStage<kDim> stages[kStages];
};

struct RowWeight {
  float weight, key;
};

POWER_DEVICE RowWeight weight_of_row(const ChunkSumsArgs& args, const HeadIndex& head, const GateArrays& gates,
                                     const Chunk& chunk, int row) {
  const AttentionArgs& a = args.call.attention;
  if (!args.of_queries) {
    if (!a.gated) return {args.factor, 1.0f};
    const int last = chunk.end_key - 1;
    const float gate = exp2_approx(difference(gates.sum[last], gates.sum[row]));
    return {gates.segment[last] > row ? 0.0f : args.factor * gate, 1.0f};
  }
  float weight = args.factor * power_unit(row_scale_of(a, head.head, row, true), a.degree);
  if (a.inverse != nullptr) weight *= a.inverse[int64_t{head.head} * a.rows + row];
  if (a.gated) {
    const int token = token_of_row(a, row);
    const float gate = exp2_approx(difference(gates.sum[token], chunk.gates_before(gates)));
    weight = gates.segment[token] >= chunk.first_key ? 0.0f : weight * gate;
  }
  return {weight, -a.delta[int64_t{head.head} * a.padded_rows + row]};
}

template <int kDim>
__global__ void __launch_bounds__(SumTile<kDim>::kThreads, SumTile<kDim>::kBlocks)
    chunk_sums_kernel(const __grid_constant__ ChunkSumsArgs args) {
  using Shape = SumTile<kDim>;
  constexpr int kStep = Shape::kStep;
  POWER_SHARED_MEMORY(memory);
  auto& shared = *reinterpret_cast<ChunkSumsShared<kDim>*>(memory);
  const AttentionArgs& a = args.call.attention;
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int head_index = divide(blockIdx.x, args.slices);
  const int slice = static_cast<int>(blockIdx.x) - head_index * static_cast<int>(args.slices.divisor);
  const HeadIndex head(a, head_index);
  const GateArrays gates = head.gates(a);
  const int chunk_index = args.first_chunk + static_cast<int>(blockIdx.y);
  const Chunk chunk(a, chunk_index);
  const int first = args.of_queries ? chunk.first_row : chunk.first_key;
  const int end = args.of_queries ? chunk.end_row : chunk.end_key;
  const auto view = [&](const View& x) { return args.of_queries ? rows_of(x, a, head) : keys_of(x, head); };
  const FastDivisor group = args.of_queries ? a.group : FastDivisor();
  const auto load_stage = [&](int step) {
    SumStage<kDim>& stage = shared.stages[step % kStages];
    const int row0 = first + step * kStep;
    load_rows_async<kDim, kStep, Shape::kThreads>(stage.x, view(args.x), group, row0, end, a.head_dim, thread);
    load_rows_async<kDim, kStep, Shape::kThreads>(stage.u, view(args.u), group, row0, end, a.head_dim, thread);
    if (thread >= kStep) return;
    RowWeight row{0.0f, 0.0f};
    if (row0 + thread < end) row = weight_of_row(args, head, gates, chunk, row0 + thread);
    stage.weight[thread] = row.weight;
    stage.key[thread] = row.key;
  };

  const int feature0 = slice * Shape::kFeatures + 16 * warp + lane / 4;  // of the lane: this and the eighth after it
  const Feature own[2] = {args.call.features[feature0], args.call.features[feature0 + 8]};
  const uint32_t indices[2] = {own[0].indices, own[1].indices};
  float sums[kDim / 8][4] = {}, keys[2] = {};
  const int steps = ceil_div(end - first, kStep);
  if (steps > 0) load_stage(0);
  cp_async_commit();
  POWER_ROLLED
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<0>();
    sync_block();
    if (step + 1 < steps) load_stage(step + 1);
    cp_async_commit();
    const SumStage<kDim>& stage = shared.stages[step % kStages];
    float p[kStep / 8][4], part[2] = {};
    POWER_UNROLL
    for (int k = 0; k < kStep / 8; ++k) {
      POWER_UNROLL
      for (int i = 0; i < 4; ++i) p[k][i] = stage.weight[8 * k + 2 * (lane % 4) + i % 2];
    }
    column_features<kDim>(p, stage.x, indices, a.degree, lane);
    POWER_UNROLL
    for (int k = 0; k < kStep / 8; ++k) {
      POWER_UNROLL
      for (int i = 0; i < 4; ++i) part[i / 2] = fmaf(p[k][i], stage.key[8 * k + 2 * (lane % 4) + i % 2], part[i / 2]);
    }
    keys[0] += part[0];
    keys[1] += part[1];
    multiply<kDim>(sums, p, stage.u, lane);
  }

  const int features = args.call.feature_count;
  const int64_t state = head.batch * args.sums.batch + head.kv_head * args.sums.head + chunk_index * args.sums.chunk;
  POWER_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int feature = feature0 + 8 * half;
    const float factor = args.of_queries ? 1.0f : own[half].multiplicity;
    const float key_sum = sum_of_row(keys[half]) * factor;
    if (feature >= features) continue;
    store_row<kDim>(sums, half, factor, args.sums.sums + (state * features + feature) * a.head_dim, a.head_dim, lane);
    if (lane % 4 == 0) args.sums.keys[state * features + feature] = key_sum;
  }
}

template <int kDim>
void run_chunk_sums(ChunkSumsArgs args, int chunks, void* stream) {
  using Shape = SumTile<kDim>;
  if (chunks <= 0) return;
  const AttentionArgs& a = args.call.attention;
  const int slices = ceil_div(args.call.feature_count, Shape::kFeatures);
  args.slices = FastDivisor(slices);
  launch(chunk_sums_kernel<kDim>, "float32 chunk_sums_kernel", dim3(a.batch * a.kv_heads.divisor * slices, chunks),
         Shape::kThreads, sizeof(ChunkSumsShared<kDim>), stream, args);
}

}  // namespace power::kernels::float32
