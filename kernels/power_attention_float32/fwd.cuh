#pragma once

#include "kernels/common/launch.h"
#include "kernels/power_attention_float32/kernels.h"
#include "kernels/power_attention_float32/query_tile.cuh"

namespace power::kernels::float32 {

template <int kDim>
struct ForwardShared {
  using Shape = ForwardTile<kDim>;
  alignas(128) uint8_t q[Shape::kRows * Tile<kDim>::kRowBytes];
  KeyStage<kDim, Shape::kStep> stages[kStages];
};

// y and l from the pairs inside the chunk and from what state_rows_kernel has left in y and `inverse`.
template <int kDim>
__global__ void __launch_bounds__(ForwardTile<kDim>::kThreads, ForwardTile<kDim>::kBlocks)
    forward_kernel(const __grid_constant__ Args args) {
  using Shape = ForwardTile<kDim>;
  constexpr int kStep = Shape::kStep;
  POWER_SHARED_MEMORY(memory);
  auto& shared = *reinterpret_cast<ForwardShared<kDim>*>(memory);
  const AttentionArgs& a = args.attention;
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const HeadIndex head(a, blockIdx.x);
  const GateArrays gates = head.gates(a);
  const QueryRows<Shape::kRows> tile(a);
  if (tile.empty()) return;
  KeySteps<kDim, kStep, Shape::kThreads> steps(a, gates, tile, thread);
  load_rows_async<kDim, Shape::kRows, Shape::kThreads>(shared.q, rows_of(args.q, a, head), a.group, tile.row0,
                                                       tile.row_end, a.head_dim, thread);
  steps.load(shared.stages[0], 0, args, head, gates, thread);
  cp_async_commit();
  const LaneRows rows(a, gates, tile.row0 + 16 * warp, tile.row_end, lane);
  const float row_scale[2] = {row_scale_of(a, head.head, rows.row[0], rows.valid[0]),
                              row_scale_of(a, head.head, rows.row[1], rows.valid[1])};

  float n[kDim / 8][4] = {}, l[2] = {};
  const auto to_own_gates = [&] {  // from the first token's gate to each row's own
    if (!a.gated) return;
    const float factor[2] = {steps.row_factor(rows, 0), steps.row_factor(rows, 1)};
    l[0] *= factor[0];
    l[1] *= factor[1];
    scale_rows(n, factor);
  };
  const int count = steps.count();
  POWER_ROLLED
  for (int step = 0; step < count; ++step) {
    cp_async_wait<0>();
    sync_block();  // this step has landed, and nobody reads the stage that is filled next
    const float factor = steps.block_factor(step, a.gated);
    if (step + 1 < count) steps.load(shared.stages[(step + 1) % kStages], step + 1, args, head, gates, thread);
    cp_async_commit();
    const auto& stage = shared.stages[step % kStages];
    if (steps.begins_masked(step)) to_own_gates();
    float s[kStep / 8][4], w[kStep / 8][4];
    multiply_rows<kDim>(s, shared.q, 16 * warp, stage.k, lane);
    steps.weights(w, stage, step, factor, rows, a.gated, lane);
    apply_power(w, s, row_scale, a.degree);
    float sum[2] = {};
    POWER_UNROLL
    for (int k = 0; k < kStep / 8; ++k) {
      POWER_UNROLL
      for (int i = 0; i < 4; ++i) {
        s[k][i] *= w[k][i];
        sum[i / 2] += s[k][i];
      }
    }
    l[0] += sum[0];
    l[1] += sum[1];
    multiply<kDim>(n, s, stage.v, lane);
  }

  const RowsView y = rows_of(args.y, a, head);
  POWER_UNROLL
  for (int half = 0; half < 2; ++half) {
    float sum = sum_of_row(l[half]);
    float* y_row = row_pointer(y, a.group, rows.valid[half] ? rows.row[half] : tile.row0);
    const int64_t index = int64_t{head.head} * a.rows + rows.row[half];
    if (has_state(args, tile.chunk) && rows.valid[half]) {
      add_row<kDim>(n, half, y_row, a.head_dim, lane);
      sum += a.inverse[index];
    }
    sync_warp();  // every lane of the row has read `inverse`
    const float unit = a.scale_power / power_unit(row_scale[half], a.degree);
    float r = unit;
    if (a.normalize == Normalize::kSum) r = sum == 0.0f ? 0.0f : 1.0f / sum;
    if (a.normalize == Normalize::kLayer) {
      r = center_row(n, half, a.head_dim, a.scale_power,
                     [&](int block, int part) { return column_of(block / 4, part, lane); });
    }
    if (!rows.valid[half]) continue;
    store_row<kDim>(n, half, r, y_row, a.head_dim, lane);
    if (lane % 4 != 0) continue;
    a.inverse[index] = r;
    if (a.l != nullptr) a.l[index] = sum * unit;
  }
}

template <int kDim>
void run_forward(Args args, void* stream) {
  using Shape = ForwardTile<kDim>;
  const dim3 grid = query_grid(args.attention, Shape::kRows);
  launch(forward_kernel<kDim>, "float32 forward_kernel", grid, Shape::kThreads, sizeof(ForwardShared<kDim>), stream,
         args);
}

}  // namespace power::kernels::float32
