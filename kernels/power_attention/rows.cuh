#pragma once

#include "kernels/common/launch.h"
#include "kernels/power_attention/row_math.cuh"
#include "kernels/power_attention/rows.h"
#include "kernels/power_attention/state.cuh"

namespace power::kernels {

inline constexpr int kScanThreads = 256;
inline constexpr int kScanItems = kScanSpan / kScanThreads;  // consecutive tokens of a thread
inline constexpr float kLog2E = 1.4426950408889634f;

// A running sum that starts again where `restart` is set, for scans over tokens.
struct SegmentedSum {
  double sum;
  int restart;
};

POWER_DEVICE SegmentedSum append(const SegmentedSum& before, const SegmentedSum& after) {
  return {after.restart ? after.sum : before.sum + after.sum, before.restart | after.restart};
}

// Exclusive scan over the block's threads in a fixed order; `carry` comes in front and is advanced past the block.
POWER_DEVICE SegmentedSum scan_block(SegmentedSum value, SegmentedSum* warp_totals, SegmentedSum& carry, int thread) {
  const int lane = thread % 32, warp = thread / 32;
  SegmentedSum inclusive = value;
  POWER_UNROLL
  for (int delta = 1; delta < 32; delta *= 2) {
    const SegmentedSum before{shuffle_up(inclusive.sum, delta), shuffle_up(inclusive.restart, delta)};
    if (lane >= delta) inclusive = append(before, inclusive);
  }
  SegmentedSum exclusive{shuffle_up(inclusive.sum, 1), shuffle_up(inclusive.restart, 1)};
  if (lane == 0) exclusive = {0.0, 0};
  if (lane == 31) warp_totals[warp] = inclusive;
  sync_block();
  SegmentedSum before = carry;
  for (int w = 0; w < kScanThreads / 32; ++w) {
    if (w == warp) exclusive = append(before, exclusive);
    before = append(before, warp_totals[w]);
  }
  carry = before;
  sync_block();
  return exclusive;
}

// The gates of kScanItems tokens from `first` on, in log2 units; 0 for a segment's start, which is kept apart.
struct GateItems {
  float gate[kScanItems];
  SegmentedSum sum{0.0, 0}, start{0.0, 0};  // of the items; start: "restarts" with the number of the last one

  POWER_DEVICE GateItems(const AttentionArgs& args, const HeadIndex& head, int first) {
    const float* log_g = args.log_g + head.batch * args.log_g_batch + head.kv_head * args.log_g_head;
    for (int i = 0; i < kScanItems; ++i) {
      gate[i] = first + i < args.keys ? log_g[(first + i) * args.log_g_token] * kLog2E : 0.0f;
      if (starts(i)) {
        start = {static_cast<double>(first + i), 1};
      } else {
        sum.sum += gate[i];
      }
    }
  }
  POWER_DEVICE bool starts(int i) const { return gate[i] < kNoWeightLog2; }
};

// Values to aligned memory, 16 bytes at a time.
template <class T, int kCount>
POWER_DEVICE void store_16_bytes(T* to, const T (&values)[kCount]) {
  static_assert(sizeof values % 16 == 0);
  uint4 pieces[sizeof values / 16];
  __builtin_memcpy(pieces, values, sizeof values);
  POWER_UNROLL
  for (size_t i = 0; i < sizeof values / 16; ++i) reinterpret_cast<uint4*>(to)[i] = pieces[i];
}

// A block's span of tokens, its total: what the next kernel needs of the spans before it.
__global__ void __launch_bounds__(kScanThreads) gate_totals_kernel(const __grid_constant__ AttentionArgs args) {
  POWER_SHARED_MEMORY(shared);
  SegmentedSum* totals = reinterpret_cast<SegmentedSum*>(shared);
  const int thread = threadIdx.x;
  const HeadIndex head(args, blockIdx.x);
  const GateItems items(args, head, static_cast<int>(blockIdx.y) * kScanSpan + thread * kScanItems);
  SegmentedSum sum{0.0, 0}, start{0.0, 0};
  scan_block(items.sum, totals, sum, thread);
  scan_block(items.start, totals, start, thread);
  if (thread == 0) args.gate_totals[int64_t{head.head} * gridDim.y + blockIdx.y] = {sum.sum, start.sum, start.restart};
}

// One block a span. c in log2 units and double precision, stored as a float pair.
__global__ void __launch_bounds__(kScanThreads) gate_sums_kernel(const __grid_constant__ AttentionArgs args) {
  POWER_SHARED_MEMORY(shared);
  SegmentedSum* totals = reinterpret_cast<SegmentedSum*>(shared);
  const int thread = threadIdx.x, span = static_cast<int>(blockIdx.y);
  const HeadIndex head(args, blockIdx.x);
  const GateArrays gates = head.gates(args);
  SegmentedSum sum_carry{0.0, 0}, start_carry{-1.0, 0};
  for (int before = 0; before < span; ++before) {
    const GateTotal& total = args.gate_totals[int64_t{head.head} * gridDim.y + before];
    sum_carry.sum += total.sum;
    start_carry = append(start_carry, {total.start, total.restart});
  }
  const int first = span * kScanSpan + thread * kScanItems;
  const GateItems items(args, head, first);
  SegmentedSum running = scan_block(items.sum, totals, sum_carry, thread);
  SegmentedSum segment = scan_block(items.start, totals, start_carry, thread);
  FloatPair out_sum[kScanItems];
  int out_segment[kScanItems];
  float out_decay[kScanItems];
  POWER_UNROLL
  for (int i = 0; i < kScanItems; ++i) {
    if (items.starts(i)) {
      segment.sum = first + i;
    } else {
      running.sum += items.gate[i];
    }
    const float high = static_cast<float>(running.sum);
    out_sum[i] = {high, static_cast<float>(running.sum - high)};
    out_segment[i] = static_cast<int>(segment.sum);
  }
  // The last token of the items' tile is another lane's last one.
  constexpr int kTileLanes = kGateTile / kScanItems;
  static_assert(32 % kTileLanes == 0 && kGateTile % kScanItems == 0);
  const int last_lane = thread % 32 | (kTileLanes - 1);
  const FloatPair own_end = out_sum[kScanItems - 1];
  const FloatPair end_sum{shuffle_from(own_end.high, last_lane), shuffle_from(own_end.low, last_lane)};
  const int end_segment = shuffle_from(out_segment[kScanItems - 1], last_lane);
  POWER_UNROLL
  for (int i = 0; i < kScanItems; ++i) {
    out_decay[i] = end_segment > first + i ? 0.0f : exp2_approx(difference(end_sum, out_sum[i]));
  }
  if (first >= args.padded_keys) return;  // the padded keys are whole tiles
  store_16_bytes(gates.sum + first, out_sum);
  store_16_bytes(gates.segment + first, out_segment);
  store_16_bytes(gates.key_decay + first, out_decay);
}

// One block a chunk. The gate of token t weighs on every pair of a key before t and a query from t on: inside the chunk
// as the sum over u >= t in t's segment of the rows' dots less the keys'; keys before t on the state after the chunk
// (key_state_dot); and the state before the chunk on the one after it (state_dot). A segment's first gate weighs
// nothing.
__global__ void __launch_bounds__(kScanThreads) gate_gradient_kernel(const __grid_constant__ AttentionArgs args) {
  POWER_SHARED_MEMORY(shared);
  SegmentedSum* totals = reinterpret_cast<SegmentedSum*>(shared);
  const int thread = threadIdx.x, group = static_cast<int>(args.group.divisor);
  const HeadIndex head(args, blockIdx.x);
  const Chunk chunk(args, static_cast<int>(blockIdx.y));
  const GateArrays gates = head.gates(args);
  const float* row_dot = args.row_dot + int64_t{head.head} * args.rows;
  const float* key_dot = args.key_dot + int64_t{head.head} * args.keys;
  float* out = args.dlog_g + head.batch * args.dlog_g_batch + head.kv_head * args.dlog_g_head;
  if (args.key_state_dot != nullptr) {
    const float* key_state_dot = args.key_state_dot + int64_t{head.head} * args.keys;
    const float* parts = args.state_dot + (int64_t{head.head} * args.chunks + chunk.index) * args.state_dot_parts;
    SegmentedSum carried{0.0, 0}, own{0.0, 0};
    for (int part = thread; part < args.state_dot_parts; part += kScanThreads) own.sum += parts[part];
    scan_block(own, totals, carried, thread);
    for (int base = chunk.first_key; base < chunk.end_key; base += kScanSpan) {
      const int first = base + thread * kScanItems;
      SegmentedSum total{0.0, 0};
      float dots[kScanItems];
      for (int i = 0; i < kScanItems; ++i) {
        dots[i] = first + i < chunk.end_key ? key_state_dot[first + i] : 0.0f;
        total.sum += dots[i];
      }
      SegmentedSum before = scan_block(total, totals, carried, thread);
      for (int i = 0; i < kScanItems && first + i < chunk.end_key; ++i) {
        out[(first + i) * args.dlog_g_token] = static_cast<float>(before.sum);
        before.sum += dots[i];
      }
    }
    sync_block();
  }
  const int keys = chunk.end_key - chunk.first_key;
  SegmentedSum carry{0.0, 0};
  for (int base = 0; base < keys; base += kScanSpan) {  // from the last token backwards
    const int first = base + thread * kScanItems;
    double dc[kScanItems];
    SegmentedSum total{0.0, 0};
    const auto restarts = [&](int token) {
      return token + 1 < chunk.end_key && gates.segment[token + 1] != gates.segment[token];
    };
    for (int i = 0; i < kScanItems; ++i) {
      const int token = chunk.end_key - 1 - (first + i);
      dc[i] = 0.0;
      if (token < chunk.first_key) continue;
      const int row = (token - args.first_key) * group;
      for (int r = 0; r < group && row >= 0; ++r) dc[i] += row_dot[row + r];
      dc[i] -= key_dot[token];
      total = append(total, {dc[i], restarts(token)});
    }
    SegmentedSum running = scan_block(total, totals, carry, thread);
    for (int i = 0; i < kScanItems; ++i) {
      const int token = chunk.end_key - 1 - (first + i);
      if (token < chunk.first_key) break;
      running = append(running, {dc[i], restarts(token)});
      float& gradient = out[token * args.dlog_g_token];
      const double states = args.key_state_dot != nullptr ? gradient : 0.0f;
      const bool starts = gates.segment[token] == token || (token == 0 && !args.has_initial);
      gradient = starts ? 0.0f : static_cast<float>(running.sum + states);
    }
  }
}

__global__ void __launch_bounds__(kScanThreads) key_max_kernel(const __grid_constant__ AttentionArgs args) {
  POWER_SHARED_MEMORY(shared);
  float* warp_max = reinterpret_cast<float*>(shared);
  const int thread = threadIdx.x;
  const HeadIndex head(args, blockIdx.x);
  const RowView k = head.keys(args.k);
  const int chunks = args.head_dim / 8;
  float largest = 0.0f;
  for (int64_t i = thread; i < int64_t{args.keys} * chunks; i += kScanThreads) {
    const int token = static_cast<int>(i / chunks), chunk = static_cast<int>(i % chunks);
    const uint4 values = *reinterpret_cast<const uint4*>(k.at(token, 0, chunk));
    const uint32_t pairs[4] = {values.x, values.y, values.z, values.w};
    for (uint32_t pair : pairs) largest = fmaxf(largest, fmaxf(fabsf(bf16_low(pair)), fabsf(bf16_high(pair))));
  }
  for (int mask = 16; mask > 0; mask /= 2) largest = fmaxf(largest, shuffle_xor(largest, mask));
  if (thread % 32 == 0) warp_max[thread / 32] = largest;
  sync_block();
  if (thread != 0) return;
  for (int w = 1; w < kScanThreads / 32; ++w) largest = fmaxf(largest, warp_max[w]);
  args.key_max[head.head] = largest;
}

inline constexpr int kLanesPerRow = 8;
inline constexpr int kRowThreads = 256;
inline constexpr int kRowStep = kRowThreads / kLanesPerRow;
inline constexpr int kRowsPerLane = 4;  // kRowStep apart: so many loads are on their way at once
inline constexpr int kRowsPerBlock = kRowStep * kRowsPerLane;

// What the gradient kernels need to know of y and dy. Eight lanes read kRowsPerLane rows together; then each of the
// first lanes writes what came of one of them, its "own".
template <int kMaxHeadDim>
__global__ void __launch_bounds__(kRowThreads) backward_rows_kernel(const __grid_constant__ AttentionArgs args) {
  constexpr int kMaxChunks = kMaxHeadDim / 8 / kLanesPerRow;
  const int thread = threadIdx.x, lane = thread % kLanesPerRow;
  const int row0 = blockIdx.y * kRowsPerBlock + thread / kLanesPerRow;
  const HeadIndex head(args, blockIdx.x);
  // Asked for before the rows themselves, so that one wait covers both.
  const int own_row = row0 + lane * kRowStep;
  const bool owns = lane < kRowsPerLane && own_row < args.rows;
  float inverse = 0.0f;
  FloatPair own_gate{0.0f, 0.0f}, tile_gate{0.0f, 0.0f};
  int segment = 0, first_token = 0;
  if (owns) {
    inverse = args.inverse[int64_t{head.head} * args.rows + own_row];
    if (args.gated) {
      const GateArrays gates = head.gates(args);
      const int token = token_of_row(args, own_row);
      first_token = token_of_row(args, own_row / kGateTile * kGateTile);
      own_gate = gates.sum[token];
      tile_gate = gates.sum[first_token];
      segment = gates.segment[token];
    }
  }
  const RowView y_rows = head.rows(args.y, args), dy_rows = head.rows(args.dy, args);
  uint4 y[kRowsPerLane][kMaxChunks], dy[kRowsPerLane][kMaxChunks];
  POWER_UNROLL
  for (int n = 0; n < kRowsPerLane; ++n) {
    const int row = row0 + n * kRowStep, token = row < args.rows ? divide(row, args.group) : 0;
    const int group_head = row - token * static_cast<int>(args.group.divisor);
    POWER_UNROLL
    for (int c = 0; c < kMaxChunks; ++c) {
      const int chunk = lane + c * kLanesPerRow;
      const bool valid = row < args.rows && 8 * chunk < args.head_dim;
      y[n][c] = valid ? *reinterpret_cast<const uint4*>(y_rows.at(token, group_head, chunk)) : uint4{0, 0, 0, 0};
      dy[n][c] = valid ? *reinterpret_cast<const uint4*>(dy_rows.at(token, group_head, chunk)) : uint4{0, 0, 0, 0};
    }
  }
  float own_product = 0.0f;
  POWER_UNROLL
  for (int n = 0; n < kRowsPerLane; ++n) {
    float product = 0.0f, total = 0.0f;
    POWER_UNROLL
    for (int c = 0; c < kMaxChunks; ++c) {
      const uint32_t y_pairs[4] = {y[n][c].x, y[n][c].y, y[n][c].z, y[n][c].w};
      const uint32_t dy_pairs[4] = {dy[n][c].x, dy[n][c].y, dy[n][c].z, dy[n][c].w};
      POWER_UNROLL
      for (int i = 0; i < 4; ++i) {
        const float low = bf16_low(dy_pairs[i]), high = bf16_high(dy_pairs[i]);
        product = fmaf(bf16_high(y_pairs[i]), high, fmaf(bf16_low(y_pairs[i]), low, product));
        total += low + high;
      }
    }
    product = sum_of_eight(product);
    if (lane == n) own_product = product;
    if (args.normalize != Normalize::kLayer) continue;
    // dY' = dY - mean dY - Y mean(dY Y)
    const float mean = sum_of_eight(total) / static_cast<float>(args.head_dim);
    const float slope = product / static_cast<float>(args.head_dim);
    const int row = row0 + n * kRowStep;
    if (row >= args.rows) continue;
    const int token = divide(row, args.group), group_head = row - token * static_cast<int>(args.group.divisor);
    const int64_t queries = args.keys - args.first_key, heads = int64_t{args.kv_heads.divisor} * args.group.divisor;
    const int64_t query_head = int64_t{head.kv_head} * args.group.divisor + group_head;
    uint16_t* out = args.dy_rows + ((head.batch * queries + token) * heads + query_head) * args.head_dim;
    POWER_UNROLL
    for (int c = 0; c < kMaxChunks; ++c) {
      const int column = 8 * (lane + c * kLanesPerRow);
      if (column >= args.head_dim) continue;
      const auto centred = [&](uint32_t y_pair, uint32_t dy_pair) {
        return pack_bf16(bf16_low(dy_pair) - mean - bf16_low(y_pair) * slope,
                         bf16_high(dy_pair) - mean - bf16_high(y_pair) * slope);
      };
      *reinterpret_cast<uint4*>(out + column) = {centred(y[n][c].x, dy[n][c].x), centred(y[n][c].y, dy[n][c].y),
                                                 centred(y[n][c].z, dy[n][c].z), centred(y[n][c].w, dy[n][c].w)};
    }
  }
  if (lane >= kRowsPerLane || own_row >= args.padded_rows) return;
  const float weight = segment > first_token ? 0.0f : inverse * exp2_approx(difference(own_gate, tile_gate));
  const int64_t index = int64_t{head.head} * args.padded_rows + own_row;
  args.row_weight[index] = weight;
  args.delta[index] = owns && args.normalize == Normalize::kSum ? own_product : 0.0f;
}

void run_gate_sums(const AttentionArgs& args, void* stream) {
  const dim3 grid(args.batch * args.kv_heads.divisor, ceil_div(args.padded_keys, kScanSpan));
  const size_t shared = sizeof(SegmentedSum) * kScanThreads / 32;
  if (grid.y > 1) launch(gate_totals_kernel, "gate_totals_kernel", grid, kScanThreads, shared, stream, args);
  launch(gate_sums_kernel, "gate_sums_kernel", grid, kScanThreads, shared, stream, args);
}

void run_key_max(const AttentionArgs& args, void* stream) {
  launch(key_max_kernel, "key_max_kernel", dim3(args.batch * args.kv_heads.divisor), kScanThreads,
         sizeof(float) * kScanThreads / 32, stream, args);
}

void run_backward_rows(const AttentionArgs& args, void* stream) {
  const dim3 grid(args.batch * args.kv_heads.divisor, ceil_div(args.padded_rows, kRowsPerBlock));
  launch(args.head_dim <= 64 ? backward_rows_kernel<64> : backward_rows_kernel<128>, "backward_rows_kernel", grid,
         kRowThreads, 0, stream, args);
}

void run_gate_gradient(const AttentionArgs& args, void* stream) {
  launch(gate_gradient_kernel, "gate_gradient_kernel", dim3(args.batch * args.kv_heads.divisor, args.chunks),
         kScanThreads, sizeof(SegmentedSum) * kScanThreads / 32, stream, args);
}

}  // namespace power::kernels
