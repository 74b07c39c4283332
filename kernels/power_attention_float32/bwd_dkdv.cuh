#pragma once

#include "kernels/common/launch.h"
#include "kernels/power_attention/bwd_dkdv.cuh"
#include "kernels/power_attention_float32/kernels.h"
#include "kernels/power_attention_float32/query_tile.cuh"

// The products are those of bwd_dq.cuh, with keys in place of query rows.
namespace power::kernels::float32 {

// Query rows of one step, and what a row brings along.
template <int kDim, int kStep>
struct alignas(128) QueryStage {
  uint8_t q[kStep * Tile<kDim>::kRowBytes], dy[kStep * Tile<kDim>::kRowBytes];
  alignas(128) float weight[kStep];  // r times the gate down to the tile's first token; r alone where keys are masked
  float delta[kStep];
  float row_scale[kStep];  // degree > 2
  FloatPair sum[kStep];    // where keys are masked
  int segment[kStep];      // likewise
};

template <int kDim>
struct KeyGradientShared {
  using Shape = GradientTile<kDim>;
  alignas(128) uint8_t k[Shape::kRows * Tile<kDim>::kRowBytes], v[Shape::kRows * Tile<kDim>::kRowBytes];
  QueryStage<kDim, Shape::kStep> stages[kStages];
};

// The query rows that see a tile of keys, step by step: first those after the last key, then those that are compared.
template <int kDim, int kStep, int kThreads>
class QuerySteps {
 public:
  using Stage = QueryStage<kDim, kStep>;

  POWER_DEVICE QuerySteps(const AttentionArgs& args, const GateArrays& gates, const Chunk& chunk, int first_key,
                          int last_key, int thread)
      : blocks_(find_query_blocks<kThreads>(args, gates, first_key, last_key, chunk.end_row, thread)),
        end_row_(chunk.end_row),
        last_key_(last_key) {
    if (args.gated) reference_ = gates.sum[last_key];
  }
  POWER_DEVICE int clear_count() const { return (blocks_.end - blocks_.clear) * kParts; }
  POWER_DEVICE int count() const { return clear_count() + (blocks_.clear - blocks_.masked) * kParts; }
  POWER_DEVICE bool masked(int step) const { return step >= clear_count(); }
  POWER_DEVICE int first_row(int step) const {
    const int clear = clear_count();
    return masked(step) ? blocks_.masked * kBlockRows + (step - clear) * kStep
                        : blocks_.clear * kBlockRows + step * kStep;
  }

  // Starts the copies of a step.
  POWER_DEVICE void load(Stage& stage, int step, const Args& args, const HeadIndex& head, const GateArrays& gates,
                         int thread) {
    const AttentionArgs& a = args.attention;
    const int row0 = first_row(step);
    load_rows_async<kDim, kStep, kThreads>(stage.q, rows_of(args.q, a, head), a.group, row0, end_row_, a.head_dim,
                                           thread);
    load_rows_async<kDim, kStep, kThreads>(stage.dy, rows_of(args.dy, a, head), a.group, row0, end_row_, a.head_dim,
                                           thread);
    const int64_t padded = int64_t{head.head} * a.padded_rows + row0;
    if (thread < kStep / 4) {
      cp_async_16(shared_address(stage.delta) + 16 * thread, a.delta + padded + 4 * thread, true);
      if (!masked(step)) {
        cp_async_16(shared_address(stage.weight) + 16 * thread, a.row_weight + padded + 4 * thread, true);
      }
    }
    if (thread < kStep && (masked(step) || a.row_scale != nullptr)) {
      const int row = row0 + thread;
      const bool valid = row < end_row_;
      stage.row_scale[thread] = row_scale_of(a, head.head, row, valid);
      if (masked(step)) {
        const int token = token_of_row(a, valid ? row : end_row_ - 1);
        stage.weight[thread] = valid ? a.inverse[int64_t{head.head} * a.rows + row] : 0.0f;
        stage.segment[thread] = a.gated ? gates.segment[token] : -1;
        stage.sum[thread] = a.gated ? gates.sum[token] : FloatPair{0.0f, 0.0f};
      }
    }
    if (a.gated) {
      const int token = token_of_row(a, row0 / kBlockRows * kBlockRows);
      block_sum_ = gates.sum[token];
      block_segment_ = gates.segment[token];
    }
  }
  // From the gate of the first token of the block of rows to that of the last key; of the step that was loaded last.
  POWER_DEVICE float block_factor(int step, bool gated) const {
    if (!gated || masked(step)) return 1.0f;
    return block_segment_ > last_key_ ? 0.0f : exp2_approx(difference(block_sum_, reference_));
  }

 private:
  static constexpr int kParts = kBlockRows / kStep;
  QueryBlocks blocks_;
  int end_row_, last_key_, block_segment_ = 0;
  FloatPair reference_{0.0f, 0.0f}, block_sum_{0.0f, 0.0f};
};

// The keys of a lane: lane/4 and lane/4 + 8 of its warp's 16.
struct LaneKeys {
  int key[2], first_row[2];  // and the first query row that sees the key
  bool valid[2];
  FloatPair sum[2];
  float own_gate[2];  // from the gate of the tile's last key to the key's own

  POWER_DEVICE LaneKeys(const AttentionArgs& args, const GateArrays& gates, int warp_key0, int last_key, int lane) {
    POWER_UNROLL
    for (int half = 0; half < 2; ++half) {
      key[half] = warp_key0 + 8 * half + lane / 4;
      valid[half] = key[half] <= last_key;
      first_row[half] = (key[half] - args.first_key) * static_cast<int>(args.group.divisor);
      sum[half] = {0.0f, 0.0f};
      own_gate[half] = 1.0f;
      if (!args.gated) continue;
      const int at = valid[half] ? key[half] : last_key;
      sum[half] = gates.sum[at];
      const float gate = exp2_approx(difference(gates.sum[last_key], sum[half]));
      own_gate[half] = at < gates.segment[last_key] ? 0.0f : gate;
    }
  }
};

// dk, dv and (k.dk / p) of each key, from the pairs inside the chunk and from what state_rows_kernel has left in dk
// (the state's part of dk / p) and dv.
template <int kDim>
__global__ void __launch_bounds__(GradientTile<kDim>::kThreads, GradientTile<kDim>::kKeyBlocks)
    backward_dkdv_kernel(const __grid_constant__ Args args) {
  using Shape = GradientTile<kDim>;
  constexpr int kStep = Shape::kStep;
  POWER_SHARED_MEMORY(memory);
  auto& shared = *reinterpret_cast<KeyGradientShared<kDim>*>(memory);
  const AttentionArgs& a = args.attention;
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const HeadIndex head(a, blockIdx.x);
  const GateArrays gates = head.gates(a);
  const int chunk_index = divide(blockIdx.y, a.key_tiles);
  const Chunk chunk(a, chunk_index);
  const int tile_of_chunk = static_cast<int>(blockIdx.y) - chunk_index * static_cast<int>(a.key_tiles.divisor);
  const int first_key = chunk.first_key + tile_of_chunk * Shape::kRows;  // the first keys have the most queries
  if (first_key >= chunk.end_key) return;
  const int key_end = first_key + Shape::kRows < chunk.end_key ? first_key + Shape::kRows : chunk.end_key;
  load_rows_async<kDim, Shape::kRows, Shape::kThreads>(shared.k, keys_of(args.k, head), FastDivisor(), first_key,
                                                       key_end, a.head_dim, thread);
  load_rows_async<kDim, Shape::kRows, Shape::kThreads>(shared.v, keys_of(args.v, head), FastDivisor(), first_key,
                                                       key_end, a.head_dim, thread);
  QuerySteps<kDim, kStep, Shape::kThreads> steps(a, gates, chunk, first_key, key_end - 1, thread);
  const int count = steps.count();
  if (count > 0) steps.load(shared.stages[0], 0, args, head, gates, thread);
  cp_async_commit();
  const LaneKeys keys(a, gates, first_key + 16 * warp, key_end - 1, lane);

  float dk[kDim / 8][4] = {}, dv[kDim / 8][4] = {}, dot[2] = {};
  const auto to_own_gates = [&] {  // from the last key's gate to each key's own
    if (!a.gated) return;
    dot[0] *= keys.own_gate[0];
    dot[1] *= keys.own_gate[1];
    scale_rows(dk, keys.own_gate);
    scale_rows(dv, keys.own_gate);
  };
  POWER_ROLLED
  for (int step = 0; step < count; ++step) {
    cp_async_wait<0>();
    sync_block();
    const float block_factor = steps.block_factor(step, a.gated);
    if (step + 1 < count) steps.load(shared.stages[(step + 1) % kStages], step + 1, args, head, gates, thread);
    cp_async_commit();
    const auto& stage = shared.stages[step % kStages];
    const int row0 = steps.first_row(step);
    if (step == steps.clear_count()) to_own_gates();
    float s[kStep / 8][4], x[kStep / 8][4], w[kStep / 8][4];
    multiply_rows<kDim>(s, shared.k, 16 * warp, stage.q, lane);
    multiply_rows<kDim>(x, shared.v, 16 * warp, stage.dy, lane);
    POWER_UNROLL
    for (int n = 0; n < kStep / 8; ++n) {
      POWER_UNROLL
      for (int i = 0; i < 2; ++i) w[n][i] = w[n][2 + i] = stage.weight[8 * n + 2 * (lane % 4) + i] * block_factor;
    }
    if (steps.masked(step)) {
      POWER_UNROLL
      for (int n = 0; n < kStep / 8; ++n) {
        POWER_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int column = 8 * n + 2 * (lane % 4) + i % 2, half = i / 2;
          const bool seen = keys.key[half] >= stage.segment[column] && row0 + column >= keys.first_row[half];
          const float gate = a.gated ? exp2_approx(difference(stage.sum[column], keys.sum[half])) : 1.0f;
          w[n][i] = seen ? w[n][i] * gate : 0.0f;
        }
      }
    }
    POWER_ROLLED
    for (int d = 1; d < a.degree; ++d) {  // w becomes u r
      POWER_UNROLL
      for (int n = 0; n < kStep / 8; ++n) {
        POWER_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int column = 8 * n + 2 * (lane % 4) + i % 2;
          w[n][i] *= a.row_scale != nullptr ? s[n][i] * stage.row_scale[column] : s[n][i];
        }
      }
    }
    float sum[2] = {};
    POWER_UNROLL
    for (int n = 0; n < kStep / 8; ++n) {
      POWER_UNROLL
      for (int i = 0; i < 4; ++i) {
        const float ds = w[n][i] * (x[n][i] - stage.delta[8 * n + 2 * (lane % 4) + i % 2]);
        sum[i / 2] = fmaf(s[n][i], ds, sum[i / 2]);
        s[n][i] *= w[n][i];
        x[n][i] = ds;
      }
    }
    dot[0] += sum[0];
    dot[1] += sum[1];
    multiply<kDim>(dv, s, stage.dy, lane);
    multiply<kDim>(dk, x, stage.q, lane);
  }
  if (count == steps.clear_count()) to_own_gates();
  if (count == 0) {  // the tile of keys is waited for nowhere else
    cp_async_wait<0>();
    sync_block();
  }

  const bool with_state = has_dstate(args, chunk);
  const RowsView dk_view = keys_of(args.dk, head), dv_view = keys_of(args.dv, head);
  POWER_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int key = keys.valid[half] ? keys.key[half] : first_key;
    float *dk_row = row_pointer(dk_view, FastDivisor(), key), *dv_row = row_pointer(dv_view, FastDivisor(), key);
    float state_dot = 0.0f;
    if (with_state && keys.valid[half]) {
      float state[kDim / 8][4] = {};
      add_row<kDim>(state, half, dk_row, a.head_dim, lane);
      state_dot = dot_with_row<kDim>(state, half, shared.k, 16 * warp + 8 * half + lane / 4, lane);
      POWER_UNROLL
      for (int c = 0; c < kDim / 8; ++c) {
        dk[c][2 * half] += state[c][2 * half];
        dk[c][2 * half + 1] += state[c][2 * half + 1];
      }
      add_row<kDim>(dv, half, dv_row, a.head_dim, lane);
    }
    const float key_dot = sum_of_row(dot[half]), key_state_dot = sum_of_row(state_dot);
    if (!keys.valid[half]) continue;
    store_row<kDim>(dk, half, static_cast<float>(a.degree), dk_row, a.head_dim, lane);
    store_row<kDim>(dv, half, 1.0f, dv_row, a.head_dim, lane);
    if (lane % 4 != 0 || !a.gated) continue;
    const int64_t index = int64_t{head.head} * a.keys + key;
    a.key_dot[index] = key_dot;
    if (a.key_state_dot != nullptr) a.key_state_dot[index] = key_state_dot;
  }
}

template <int kDim>
void run_backward_dkdv(Args args, void* stream) {
  using Shape = GradientTile<kDim>;
  const AttentionArgs& a = args.attention;
  const int tiles = ceil_div(a.chunk < a.keys ? a.chunk : a.keys, Shape::kRows);
  args.attention.key_tiles = FastDivisor(tiles);
  launch(backward_dkdv_kernel<kDim>, "float32 backward_dkdv_kernel",
         dim3(a.batch * a.kv_heads.divisor, tiles * a.chunks), Shape::kThreads, sizeof(KeyGradientShared<kDim>), stream,
         args);
}

}  // namespace power::kernels::float32
