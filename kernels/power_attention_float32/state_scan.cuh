#pragma once

#include "kernels/common/launch.h"
#include "kernels/power_attention_float32/kernels.h"
#include "kernels/power_attention_float32/query_tile.cuh"

// The recurrence over chunks, element by element. Elements are those of the state, then those of the key sum.
namespace power::kernels::float32 {

inline constexpr int kScanThreads = 256;
inline constexpr int kScanElements = 4;  // of a thread, kScanThreads apart

struct ScanArgs {
  Args call;
  OutsideStates outside;
};

// What is left at a chunk's end of the state before it.
POWER_DEVICE float decay_of_chunk(const AttentionArgs& args, const GateArrays& gates, int index) {
  if (!args.gated) return 1.0f;
  const Chunk chunk(args, index);
  const int last = chunk.end_key - 1;
  if (gates.segment[last] >= chunk.first_key) return 0.0f;
  return exp2_approx(difference(gates.sum[last], chunk.gates_before(gates)));
}

// A thread's elements of the states of one head.
class ScanPiece {
 public:
  struct Elements {
    float value[kScanElements];
  };

  POWER_DEVICE ScanPiece(const Args& args, const HeadIndex& head)
      : features_(args.feature_count), sums_(args.feature_count * args.attention.head_dim), head_(head.head) {
    first_ = static_cast<int>(blockIdx.y) * kScanThreads * kScanElements + static_cast<int>(threadIdx.x);
  }
  // Element i of state number `state` of an array; null where there is none.
  POWER_DEVICE float* at(float* sums, float* keys, int64_t state, int i) const {
    const int element = first_ + i * kScanThreads;
    if (element < sums_) return sums + state * sums_ + element;
    return element < sums_ + features_ ? keys + state * features_ + (element - sums_) : nullptr;
  }
  POWER_DEVICE Elements load(float* sums, float* keys, int64_t state) const {
    Elements x;
    POWER_UNROLL
    for (int i = 0; i < kScanElements; ++i) {
      const float* from = at(sums, keys, state, i);
      x.value[i] = from == nullptr ? 0.0f : *from;
    }
    return x;
  }
  POWER_DEVICE void store(float* sums, float* keys, int64_t state, const Elements& x) const {
    POWER_UNROLL
    for (int i = 0; i < kScanElements; ++i) {
      if (float* to = at(sums, keys, state, i)) *to = x.value[i];
    }
  }
  // State number of a chunk.
  POWER_DEVICE static int64_t number(const States& states, const HeadIndex& head, int chunk) {
    return head.batch * states.batch + head.kv_head * states.head + chunk * states.chunk;
  }
  POWER_DEVICE Elements load_outside(const float* sums, const float* keys) const {
    if (sums == nullptr) return Elements{};
    return load(const_cast<float*>(sums), const_cast<float*>(keys), head_);
  }
  POWER_DEVICE void store_outside(float* sums, float* keys, const Elements& x) const {
    if (sums != nullptr) store(sums, keys, head_, x);
  }

 private:
  int features_, sums_, head_, first_;
};

__global__ void __launch_bounds__(kScanThreads) state_scan_kernel(const __grid_constant__ ScanArgs args) {
  const AttentionArgs& a = args.call.attention;
  const States& states = args.call.states;
  const OutsideStates& outside = args.outside;
  const HeadIndex head(a, blockIdx.x);
  const GateArrays gates = head.gates(a);
  const ScanPiece piece(args.call, head);
  const auto load = [&](int chunk) {  // the last chunk's sum reaches the final state only
    if (chunk >= a.chunks || (chunk + 1 == a.chunks && outside.out_state == nullptr)) return ScanPiece::Elements{};
    return piece.load(states.sums, states.keys, ScanPiece::number(states, head, chunk));
  };
  ScanPiece::Elements run = piece.load_outside(outside.in_state, outside.in_keys), next = load(0);
  for (int chunk = 0; chunk < a.chunks; ++chunk) {
    const ScanPiece::Elements sum = next;
    next = load(chunk + 1);  // on its way while this chunk is worked on
    piece.store(states.sums, states.keys, ScanPiece::number(states, head, chunk), run);
    const float decay = decay_of_chunk(a, gates, chunk);
    POWER_UNROLL
    for (int i = 0; i < kScanElements; ++i) run.value[i] = fmaf(run.value[i], decay, sum.value[i]);
  }
  piece.store_outside(outside.out_state, outside.out_keys, run);
}

__global__ void __launch_bounds__(kScanThreads) dstate_scan_kernel(const __grid_constant__ ScanArgs args) {
  const AttentionArgs& a = args.call.attention;
  const States &states = args.call.states, &dstates = args.call.dstates;
  const OutsideStates& outside = args.outside;
  const HeadIndex head(a, blockIdx.x);
  const GateArrays gates = head.gates(a);
  const ScanPiece piece(args.call, head);
  const auto has_state = [&](int chunk) { return chunk > 0 || (chunk == 0 && a.has_initial); };
  const auto load_sum = [&](int chunk) {
    if (!has_state(chunk) || chunk < a.first_query_chunk) return ScanPiece::Elements{};
    return piece.load(dstates.sums, dstates.keys, ScanPiece::number(dstates, head, chunk));
  };
  const auto load_state = [&](int chunk) {
    if (!has_state(chunk) || !a.gated) return ScanPiece::Elements{};
    return piece.load(states.sums, states.keys, ScanPiece::number(states, head, chunk));
  };
  ScanPiece::Elements run = piece.load_outside(outside.in_state, outside.in_keys);
  ScanPiece::Elements next_sum = load_sum(a.chunks - 1), next_state = load_state(a.chunks - 1);
  for (int chunk = a.chunks - 1; chunk >= 0; --chunk) {
    const ScanPiece::Elements sum = next_sum, state = next_state;
    next_sum = load_sum(chunk - 1);
    next_state = load_state(chunk - 1);
    if (chunk + 1 < a.chunks || a.has_final) {
      piece.store(dstates.sums, dstates.keys, ScanPiece::number(dstates, head, chunk), run);
    }
    const float decay = decay_of_chunk(a, gates, chunk);
    if (a.gated) {
      float dot = 0.0f;
      POWER_UNROLL
      for (int i = 0; i < kScanElements; ++i) dot = fmaf(state.value[i], run.value[i], dot);
      for (int mask = 16; mask > 0; mask /= 2) dot += shuffle_xor(dot, mask);
      if (threadIdx.x % 32 == 0) {
        const int part = static_cast<int>(blockIdx.y * (kScanThreads / 32) + threadIdx.x / 32);
        a.state_dot[(int64_t{head.head} * a.chunks + chunk) * a.state_dot_parts + part] = dot * decay;
      }
    }
    POWER_UNROLL
    for (int i = 0; i < kScanElements; ++i) run.value[i] = fmaf(run.value[i], decay, sum.value[i]);
  }
  piece.store_outside(outside.out_state, outside.out_keys, run);
}

inline int scan_blocks(int feature_count, int head_dim) {
  return ceil_div(feature_count * (head_dim + 1), kScanThreads * kScanElements);
}

int state_dot_parts(int feature_count, int head_dim) {
  return scan_blocks(feature_count, head_dim) * (kScanThreads / 32);
}

void run_state_scan(const Args& args, const OutsideStates& outside, void* stream) {
  const AttentionArgs& a = args.attention;
  launch(state_scan_kernel, "float32 state_scan_kernel",
         dim3(a.batch * a.kv_heads.divisor, scan_blocks(args.feature_count, a.head_dim)), kScanThreads, 0, stream,
         ScanArgs{args, outside});
}

void run_dstate_scan(const Args& args, const OutsideStates& outside, void* stream) {
  const AttentionArgs& a = args.attention;
  launch(dstate_scan_kernel, "float32 dstate_scan_kernel",
         dim3(a.batch * a.kv_heads.divisor, scan_blocks(args.feature_count, a.head_dim)), kScanThreads, 0, stream,
         ScanArgs{args, outside});
}

}  // namespace power::kernels::float32
