#pragma once

#include "kernels/common/launch.h"
#include "kernels/power_attention_float32/kernels.h"
#include "kernels/power_attention_float32/query_tile.cuh"

// With u = (row_scale s)^(p-1) * gate, A_ij = s u r_i the normalised weight, x = dY'.v - delta:
//   dq_i = p r_i sum_j u x k_j    dk_j = p sum_i u r_i x q_i    dv_j = sum_i A_ij dY'_i    dc_i = sum_j A_ij x - sum_j
//   A_ji x
namespace power::kernels::float32 {

template <int kDim>
struct QueryGradientShared {
  using Shape = GradientTile<kDim>;
  alignas(128) uint8_t q[Shape::kRows * Tile<kDim>::kRowBytes], dy[Shape::kRows * Tile<kDim>::kRowBytes];
  KeyStage<kDim, Shape::kStep> stages[kStages];
};

// dq -= excess * u k of the row's own key, u from its score. For `sum` the rows of sum A x are zero in exact
// arithmetic; what is found instead, the rounding of Y in delta, weighs 1 / score in dq. That is much where a row sees
// nothing but its own key and their score is small (a first token, closed gates), and there this takes all of it away.
template <int kDim>
POWER_DEVICE void remove_excess(float (&dq)[kDim / 8][4], int half, float excess, float row_scale, int degree,
                                float* key_row, const uint8_t* q, int tile_row, int head_dim, int lane) {
  float key[kDim / 8][4] = {};
  add_row<kDim>(key, half, key_row, head_dim, lane);
  const float score = sum_of_row(dot_with_row<kDim>(key, half, q, tile_row, lane));
  float factor = excess;
  POWER_ROLLED
  for (int d = 1; d < degree; ++d) factor *= score * row_scale;
  POWER_UNROLL
  for (int c = 0; c < kDim / 8; ++c) {
    POWER_UNROLL
    for (int part = 0; part < 2; ++part) {
      float& x = dq[c][2 * half + part];
      x = fmaf(-factor, key[c][2 * half + part], x);
    }
  }
}

// dq and (q.dq / p) of each row, from the pairs inside the chunk and from what state_rows_kernel has left in dq: the
// state's part of dq / (p r). Makes delta more exact.
template <int kDim>
__global__ void __launch_bounds__(GradientTile<kDim>::kThreads, GradientTile<kDim>::kQueryBlocks)
    backward_dq_kernel(const __grid_constant__ Args args) {
  using Shape = GradientTile<kDim>;
  constexpr int kStep = Shape::kStep;
  POWER_SHARED_MEMORY(memory);
  auto& shared = *reinterpret_cast<QueryGradientShared<kDim>*>(memory);
  const AttentionArgs& a = args.attention;
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const HeadIndex head(a, blockIdx.x);
  const GateArrays gates = head.gates(a);
  const QueryRows<Shape::kRows> tile(a);
  if (tile.empty()) return;
  KeySteps<kDim, kStep, Shape::kThreads> steps(a, gates, tile, thread);
  load_rows_async<kDim, Shape::kRows, Shape::kThreads>(shared.q, rows_of(args.q, a, head), a.group, tile.row0,
                                                       tile.row_end, a.head_dim, thread);
  load_rows_async<kDim, Shape::kRows, Shape::kThreads>(shared.dy, rows_of(args.dy, a, head), a.group, tile.row0,
                                                       tile.row_end, a.head_dim, thread);
  steps.load(shared.stages[0], 0, args, head, gates, thread);
  cp_async_commit();
  const LaneRows rows(a, gates, tile.row0 + 16 * warp, tile.row_end, lane);
  float row_scale[2], delta[2];
  POWER_UNROLL
  for (int half = 0; half < 2; ++half) {
    row_scale[half] = row_scale_of(a, head.head, rows.row[half], rows.valid[half]);
    delta[half] = rows.valid[half] ? a.delta[int64_t{head.head} * a.padded_rows + rows.row[half]] : 0.0f;
  }

  float dq[kDim / 8][4] = {}, dot[2] = {};
  const int count = steps.count();
  POWER_ROLLED
  for (int step = 0; step < count; ++step) {
    cp_async_wait<0>();
    sync_block();
    const float factor = steps.block_factor(step, a.gated);
    if (step + 1 < count) steps.load(shared.stages[(step + 1) % kStages], step + 1, args, head, gates, thread);
    cp_async_commit();
    const auto& stage = shared.stages[step % kStages];
    if (a.gated && steps.begins_masked(step)) {  // from the first token's gate to each row's own
      const float own[2] = {steps.row_factor(rows, 0), steps.row_factor(rows, 1)};
      dot[0] *= own[0];
      dot[1] *= own[1];
      scale_rows(dq, own);
    }
    float s[kStep / 8][4], x[kStep / 8][4], w[kStep / 8][4];
    multiply_rows<kDim>(s, shared.q, 16 * warp, stage.k, lane);
    multiply_rows<kDim>(x, shared.dy, 16 * warp, stage.v, lane);
    steps.weights(w, stage, step, factor, rows, a.gated, lane);
    apply_power(w, s, row_scale, a.degree);
    float sum[2] = {};
    POWER_UNROLL
    for (int k = 0; k < kStep / 8; ++k) {
      POWER_UNROLL
      for (int i = 0; i < 4; ++i) {
        w[k][i] *= x[k][i] - delta[i / 2];
        sum[i / 2] = fmaf(s[k][i], w[k][i], sum[i / 2]);
      }
    }
    dot[0] += sum[0];
    dot[1] += sum[1];
    multiply<kDim>(dq, w, stage.k, lane);
  }

  // Short of a gradient of l.
  const bool vanishes = a.normalize == Normalize::kSum && args.dl == nullptr;
  const RowsView out = rows_of(args.dq, a, head), all_keys = keys_of(args.k, head);
  POWER_UNROLL
  for (int half = 0; half < 2; ++half) {
    float* dq_row = row_pointer(out, a.group, rows.valid[half] ? rows.row[half] : tile.row0);
    if (has_state(args, tile.chunk) && rows.valid[half]) {
      float state[kDim / 8][4] = {};
      add_row<kDim>(state, half, dq_row, a.head_dim, lane);
      dot[half] += dot_with_row<kDim>(state, half, shared.q, 16 * warp + 8 * half + lane / 4, lane);
      POWER_UNROLL
      for (int c = 0; c < kDim / 8; ++c) {
        dq[c][2 * half] += state[c][2 * half];
        dq[c][2 * half + 1] += state[c][2 * half + 1];
      }
    }
    const int64_t index = int64_t{head.head} * a.rows + rows.row[half];
    const float r = rows.valid[half] ? a.inverse[index] : 0.0f, row_dot = sum_of_row(dot[half]) * r;
    if (vanishes) {
      remove_excess<kDim>(dq, half, row_dot, row_scale[half], a.degree,
                          row_pointer(all_keys, FastDivisor(), rows.token[half]), shared.q,
                          16 * warp + 8 * half + lane / 4, a.head_dim, lane);
    }
    if (!rows.valid[half]) continue;
    store_row<kDim>(dq, half, r * static_cast<float>(a.degree), dq_row, a.head_dim, lane);
    if (lane % 4 != 0) continue;
    // The other gradients get delta without what is found of the vanishing sum, and dlog_g then depends on float32 sums
    // alone.
    if (vanishes) a.delta[int64_t{head.head} * a.padded_rows + rows.row[half]] = delta[half] + row_dot;
    if (a.gated) a.row_dot[index] = vanishes ? 0.0f : row_dot;
  }
}

template <int kDim>
void run_backward_dq(Args args, void* stream) {
  using Shape = GradientTile<kDim>;
  const dim3 grid = query_grid(args.attention, Shape::kRows);
  launch(backward_dq_kernel<kDim>, "float32 backward_dq_kernel", grid, Shape::kThreads,
         sizeof(QueryGradientShared<kDim>), stream, args);
}

}  // namespace power::kernels::float32
