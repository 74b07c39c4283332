#pragma once

#include "kernels/common/tile.cuh"
#include "kernels/power_attention/args.h"
#include "kernels/power_attention/supported.h"

// Pieces that the forward and backward kernels of the quadratic form share.
namespace power::kernels {

// a - b of two float pairs: exact where they are close, float's relative precision where they are not.
POWER_DEVICE float difference(const FloatPair& a, const FloatPair& b) { return (a.high - b.high) + (a.low - b.low); }

// u = (s * row_scale)^(degree-1) * weight, so that a weight of the operator is s * u and its derivative degree * u.
template <int kDegree>
POWER_DEVICE float power_weight(float s, float row_scale, float weight, int degree) {
  if constexpr (kDegree == 1) return weight;
  if constexpr (kDegree == 2) return s * weight;
  const float x = s * row_scale;
  float u = weight;
  POWER_ROLLED
  for (int i = 1; i < degree; ++i) u *= x;
  return u;
}

// row_scale^(degree-1), the unit of the sums over power_weight.
template <int kDegree>
POWER_DEVICE float power_unit(float row_scale, int degree) {
  if constexpr (kDegree != kAnyDegree) return 1.0f;
  float u = 1.0f;
  POWER_ROLLED
  for (int i = 1; i < degree; ++i) u *= row_scale;
  return u;
}

// One (batch, kv head) of the problem.
struct HeadIndex {
  int head;  // batch * kv_heads + kv head
  int batch, kv_head;

  POWER_DEVICE HeadIndex(const AttentionArgs& args, int index)
      : head(index), batch(divide(index, args.kv_heads)), kv_head(index - batch * args.kv_heads.divisor) {}

  POWER_DEVICE RowView rows(const StridedView& view, const AttentionArgs& args) const {
    const uint16_t* first = view.data + batch * view.batch + int64_t{kv_head} * args.group.divisor * view.head;
    return {reinterpret_cast<const uint8_t*>(first), 2 * static_cast<int>(view.token), 2 * static_cast<int>(view.head)};
  }
  POWER_DEVICE RowView keys(const StridedView& view) const {
    const uint16_t* first = view.data + batch * view.batch + kv_head * view.head;
    return {reinterpret_cast<const uint8_t*>(first), 2 * static_cast<int>(view.token), 0};
  }
  POWER_DEVICE GateArrays gates(const AttentionArgs& args) const {
    const int64_t offset = int64_t{head} * args.padded_keys;
    return {args.gates.sum + offset, args.gates.segment + offset, args.gates.key_decay + offset};
  }
};

// What the key loop of a tile of query rows loads from. It is kept in shared memory: computed again for each block it
// would take more instructions than the copies, and the registers are needed for the products.
struct KeySource {
  RowView k, v;
  GateArrays gates;

  POWER_DEVICE KeySource(const AttentionArgs& args, const HeadIndex& head)
      : k(head.keys(args.k)), v(head.keys(args.v)), gates(head.gates(args)) {}
};

POWER_DEVICE int token_of_row(const AttentionArgs& args, int row) { return args.first_key + divide(row, args.group); }

// Blocks take long tiles first, so that the short ones fill the tail; heads vary fastest, so that they share them.
// The kernels' grids are (batch * kv heads, tiles).

// The key blocks of 64 that a tile of query rows sees: `before` ends the blocks whose keys all precede (or are) the
// first token, so that one factor a key and one a row replace the gate of a pair; the rest are masked one by one.
struct KeyBlocks {
  int begin, before, end;
};

// The search for blocks without weight costs a round trip to memory: below this many blocks it would not pay.
inline constexpr int kFewBlocks = 16;

// Of the blocks of 64 keys from first_block on, leaves out leading ones whose every weight is 0: closed gates or
// another segment.
template <int kThreads>
POWER_DEVICE KeyBlocks find_key_blocks(const AttentionArgs& args, const GateArrays& gates, int first_block,
                                       int first_token, int last_token, int thread) {
  KeyBlocks blocks{first_block, (first_token + 1) / kBlockRows, last_token / kBlockRows + 1};
  if (!args.gated || blocks.before - blocks.begin <= kFewBlocks) return blocks;
  const FloatPair reference = gates.sum[first_token];
  const int segment = gates.segment[first_token];
  for (int base = first_block; base < blocks.before; base += kThreads) {
    const int last_key = (base + thread) * kBlockRows + kBlockRows - 1;
    const bool dead = base + thread < blocks.before &&
                      (segment > last_key || difference(reference, gates.sum[last_key]) < kNoWeightLog2);
    const int count = sync_block_count(dead);
    blocks.begin += count;
    if (count < kThreads) break;
  }
  return blocks;
}

// How a block of scores gets its gates and its mask.
enum class Masking {
  kNone,   // every key precedes every row: factor of the key, relative to the tile's reference token
  kShare,  // the same factors, and a mask: the gates inside the tile are mild enough for factors above 1
  kExact,  // exp2(c_i - c_j) of each pair, and a mask that knows of segments
};

// Factors above 1 stay below 2^64 where the gates change less than this over a tile.
inline constexpr float kMildLog2 = -64.0f;

// Whether tokens first..last lie in one segment with mild gates.
POWER_DEVICE bool gates_are_mild(const AttentionArgs& args, const GateArrays& gates, int first, int last) {
  return !args.gated || (gates.segment[last] <= first && difference(gates.sum[last], gates.sum[first]) > kMildLog2);
}

// The rows of a tile, in shared memory.
template <int kRows>
struct RowGates {
  int token[kRows], segment[kRows];
  float log2_gate[kRows];  // relative to the tile's first token

  POWER_DEVICE void load(const AttentionArgs& args, const GateArrays& gates, const FloatPair& reference, int row0,
                         int row_end, int thread) {
    if (thread >= kRows) return;
    const int row = row0 + thread < row_end ? row0 + thread : row_end - 1;
    token[thread] = token_of_row(args, row);
    segment[thread] = args.gated ? gates.segment[token[thread]] : -1;
    log2_gate[thread] = args.gated ? difference(gates.sum[token[thread]], reference) : 0.0f;
  }
  // Of a key before (or at) the first token, beyond that key's own factor.
  POWER_DEVICE float factor(int row, int first_token) const {
    return segment[row] > first_token ? 0.0f : exp2_approx(log2_gate[row]);
  }
};

// What a stage holds of its 64 keys besides k and v.
struct KeyFactors {
  float factor[kBlockRows];  // exp2(c at the block's end - c_j); Masking::kExact: c_j relative to the reference
  FloatPair last_sums[2];    // c of the block's last two keys
};

// Fills them, by cp.async unless Masking::kExact.
POWER_DEVICE void load_key_factors(const AttentionArgs& args, const GateArrays& gates, KeyFactors& factors, int block,
                                   bool exact, const FloatPair& reference, int thread) {
  if (!args.gated) return;
  const int key0 = block * kBlockRows;
  if (exact) {
    if (thread >= kBlockRows) return;
    const int key = key0 + thread;
    factors.factor[thread] = key < args.keys ? difference(gates.sum[key], reference) : 0.0f;
  } else if (thread < kBlockRows / 4) {
    cp_async_16(shared_address(factors.factor + 4 * thread), gates.key_decay + key0 + 4 * thread, true);
  } else if (thread == 32) {  // of another warp
    cp_async_16(shared_address(factors.last_sums), gates.sum + key0 + kBlockRows - 2, true);
  }
}

}  // namespace power::kernels
