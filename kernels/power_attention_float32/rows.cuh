#pragma once

#include "kernels/common/launch.h"
#include "kernels/power_attention_float32/kernels.h"
#include "kernels/power_attention_float32/query_tile.cuh"

// The small kernels around the tile products.
namespace power::kernels::float32 {

inline constexpr int kSmallThreads = 256;

// Number of non-decreasing tuples of `length` indices out of n.
POWER_DEVICE int tuples(int n, int length) {
  int count = 1;
  for (int i = 0; i < length; ++i) count = count * (n + i) / (i + 1);
  return count;
}

// One thread a feature: the tuple of this number in lexicographic order.
__global__ void __launch_bounds__(kSmallThreads) features_kernel(const __grid_constant__ Args args) {
  const int feature = static_cast<int>(blockIdx.x) * kSmallThreads + static_cast<int>(threadIdx.x);
  const AttentionArgs& a = args.attention;
  if (feature >= round_up(args.feature_count, kFeaturePadding)) return;
  Feature out{0, 0.0f};
  if (feature < args.feature_count) {
    int left = feature, index = 0, run = 0;
    out.multiplicity = 1.0f;
    for (int n = 0; n < a.degree; ++n) {
      const int before = index;
      for (;; ++index) {
        const int count = tuples(a.head_dim - index, a.degree - 1 - n);
        if (left < count) break;
        left -= count;
      }
      run = n > 0 && index == before ? run + 1 : 1;
      out.multiplicity = out.multiplicity * static_cast<float>(n + 1) / static_cast<float>(run);
      out.indices |= static_cast<uint32_t>(index) << (8 * n);
    }
  }
  const_cast<Feature*>(args.features)[feature] = out;
}

__global__ void __launch_bounds__(kSmallThreads) key_max_kernel(const __grid_constant__ Args args) {
  POWER_SHARED_MEMORY(memory);
  float* warp_max = reinterpret_cast<float*>(memory);
  const AttentionArgs& a = args.attention;
  const int thread = threadIdx.x, chunks = a.head_dim / 4;
  const HeadIndex head(a, blockIdx.x);
  const RowsView k = keys_of(args.k, head);
  float largest = 0.0f;
  for (int64_t i = thread; i < int64_t{a.keys} * chunks; i += kSmallThreads) {
    const Four four = *reinterpret_cast<const Four*>(k.data + i / chunks * k.token_stride + i % chunks * 4);
    for (float x : four.value) largest = fmaxf(largest, fabsf(x));
  }
  for (int mask = 16; mask > 0; mask /= 2) largest = fmaxf(largest, shuffle_xor(largest, mask));
  if (thread % 32 == 0) warp_max[thread / 32] = largest;
  sync_block();
  if (thread != 0) return;
  for (int w = 1; w < kSmallThreads / 32; ++w) largest = fmaxf(largest, warp_max[w]);
  a.key_max[head.head] = largest;
}

inline constexpr int kLanesPerRow = 8;
inline constexpr int kRowsPerBlock = kSmallThreads / kLanesPerRow;

// Eight lanes a row, each with every eighth four columns.
struct LaneOfRow {
  int lane, row, token, group_head;
  bool valid;

  POWER_DEVICE explicit LaneOfRow(const AttentionArgs& args) {
    lane = static_cast<int>(threadIdx.x) % kLanesPerRow;
    row = static_cast<int>(blockIdx.y) * kRowsPerBlock + static_cast<int>(threadIdx.x) / kLanesPerRow;
    valid = row < args.rows;
    token = divide(valid ? row : 0, args.group);
    group_head = (valid ? row : 0) - token * static_cast<int>(args.group.divisor);
  }
  POWER_DEVICE const Four* columns(const View& view, const AttentionArgs& args, const HeadIndex& head) const {
    const int64_t heads = int64_t{head.kv_head} * args.group.divisor + group_head;
    return reinterpret_cast<const Four*>(view.data + head.batch * view.batch + token * view.token + heads * view.head);
  }
};

// The rows' power-of-two scales.
__global__ void __launch_bounds__(kSmallThreads) row_scale_kernel(const __grid_constant__ Args args) {
  const AttentionArgs& a = args.attention;
  const HeadIndex head(a, blockIdx.x);
  const LaneOfRow at(a);
  float largest = 0.0f;
  if (at.valid) {
    const Four* q = at.columns(args.q, a, head);
    for (int c = at.lane; c < a.head_dim / 4; c += kLanesPerRow) {
      for (float x : q[c].value) largest = fmaxf(largest, fabsf(x));
    }
  }
  for (int mask = 4; mask > 0; mask /= 2) largest = fmaxf(largest, shuffle_xor(largest, mask));
  if (!at.valid || at.lane != 0) return;
  a.row_scale[int64_t{head.head} * a.rows + at.row] = row_scale_for(largest, a.key_max[head.head]);
}

struct BackwardRowsArgs {
  Args call;
  float* dy_rows;  // `layer`: dY', (batch, token, head, element) contiguous
};

// What the gradient kernels need to know of y and dy.
__global__ void __launch_bounds__(kSmallThreads) backward_rows_kernel(const __grid_constant__ BackwardRowsArgs args) {
  const AttentionArgs& a = args.call.attention;
  const HeadIndex head(a, blockIdx.x);
  const LaneOfRow at(a);
  const int64_t index = int64_t{head.head} * a.rows + at.row;
  float product = 0.0f, total = 0.0f;
  if (at.valid) {
    const Four *y = at.columns(args.call.y, a, head), *dy = at.columns(args.call.dy, a, head);
    for (int c = at.lane; c < a.head_dim / 4; c += kLanesPerRow) {
      const Four y4 = y[c], dy4 = dy[c];
      for (int i = 0; i < 4; ++i) {
        product = fmaf(y4.value[i], dy4.value[i], product);
        total += dy4.value[i];
      }
    }
  }
  product = sum_of_eight(product);
  total = sum_of_eight(total);
  if (a.normalize == Normalize::kLayer && at.valid) {  // dY' = dY - mean dY - Y mean(dY Y)
    const float mean = total / static_cast<float>(a.head_dim), slope = product / static_cast<float>(a.head_dim);
    const int queries = a.keys - a.first_key, heads = a.kv_heads.divisor * a.group.divisor;
    const int64_t head_index = int64_t{head.kv_head} * a.group.divisor + at.group_head;
    float* out = args.dy_rows + ((int64_t{head.batch} * queries + at.token) * heads + head_index) * a.head_dim;
    const Four *y = at.columns(args.call.y, a, head), *dy = at.columns(args.call.dy, a, head);
    for (int c = at.lane; c < a.head_dim / 4; c += kLanesPerRow) {
      const Four y4 = y[c], dy4 = dy[c];
      Four four;
      for (int i = 0; i < 4; ++i) four.value[i] = dy4.value[i] - mean - y4.value[i] * slope;
      reinterpret_cast<Four*>(out)[c] = four;
    }
  }
  if (at.lane != 0 || at.row >= a.padded_rows) return;
  float weight = 0.0f, delta = 0.0f;
  if (at.valid) {
    weight = a.inverse[index];
    if (a.normalize == Normalize::kSum) delta = product;
    if (args.call.dl !=
        nullptr) {  // r (dY.v - delta) is the gradient of a weight; l is 1/r or, for `none`, in r's unit
      delta -= a.normalize == Normalize::kSum ? args.call.dl[index] * a.l[index] : args.call.dl[index];
    }
    if (a.gated) {
      const GateArrays gates = head.gates(a);
      const int token = a.first_key + at.token, first_token = token_of_row(a, at.row / kGateTile * kGateTile);
      const float gate = exp2_approx(difference(gates.sum[token], gates.sum[first_token]));
      weight = gates.segment[token] > first_token ? 0.0f : weight * gate;
    }
  }
  const int64_t padded = int64_t{head.head} * a.padded_rows + at.row;
  a.row_weight[padded] = weight;
  a.delta[padded] = delta;
}

void run_features(const Args& args, void* stream) {
  const int count = round_up(args.feature_count, kFeaturePadding);
  launch(features_kernel, "features_kernel", dim3(ceil_div(count, kSmallThreads)), kSmallThreads, 0, stream, args);
}

void run_row_scales(const Args& args, void* stream) {
  const AttentionArgs& a = args.attention;
  const unsigned heads = a.batch * a.kv_heads.divisor;
  launch(key_max_kernel, "float32 key_max_kernel", dim3(heads), kSmallThreads, sizeof(float) * kSmallThreads / 32,
         stream, args);
  launch(row_scale_kernel, "row_scale_kernel", dim3(heads, ceil_div(a.rows, kRowsPerBlock)), kSmallThreads, 0, stream,
         args);
}

void run_backward_rows(const Args& args, float* dy_rows, void* stream) {
  const AttentionArgs& a = args.attention;
  const dim3 grid(a.batch * a.kv_heads.divisor, ceil_div(a.padded_rows, kRowsPerBlock));
  launch(backward_rows_kernel, "float32 backward_rows_kernel", grid, kSmallThreads, 0, stream,
         BackwardRowsArgs{args, dy_rows});
}

}  // namespace power::kernels::float32
