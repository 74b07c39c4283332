#pragma once

#include "kernels/common/device.h"
#include "kernels/common/fast_divisor.h"
#include "kernels/power_attention/power_attention.h"

// What the kernels receive; in the quadratic form all keys are one chunk. "Rows" are the query rows of one kv head with
// the group's heads packed: row = token * R + head in group, so a tile never mixes kv heads and any R fills it. Row r
// stands at key position first_key + r / R.
namespace power::kernels {

inline constexpr int kGateTile = 64;  // keys share one reference for key_decay, rows one for row_decay
// exp2 of less is 0 in float32 (subnormals are flushed): such tiles are skipped.
inline constexpr float kNoWeightLog2 = -127.0f;

struct alignas(8) FloatPair {
  float high, low;
};

inline constexpr int kScanSpan = 1024;  // tokens whose gates one block sums

// Sum of a span's gates, and the last token in it that starts a segment.
struct GateTotal {
  double sum, start;
  int restart;  // whether there is one
};

// Running log2 gates of one launch, per (batch, kv head) padded_keys entries.
struct GateArrays {
  FloatPair* sum;    // c as a float pair (high, low): differences keep float's relative precision at any length
  int* segment;      // first key of the token's segment (tokens after a -inf gate, it included); -1 before any
  float* key_decay;  // exp2(c at the end of the key's tile of 64 - c of the key), 0 across a segment's start
};

struct StridedView {
  const uint16_t* data;
  int64_t batch, token, head;
};

// One state a (batch, kv head, chunk): the state before each chunk or, in the backward pass, the gradient of the state
// after it. Blocks of 64 rows x kDim (tile.cuh); state.cuh says what the rows are.
struct StateArrays {
  uint16_t* images;  // state_tiles blocks of the state, then (degree 2) the key products rounded, then what that lost
  float* keys;       // key products, degree 2: sum w k k^T, (kDim, kDim) in the order of a block; degree 1: sum w k
};

struct AttentionArgs {
  StridedView q, k, v, y, dy, dq, dk, dv;
  GateArrays gates;  // pointers are null where there are no gates
  GateTotal* gate_totals;
  float* inverse;    // r (batch, kv head, rows): y = r * n; dN = r * dY'
  float* row_scale;  // power of two for each row, degree > 2 only
  float* key_max;    // max |k| of each (batch, kv head), degree > 2 only
  float* l;
  // From the row kernel, padded_rows a (batch, kv head), zero in the padding:
  float* row_weight;  // r * exp2(c of the row - c at the start of its tile of 64 rows)
  float* delta;       // sum_e dY' Y where the normalisation is `sum`, else 0
  uint16_t* dy_rows;  // dY' for `layer`: (batch, token, head, element) contiguous
  float* row_dot;     // (q.dq / p) of each row, (batch, kv head, rows)
  float* key_dot;     // (k.dk / p) of each key, (batch, kv head, keys)
  float* dlog_g;
  int64_t dlog_g_batch, dlog_g_token, dlog_g_head;
  const float* log_g;
  int64_t log_g_batch, log_g_token, log_g_head;
  FastDivisor group, kv_heads;
  int batch, rows, padded_rows, keys, padded_keys, first_key, head_dim, degree;
  int chunk, chunks;                 // keys of a chunk, a multiple of 64 where there are several
  int first_query_chunk;             // the first one with query rows
  FastDivisor row_tiles, key_tiles;  // of a chunk, in the kernels that own query rows and keys
  StateArrays states, dstates;       // null where there is one chunk, no initial state and no gradient of a final one
  int state_tiles;                   // blocks of an image that hold the state itself
  bool has_initial, has_final;       // a state before the first key; after the last key a state, or its gradient
  float* key_state_dot;              // what the state has of key_dot; key_dot is then without it
  float* state_dot;                  // <state before, dstate after> times the decay of each chunk, in parts
  int state_dot_parts;
  float scale_power;  // scale^degree
  Normalize normalize;
  bool gated;
};

// The most query rows that one chunk holds.
inline int most_rows_of_chunk(const AttentionArgs& args) {
  const int64_t rows = int64_t{args.chunk} * args.group.divisor;
  return rows < args.rows ? static_cast<int>(rows) : args.rows;
}

}  // namespace power::kernels
