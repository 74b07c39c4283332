#pragma once

#include "kernels/common/launch.h"
#include "kernels/power_attention_float32/features.cuh"
#include "kernels/power_attention_float32/kernels.h"
#include "kernels/power_attention_float32/query_tile.cuh"

// Rows x against the state of their chunk: phi(x) S and phi(x) z, and the derivative of phi applied to u S^T + w z. Of
// queries, x = q, S the state before the chunk, u = dY', w = -delta: n and l, and dq / r. Of keys, x = k, S the
// gradient of the state after the chunk times the features' multiplicity, u = v, w = 1: dv and dk.
namespace power::kernels::float32 {

template <int kDim>
struct alignas(128) StateStage {
  uint8_t sums[StateTile<kDim>::kStep * Tile<kDim>::kRowBytes];
  alignas(16) Feature features[StateTile<kDim>::kStep];
  float keys[StateTile<kDim>::kStep];
};

// The gradient's members stand at the end: without it they need no memory.
template <int kDim>
struct StateRowsShared {
  using Shape = StateTile<kDim>;
  static constexpr int kTileBytes = Shape::kRows * Tile<kDim>::kRowBytes;
  static constexpr int kPitch = 20;  // floats from feature to feature of dphi: no bank conflicts
  alignas(128) uint8_t x[kTileBytes];
  StateStage<kDim> stages[kStages];
  alignas(128) uint8_t u[kTileBytes], dx[kTileBytes];
  float dphi[Shape::kWarps][Shape::kStep * kPitch];  // a warp's 16 rows of each feature

  static size_t bytes(bool gradient) { return gradient ? sizeof(StateRowsShared) : offsetof(StateRowsShared, u); }
};

// The derivative of phi: adds d phi / d x * dphi to dx for a warp's 16 rows and `count` features in a row. Features of
// one prefix i1..i(p-1) follow each other and their last indices count up, so that products are shared. Lane: row
// lane%16, and of the dimensions those of parity lane/16.
template <int kDim>
POWER_DEVICE void apply_derivative(uint8_t* dx, const uint8_t* x, int warp_row0, const float* dphi, int pitch,
                                   const Feature* features, int count, int degree, int head_dim, int lane) {
  const int row = warp_row0 + lane % 16, parity = lane / 16;
  dphi += lane % 16;
  const auto factor = [&](uint32_t indices, int n) {  // x of index n of a tuple
    return Tile<kDim>::at(x, row, (indices >> (8 * n)) & 255);
  };
  for (int first = 0; first < count;) {
    const uint32_t indices = features[first].indices;
    const int last = (indices >> (8 * (degree - 1))) & 255;
    const int run = count - first < head_dim - last ? count - first : head_dim - last;
    float prefix = 1.0f, sum = 0.0f;
    for (int n = 0; n < degree - 1; ++n) prefix *= factor(indices, n);
    for (int i = (last ^ parity) & 1; i < run; i += 2) {
      const float d = dphi[(first + i) * pitch];
      sum = fmaf(d, Tile<kDim>::at(x, row, last + i), sum);
      float& to = Tile<kDim>::at(dx, row, last + i);
      to = fmaf(d, prefix, to);
    }
    sum += shuffle_xor(sum, 16);
    for (int n = 0; n < degree - 1; ++n) {
      const int dimension = (indices >> (8 * n)) & 255;
      if ((dimension & 1) != parity) continue;
      float product = sum;
      for (int other = 0; other < degree - 1; ++other) {
        if (other != n) product *= factor(indices, other);
      }
      Tile<kDim>::at(dx, row, dimension) += product;
    }
    first += run;
  }
}

template <int kDim>
__global__ void __launch_bounds__(StateTile<kDim>::kThreads, StateTile<kDim>::kBlocks)
    state_rows_kernel(const __grid_constant__ StateRowsArgs args) {
  using Shape = StateTile<kDim>;
  using Shared = StateRowsShared<kDim>;
  constexpr int kStep = Shape::kStep;
  POWER_SHARED_MEMORY(memory);
  auto& shared = *reinterpret_cast<Shared*>(memory);
  const AttentionArgs& a = args.call.attention;
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const HeadIndex head(a, blockIdx.x);
  const GateArrays gates = head.gates(a);
  const int chunk_offset = divide(blockIdx.y, args.tiles);
  const Chunk chunk(a, args.first_chunk + chunk_offset);
  const int in_chunk = static_cast<int>(blockIdx.y) - chunk_offset * static_cast<int>(args.tiles.divisor);
  const int first = args.of_queries ? chunk.first_row : chunk.first_key;
  const int end = args.of_queries ? chunk.end_row : chunk.end_key, row0 = first + in_chunk * Shape::kRows;
  if (row0 >= end) return;
  const int row_end = row0 + Shape::kRows < end ? row0 + Shape::kRows : end;
  const auto view = [&](const View& x) { return args.of_queries ? rows_of(x, a, head) : keys_of(x, head); };
  const FastDivisor group = args.of_queries ? a.group : FastDivisor();
  const bool output = args.out.data != nullptr, gradient = args.dx.data != nullptr;

  // A row's factor: the gates between it and the state, and the unit of the row's sums.
  const auto gate_of = [&](int row) {
    if (!a.gated) return 1.0f;
    if (args.of_queries) {
      const int token = token_of_row(a, row);
      if (gates.segment[token] >= chunk.first_key) return 0.0f;
      return exp2_approx(difference(gates.sum[token], chunk.gates_before(gates)));
    }
    const int last = chunk.end_key - 1;
    return gates.segment[last] > row ? 0.0f : exp2_approx(difference(gates.sum[last], gates.sum[row]));
  };
  float row_factor[2], weight[2];
  POWER_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int row = row0 + 16 * warp + 8 * half + lane / 4;
    const bool valid = row < row_end;
    row_factor[half] = valid ? gate_of(row) : 0.0f;
    weight[half] = 1.0f;
    if (!args.of_queries) continue;
    row_factor[half] *= power_unit(row_scale_of(a, head.head, row, valid), a.degree);
    weight[half] = valid && gradient ? -a.delta[int64_t{head.head} * a.padded_rows + row] : 0.0f;
  }

  const int features = args.call.feature_count;
  const int64_t state = head.batch * args.states.batch + head.kv_head * args.states.head +
                        (args.first_chunk + chunk_offset) * args.states.chunk;
  const RowsView sums{args.states.sums + state * features * a.head_dim, a.head_dim, 0};
  const float* keys = args.states.keys + state * features;
  const auto load_stage = [&](int step) {
    StateStage<kDim>& stage = shared.stages[step % kStages];
    const int feature0 = step * kStep;
    load_rows_async<kDim, kStep, Shape::kThreads>(stage.sums, sums, FastDivisor(), feature0, features, a.head_dim,
                                                  thread);
    if (thread < kStep / 2) {
      cp_async_16(shared_address(stage.features) + 16 * thread, args.call.features + feature0 + 2 * thread, true);
    }
    if (thread < kStep) {
      const bool valid = feature0 + thread < features;
      cp_async_4(shared_address(stage.keys) + 4 * thread, keys + (valid ? feature0 + thread : 0), valid);
    }
  };
  load_rows_async<kDim, Shape::kRows, Shape::kThreads>(shared.x, view(args.x), group, row0, row_end, a.head_dim,
                                                       thread);
  if (gradient) {
    load_rows_async<kDim, Shape::kRows, Shape::kThreads>(shared.u, view(args.u), group, row0, row_end, a.head_dim,
                                                         thread);
    for (int i = thread; i < Shared::kTileBytes / 16; i += Shape::kThreads) reinterpret_cast<Four*>(shared.dx)[i] = {};
  }
  // The row next to the state has the largest gate: without it the tile has nothing of the state.
  const int steps = gate_of(args.of_queries ? row0 : row_end - 1) == 0.0f ? 0 : ceil_div(features, kStep);
  if (steps > 0) load_stage(0);
  cp_async_commit();

  float out[kDim / 8][4] = {}, key_out[2] = {};
  POWER_ROLLED
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<0>();
    sync_block();
    if (step + 1 < steps) load_stage(step + 1);
    cp_async_commit();
    const StateStage<kDim>& stage = shared.stages[step % kStages];
    if (output) {
      float phi[kStep / 8][4];
      row_features<kDim>(phi, shared.x, 16 * warp, stage.features, a.degree, lane);
      float sum[2] = {};
      POWER_UNROLL
      for (int k = 0; k < kStep / 8; ++k) {
        POWER_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int feature = 8 * k + 2 * (lane % 4) + i % 2;
          if (!args.of_queries) phi[k][i] *= stage.features[feature].multiplicity;
          sum[i / 2] = fmaf(phi[k][i], stage.keys[feature], sum[i / 2]);
        }
      }
      key_out[0] += sum[0];
      key_out[1] += sum[1];
      multiply<kDim>(out, phi, stage.sums, lane);
    }
    if (gradient) {
      float dphi[kStep / 8][4];
      multiply_rows<kDim>(dphi, shared.u, 16 * warp, stage.sums, lane);
      POWER_UNROLL
      for (int n = 0; n < kStep / 8; ++n) {
        POWER_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int feature = 8 * n + 2 * (lane % 4) + i % 2;
          float d = fmaf(weight[i / 2], stage.keys[feature], dphi[n][i]);
          if (!args.of_queries) d *= stage.features[feature].multiplicity;
          shared.dphi[warp][feature * Shared::kPitch + 8 * (i / 2) + lane / 4] = d;
        }
      }
      sync_warp();
      const int count = features - step * kStep < kStep ? features - step * kStep : kStep;
      apply_derivative<kDim>(shared.dx, shared.x, 16 * warp, shared.dphi[warp], Shared::kPitch, stage.features, count,
                             a.degree, a.head_dim, lane);
      sync_warp();
    }
  }
  if (steps == 0) {  // the rows are waited for nowhere else
    cp_async_wait<0>();
    sync_block();
  }

  POWER_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int tile_row = 16 * warp + 8 * half + lane / 4, row = row0 + tile_row;
    const int64_t index = int64_t{head.head} * (args.of_queries ? a.rows : a.keys) + row;
    const bool valid = row < row_end;
    if (output) {
      const float factor = row_factor[half] * args.factor, key_out_sum = sum_of_row(key_out[half]) * factor;
      if (valid) {
        store_row<kDim>(out, half, factor, row_pointer(view(args.out), group, row), a.head_dim, lane);
        if (args.key_out != nullptr && lane % 4 == 0) args.key_out[index] = key_out_sum;
      }
    }
    if (gradient) {
      const float factor = row_factor[half] * args.dx_factor;
      float dot = 0.0f;
      for_each_four<kDim>(row_pointer(view(args.dx), group, valid ? row : row0), a.head_dim, lane,
                          [&](int, int, Four* to, int column) {
                            Four four = Tile<kDim>::four(shared.dx, tile_row, column);
                            const Four x = Tile<kDim>::four(shared.x, tile_row, column);
                            POWER_UNROLL
                            for (int j = 0; j < 4; ++j) {
                              four.value[j] *= factor;
                              dot = fmaf(x.value[j], four.value[j], dot);
                            }
                            if (valid) *to = four;
                          });
      dot = sum_of_row(dot) / static_cast<float>(a.degree);
      if (args.dx_dot != nullptr && valid && lane % 4 == 0) args.dx_dot[index] = dot;
    }
  }
}

template <int kDim>
void run_state_rows(StateRowsArgs args, int chunks, void* stream) {
  using Shape = StateTile<kDim>;
  if (chunks <= 0) return;
  const AttentionArgs& a = args.call.attention;
  const int keys = a.chunk < a.keys ? a.chunk : a.keys;
  const int tiles = ceil_div(args.of_queries ? most_rows_of_chunk(a) : keys, Shape::kRows);
  args.tiles = FastDivisor(tiles);
  launch(state_rows_kernel<kDim>, "float32 state_rows_kernel", dim3(a.batch * a.kv_heads.divisor, tiles * chunks),
         Shape::kThreads, StateRowsShared<kDim>::bytes(args.dx.data != nullptr), stream, args);
}

}  // namespace power::kernels::float32
