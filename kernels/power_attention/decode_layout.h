#pragma once

#include <cstdint>

#include "kernels/common/device.h"
#include "kernels/common/fast_divisor.h"
#include "kernels/power_attention/args.h"

// What the decode kernels read and write.
//
// Feature rows. phi has kDim (kDim + 1) / 2 rows for degree 2, none twice: row f = d * kDim + i is k_i k_j with
// j = (i + d) mod kDim, d = 0 .. kDim / 2 (half of the last), weighted 2 in the state where d > 0. 16 consecutive rows,
// a step, share d. Degree 1: row i is k_i.
//
// Fragment order. 16 rows x 16 columns are 512 bytes, 16 a lane, as mma.m16n8k16 wants its B operand: lane 4 (c % 8) +
// r % 8 / 2 holds (r, c) in word 2 (c / 8) + r / 8, half r % 2. The same words are the A operand of the transpose, and
// what its accumulators come out as. State and values are stored so: they go between memory and the tensor cores
// without a shuffle or a conversion.
namespace power::kernels {

inline constexpr int kDecodeWarps = 4;
inline constexpr int kDecodeThreads = 32 * kDecodeWarps;
inline constexpr int kDecodeStepRows = 16;
inline constexpr int kDecodeRowGroup = 8;  // query rows a block serves at once: half of an mma's rows
// A window is folded rather than grow beyond this, and folds stage as many tokens at once. Fewer tokens: more folds,
// each reads and writes the whole state; more: queries read more keys, and a fold is serial and its launch waits for
// it.
inline constexpr int kDecodeFoldTokens = 64;
inline constexpr float kLog2OfE = 1.4426950408889634f;  // gates come as natural logarithms

// At the start of each record; all zero is an empty cache.
struct alignas(16) DecodeMeta {
  int length;          // tokens in the window
  float total;         // log2 gate sum of the window
  uint16_t has_state;  // 0: the state is not to be read (nothing folded yet, or a segment started since)
  uint16_t folded;     // 0: the first fold comes early, by a different number of tokens for each record
  int arrivals;        // blocks that have finished this step; 0 between steps
};

// Byte offsets in a record of one (sequence, kv head).
struct DecodeLayout {
  int steps;            // of 16 feature rows
  uint32_t gates;       // float (window): log2 gate sum from the window's start, the token's own included
  uint32_t key_sum;     // float (steps, 4, 4): rows 2q, 2q+1, 2q+8, 2q+9 of a step for q = 0..3
  uint32_t keys;        // bf16 (window, kDim)
  uint32_t values;      // bf16, steps of 16 tokens in fragment order
  uint32_t state_high;  // bf16, steps of 16 feature rows in fragment order: what queries read
  uint32_t state_low;   // the same, state - state_high: only folds read it
  uint32_t bytes;

  static constexpr DecodeLayout of(int dim, int degree, int window) {
    DecodeLayout layout{};
    layout.steps = (degree == 1 ? dim : dim * (dim + 1) / 2) / kDecodeStepRows;
    uint32_t used = 256;
    const auto take = [&used](int bytes) {
      const uint32_t at = used;
      used += round_up<uint32_t>(bytes, 256);
      return at;
    };
    layout.gates = take(window * 4);
    layout.key_sum = take(layout.steps * kDecodeStepRows * 4);
    layout.keys = take(window * dim * 2);
    layout.values = take(window * dim * 2);
    layout.state_high = take(layout.steps * kDecodeStepRows * dim * 2);
    layout.state_low = take(layout.steps * kDecodeStepRows * dim * 2);
    layout.bytes = used;
    return layout;
  }
};

struct DecodeArgs {
  StridedView q, k, v, y;
  const float* log_g;  // or null
  int64_t log_g_batch, log_g_token, log_g_head;
  uint8_t* cache;
  float* partials;  // (record, split, row, kDim + 4): the split's share of n, and at kDim of l
  float* state;     // import and export: sym-lex/1
  float* key_sum;
  DecodeLayout layout;
  FastDivisor kv_heads, group, splits;  // import and export: splits is the number of steps
  int records, query_len, rows, head_dim, window;
  float scale_power;  // scale^degree
  Normalize normalize;
};

struct DecodeKernels {
  int head_dim, degree;
  void (*step)(const DecodeArgs&, void* stream);
  void (*fold)(const DecodeArgs&, void* stream);
  void (*import_state)(const DecodeArgs&, void* stream);
  void (*export_state)(const DecodeArgs&, void* stream);
};

template <int kDim, int kDegree>
DecodeKernels decode_kernels();

}  // namespace power::kernels
