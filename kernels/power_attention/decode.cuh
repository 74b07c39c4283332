#pragma once

#include "kernels/common/launch.h"
#include "kernels/power_attention/decode_fold.cuh"
#include "kernels/power_attention/decode_state.cuh"
#include "kernels/power_attention/decode_stream.cuh"
#include "kernels/power_attention/supported.h"

// One decode step of a layer: block (record, split) takes its share of the record's feature rows and
// keys, for 8 query rows at a time, then folds the window into its feature rows where that is due. The last block of a
// record to finish adds the shares up in order, writes y and puts the new tokens into the window.
namespace power::kernels {

template <int kDim>
struct DecodeShared {
  union alignas(16) {
    DecodeRing<kDim> rings[kDecodeWarps];
    DecodeFoldShared<kDim> fold;
    float row_sums[kDecodeWarps][kDecodeWarps][kDim + 4];  // of a row and every kDecodeWarps-th split
  };
  // Query rows of the group, as they come and as floats twice over, so that (i + d) mod kDim needs no modulo. Row
  // lengths spread the rows of a fragment over the banks.
  uint4 query[kDecodeRowGroup][kDim / 8 + 1];
  float factors[kDecodeRowGroup][2 * kDim + 8];
  int row_token[kDecodeRowGroup];  // -1: no such row
  // New tokens: log2 gate sum since the step began or the latest segment start among them, and that start or -1.
  float new_gates[kMaxDecodeWindow];
  int new_start[kMaxDecodeWindow];
  int is_last;
};

template <int kDim>
struct DecodeBlocks {  // a multiprocessor holds at once; registers follow from it
  static constexpr int kCount = kDim == 32 ? 5 : kDim == 64 ? 4 : 2;
};

// Gates of the new tokens, as a thread reads them: every kDecodeThreads-th.
struct NewGates {
  float at[kMaxDecodeWindow / kDecodeThreads];

  POWER_DEVICE NewGates(const DecodeArgs& args, const DecodeRecord& record, int thread) {
    const float* log_g = args.log_g + record.batch * args.log_g_batch + record.kv_head * args.log_g_head;
    POWER_UNROLL
    for (int i = 0; i < kMaxDecodeWindow / kDecodeThreads; ++i) {
      const int t = i * kDecodeThreads + thread;
      at[i] = args.log_g != nullptr && t < args.query_len ? log_g[t * args.log_g_token] : 0.0f;
    }
  }
};

// Nothing in shared memory is known to other threads before.
template <int kDim>
POWER_DEVICE void scan_new_gates(DecodeShared<kDim>& shared, const DecodeArgs& args, const NewGates& gates,
                                 int thread) {
  POWER_UNROLL
  for (int i = 0; i < kMaxDecodeWindow / kDecodeThreads; ++i) {
    shared.new_gates[i * kDecodeThreads + thread] = gates.at[i] * kLog2OfE;
  }
  if (args.query_len > 1) sync_block();
  if (thread == 0) {
    float sum = 0.0f;
    int start = -1;
    POWER_ROLLED
    for (int t = 0; t < args.query_len; ++t) {
      if (shared.new_gates[t] < kNoWeightLog2) {
        sum = 0.0f;
        start = t;
      } else {
        sum += shared.new_gates[t];
      }
      shared.new_gates[t] = sum;
      shared.new_start[t] = start;
    }
  }
  sync_block();
}

// Query rows row0..row0+7 into shared memory: thread by thread, chunk thread % kChunks of row thread / kChunks.
template <int kDim>
POWER_DEVICE void place_query_rows(DecodeShared<kDim>& shared, const DecodeArgs& args, const DecodeRecord& record,
                                   int row0, int thread) {
  constexpr int kChunks = kDim / 8;
  static_assert(kDecodeRowGroup * kChunks <= kDecodeThreads, "one chunk a thread");
  const int r = thread / kChunks, chunk = thread % kChunks, row = row0 + r;
  if (r >= kDecodeRowGroup) return;
  const bool valid = row < args.rows;
  const int token = divide(valid ? row : 0, args.group);
  const int head = (valid ? row : 0) - token * static_cast<int>(args.group.divisor);
  uint4 values{};
  if (valid && 8 * chunk < args.head_dim) {
    values = *reinterpret_cast<const uint4*>(args.q.data + record.batch * args.q.batch + token * args.q.token +
                                             (int64_t{record.kv_head} * args.group.divisor + head) * args.q.head +
                                             8 * chunk);
  }
  shared.query[r][chunk] = values;
  const uint32_t pairs[4] = {values.x, values.y, values.z, values.w};
  POWER_UNROLL
  for (int w = 0; w < 4; ++w) {
    float* to = &shared.factors[r][8 * chunk + 2 * w];
    to[0] = to[kDim] = bf16_low(pairs[w]);
    to[1] = to[kDim + 1] = bf16_high(pairs[w]);
  }
  if (chunk == 0) shared.row_token[r] = valid ? token : -1;
}

// n, l += gate * the state's share; gate is that of the lane's row.
template <int kDim, int kDegree>
POWER_DEVICE void query_state(float (&n)[kDim / 8][4], float& l, const DecodeShared<kDim>& shared,
                              const DecodePiece<kDim>& piece, float gate, int step, int lane) {
  const FeatureStep<kDim, kDegree> features(step);
  const float* left = &shared.factors[lane / 4][features.first + 2 * (lane % 4)];
  float x[4] = {left[0] * gate, left[1] * gate, left[8] * gate, left[9] * gate};
  if constexpr (kDegree == 2) {
    const float* right = left + features.shift;
    x[0] *= right[0];
    x[1] *= right[1];
    x[2] *= right[8];
    x[3] *= right[9];
  }
  const uint4 z = piece.extra[lane % 4];
  l += (x[0] * __uint_as_float(z.x) + x[1] * __uint_as_float(z.y)) +
       (x[2] * __uint_as_float(z.z) + x[3] * __uint_as_float(z.w));
  uint32_t a[4];
  split_rows(a, x);
  multiply_rows<kDim>(n, a, [&](int part) { return piece.rows[part][lane]; });
}

// The A operand P = s^degree * weight(key) of 16 keys; l += sum P. A weight below 0 masks the key. keys(block, m) is
// chunk q + 4m of row 8 block + g: it serves as k = 16 (2m).. and 16 (2m + 1).. of the product: the order of the summed
// index is free, and so a row needs no rearrangement.
template <int kDim, int kDegree, class Keys, class Weight>
POWER_DEVICE void score_keys(uint32_t (&a)[4], float& l, const DecodeShared<kDim>& shared, const Keys& keys,
                             const Weight& weight, int lane) {
  const int g = lane / 4, q = lane % 4;
  float s[2][4] = {};
  POWER_UNROLL
  for (int m = 0; m < kDim / 32; ++m) {
    const uint4 row = shared.query[g][q + 4 * m];
    const uint32_t even[4] = {row.x, 0, row.y, 0}, odd[4] = {row.z, 0, row.w, 0};
    POWER_UNROLL
    for (int block = 0; block < 2; ++block) {
      const uint4 key = keys(block, m);
      mma_m16n8k16_bf16(s[block], even, key.x, key.y);
      mma_m16n8k16_bf16(s[block], odd, key.z, key.w);
    }
  }
  float p[4];
  POWER_UNROLL
  for (int i = 0; i < 4; ++i) {
    const float score = s[i / 2][i % 2], w = weight(8 * (i / 2) + 2 * q + i % 2);
    // Memory of keys that are not there may hold anything: a comparison, not a product, takes it out.
    p[i] = w < 0.0f ? 0.0f : (kDegree == 2 ? score * score : score) * w;
    l += p[i];
  }
  split_rows(a, p);
}

// New tokens 16 * tile.. of this step as operands, straight from the inputs.
template <int kDim>
struct NewTile {
  uint4 keys[2][kDim / 32], values[kDim / 16];

  POWER_DEVICE void load(const DecodeArgs& args, const DecodeRecord& record, int tile, int lane) {
    const uint16_t *k = record.tokens(args.k), *v = record.tokens(args.v);
    POWER_UNROLL
    for (int block = 0; block < 2; ++block) {
      POWER_UNROLL
      for (int m = 0; m < kDim / 32; ++m) {
        const int token = 16 * tile + 8 * block + lane / 4, column = 8 * (lane % 4 + 4 * m);
        keys[block][m] = {};
        if (token < args.query_len && column < args.head_dim) {
          keys[block][m] = *reinterpret_cast<const uint4*>(k + token * args.k.token + column);
        }
      }
    }
    const auto value = [&](int token, int column) -> uint32_t {
      return token < args.query_len && column < args.head_dim ? v[token * args.v.token + column] : 0;
    };
    const auto pair = [&](int token, int column) { return value(token, column) | value(token + 1, column) << 16; };
    const int token = 16 * tile + 2 * (lane % 4);
    POWER_UNROLL
    for (int n = 0; n < kDim / 16; ++n) {
      const int column = 16 * n + lane / 4;
      values[n] = {pair(token, column), pair(token + 8, column), pair(token, column + 8), pair(token + 8, column + 8)};
    }
  }
};

// The block's share of n and l for query rows row0.., into args.partials.
template <int kDim>
POWER_DEVICE void store_partials(DecodeShared<kDim>& shared, const DecodeArgs& args, int64_t share, int row0,
                                 const float (&n)[kDim / 8][4], float l, int thread) {
  const int lane = thread % 32, warp = thread / 32, g = lane / 4, q = lane % 4;
  POWER_UNROLL
  for (int block = 0; block < kDim / 8; ++block) {
    float* to = &shared.rings[warp].sums[g][8 * block + 2 * q];
    to[0] = n[block][0] + n[block][2];
    to[1] = n[block][1] + n[block][3];
  }
  l += shuffle_xor(l, 1);
  l += shuffle_xor(l, 2);
  if (q == 0) shared.rings[warp].sums[g][kDim] = l;
  sync_block();
  const int rows = args.rows - row0 < kDecodeRowGroup ? args.rows - row0 : kDecodeRowGroup;
  float* to = args.partials + (share * args.rows + row0) * (kDim + 4);
  for (int i = thread; i < rows * (kDim + 4); i += kDecodeThreads) {
    const int r = i / (kDim + 4), column = i % (kDim + 4);
    if (column > kDim) continue;
    float sum = 0.0f;
    POWER_UNROLL
    for (int w = 0; w < kDecodeWarps; ++w) sum += shared.rings[w].sums[r][column];
    to[i] = sum;
  }
  sync_block();
}

POWER_DEVICE float warp_sum(float x) {
  POWER_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) x += shuffle_xor(x, mask);
  return x;
}

POWER_DEVICE float warp_max(float x) {
  POWER_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) x = fmaxf(x, shuffle_xor(x, mask));
  return x;
}

// n and l of a row: the shares of splits first, first + stride .. in order. A lane has columns lane, lane + 32 ...
template <int kDim>
POWER_DEVICE void add_shares(float (&n)[kDim / 32], float& l, const DecodeArgs& args, const float* share, int first,
                             int stride, int lane) {
  constexpr int kAtOnce = 8;  // loads on their way
  const int splits = static_cast<int>(args.splits.divisor);
  POWER_ROLLED
  for (int base = first; base < splits; base += kAtOnce * stride) {
    float part[kAtOnce][kDim / 32 + 1];
    POWER_UNROLL
    for (int i = 0; i < kAtOnce; ++i) {
      const int split = base + i * stride;
      const float* from = share + int64_t{split} * args.rows * (kDim + 4);
      POWER_UNROLL
      for (int c = 0; c < kDim / 32; ++c) part[i][c] = split < splits ? load_through(from + 32 * c + lane) : 0.0f;
      part[i][kDim / 32] = split < splits ? load_through(from + kDim) : 0.0f;
    }
    POWER_UNROLL
    for (int i = 0; i < kAtOnce; ++i) {
      POWER_UNROLL
      for (int c = 0; c < kDim / 32; ++c) n[c] += part[i][c];
      l += part[i][kDim / 32];
    }
  }
}

// Adds up the splits of each row in a fixed order and writes y, a warp a row. Where there are fewer rows than warps,
// all warps share the splits of each.
template <int kDim>
POWER_DEVICE void finish_rows(DecodeShared<kDim>& shared, const DecodeArgs& args, const DecodeRecord& record,
                              int thread) {
  constexpr int kColumns = kDim / 32;  // of a lane
  const int lane = thread % 32, warp = thread / 32;
  const float* shares =
      args.partials + int64_t{record.index} * static_cast<int>(args.splits.divisor) * args.rows * (kDim + 4);
  uint16_t* y = const_cast<uint16_t*>(args.y.data) + record.batch * args.y.batch +
                int64_t{record.kv_head} * args.group.divisor * args.y.head;
  const bool together = args.rows < kDecodeWarps;
  if (together) {
    for (int row = 0; row < args.rows; ++row) {
      float n[kColumns] = {}, l = 0.0f;
      add_shares<kDim>(n, l, args, shares + row * (kDim + 4), warp, kDecodeWarps, lane);
      POWER_UNROLL
      for (int c = 0; c < kColumns; ++c) shared.row_sums[row][warp][32 * c + lane] = n[c];
      if (lane == 0) shared.row_sums[row][warp][kDim] = l;
    }
    sync_block();
  }
  for (int row = warp; row < args.rows; row += kDecodeWarps) {
    float n[kColumns] = {}, l = 0.0f;
    if (together) {
      POWER_UNROLL
      for (int w = 0; w < kDecodeWarps; ++w) {
        POWER_UNROLL
        for (int c = 0; c < kColumns; ++c) n[c] += shared.row_sums[row][w][32 * c + lane];
        l += shared.row_sums[row][w][kDim];
      }
    } else {
      add_shares<kDim>(n, l, args, shares + int64_t{row} * (kDim + 4), 0, 1, lane);
    }
    float r = args.scale_power;
    if (args.normalize == Normalize::kSum) {
      r = l == 0.0f ? 0.0f : 1.0f / l;
    } else if (args.normalize == Normalize::kLayer) {
      float sum = 0.0f, largest = 0.0f, squares = 0.0f;
      POWER_UNROLL
      for (int c = 0; c < kColumns; ++c) sum += n[c];  // columns from head_dim on are 0
      const float mean = warp_sum(sum) / static_cast<float>(args.head_dim);
      POWER_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        n[c] = 32 * c + lane < args.head_dim ? n[c] - mean : 0.0f;
        largest = fmaxf(largest, fabsf(n[c]));
      }
      largest = warp_max(largest);
      const float inverse = largest == 0.0f ? 0.0f : 1.0f / largest;  // n^2 can leave float's range where n does not
      POWER_UNROLL
      for (int c = 0; c < kColumns; ++c) squares += n[c] * inverse * (n[c] * inverse);
      squares = warp_sum(squares) / static_cast<float>(args.head_dim);
      r = squares == 0.0f ? 0.0f : inverse / sqrtf(squares);
      if (args.scale_power < 0.0f) r = -r;
    }
    const int token = divide(row, args.group), head = row - token * static_cast<int>(args.group.divisor);
    POWER_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const int column = 32 * c + lane;
      if (column >= args.head_dim) continue;
      y[token * args.y.token + head * args.y.head + column] = static_cast<uint16_t>(pack_bf16(n[c] * r, 0.0f));
    }
  }
}

// The new tokens from the latest segment start on go into the window, after `length` others whose gate sum is `total`.
template <int kDim>
POWER_DEVICE void append_tokens(const DecodeShared<kDim>& shared, const DecodeArgs& args, const DecodeRecord& record,
                                int first, int length, float total, int thread) {
  constexpr int kChunks = kDim / 8;
  const uint16_t *k = record.tokens(args.k), *v = record.tokens(args.v);
  float* gates = record.at<float>(args.layout.gates);
  uint4* keys = record.at<uint4>(args.layout.keys);
  uint16_t* values = record.at<uint16_t>(args.layout.values);
  for (int i = thread; i < (args.query_len - first) * kChunks; i += kDecodeThreads) {
    const int token = first + i / kChunks, chunk = i % kChunks, at = length + i / kChunks;
    uint4 key{}, value{};
    if (8 * chunk < args.head_dim) {
      key = *reinterpret_cast<const uint4*>(k + token * args.k.token + 8 * chunk);
      value = *reinterpret_cast<const uint4*>(v + token * args.v.token + 8 * chunk);
    }
    keys[at * kChunks + chunk] = key;
    const uint32_t pairs[4] = {value.x, value.y, value.z, value.w};
    POWER_UNROLL
    for (int e = 0; e < 8; ++e) {
      values[at / 16 * (16 * kDim) + fragment_index(at % 16, 8 * chunk + e)] =
          static_cast<uint16_t>(e % 2 ? pairs[e / 2] >> 16 : pairs[e / 2]);
    }
    if (chunk == 0) gates[at] = total + shared.new_gates[token];
  }
}

template <int kDim, int kDegree>
__global__ void __launch_bounds__(kDecodeThreads, DecodeBlocks<kDim>::kCount)
    decode_step_kernel(const __grid_constant__ DecodeArgs args) {
  POWER_SHARED_MEMORY(memory);
  auto& shared = *reinterpret_cast<DecodeShared<kDim>*>(memory);
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int index = divide(blockIdx.x, args.splits), splits = static_cast<int>(args.splits.divisor);
  const int split = static_cast<int>(blockIdx.x) - index * splits;
  const DecodeRecord record(args, index);
  const int first_step = split * args.layout.steps / splits, last_step = (split + 1) * args.layout.steps / splits;
  // Of `count` items of the block, a warp takes every kDecodeWarps-th.
  const auto share_of = [](int count, int first) { return (count + kDecodeWarps - 1 - first) / kDecodeWarps; };
  DecodeStream<kDim> stream(shared.rings[warp], args, record, first_step + warp, share_of(last_step - first_step, warp),
                            lane);
  const DecodeMeta meta = record.meta();
  const NewGates gates(args, record, thread);
  place_query_rows<kDim>(shared, args, record, 0, thread);

  // Tiles of 16 keys go to the warps from the last one on, which have fewer steps: those of the window, then new ones.
  const int tiles = (meta.length + 15) / 16, new_tiles = (args.query_len + 15) / 16, reverse = kDecodeWarps - 1 - warp;
  const int first_tile = split * tiles / splits, block_tiles = (split + 1) * tiles / splits - first_tile;
  const int own_tiles = share_of(block_tiles, reverse), first_own = first_tile + reverse;
  stream.add_window(meta.has_state, first_own, own_tiles);
  scan_new_gates<kDim>(shared, args, gates, thread);
  for (int row0 = 0; row0 < args.rows; row0 += kDecodeRowGroup) {
    if (row0 > 0) {
      stream.start();
      stream.add_window(meta.has_state, first_own, own_tiles);
      place_query_rows<kDim>(shared, args, record, row0, thread);
      sync_block();
    }
    float n[kDim / 8][4] = {}, l = 0.0f;
    const int row_token = shared.row_token[lane / 4], row_start = row_token < 0 ? 0 : shared.new_start[row_token];
    const float row_gate = row_token < 0 ? 0.0f : shared.new_gates[row_token];
    const float state_gate = row_token < 0 || row_start >= 0 ? 0.0f : exp2_approx(meta.total + row_gate);
    // New tile t belongs to split t % splits.
    POWER_ROLLED
    for (int t = split, i = block_tiles; t < new_tiles; t += splits, ++i) {
      if (i % kDecodeWarps != reverse) continue;
      NewTile<kDim> tile;
      tile.load(args, record, t, lane);
      const auto weight = [&](int key) {
        key += 16 * t;
        if (key > row_token || key < row_start) return -1.0f;
        return exp2_approx(row_gate - shared.new_gates[key]);
      };
      uint32_t a[4];
      score_keys<kDim, kDegree>(
          a, l, shared, [&](int block, int m) { return tile.keys[block][m]; }, weight, lane);
      multiply_rows<kDim>(n, a, [&](int part) { return tile.values[part]; });
    }
    POWER_ROLLED
    for (int i = 0; i < stream.steps(); ++i) {
      query_state<kDim, kDegree>(n, l, shared, stream.next(), state_gate, first_step + warp + i * kDecodeWarps, lane);
    }
    POWER_ROLLED
    for (int i = 0; i < own_tiles; ++i) {
      const int count = meta.length - 16 * (first_own + i * kDecodeWarps);
      uint32_t a[4];
      {
        const DecodePiece<kDim>& piece = stream.next();
        const auto weight = [&](int key) {
          if (key >= count || row_token < 0 || row_start >= 0) return -1.0f;
          return exp2_approx((meta.total - reinterpret_cast<const float*>(piece.extra)[key]) + row_gate);
        };
        const auto keys = [&](int block, int m) { return piece.rows[block * (kDim / 32) + m][lane]; };
        score_keys<kDim, kDegree>(a, l, shared, keys, weight, lane);
      }
      const DecodePiece<kDim>& piece = stream.next();
      multiply_rows<kDim>(n, a, [&](int part) {
        uint4 values = piece.rows[part][lane];
        if (count < 16) keep_rows(values, count, lane);
        return values;
      });
    }
    stream.finish();
    store_partials<kDim>(shared, args, int64_t{index} * splits + split, row0, n, l, thread);
  }

  const int start = shared.new_start[args.query_len - 1];
  const bool fold = meta.length > 0 && start < 0 && meta.length + args.query_len > window_limit(args, meta, index);
  if (fold) fold_window<kDim, kDegree>(shared.fold, args, record, meta, first_step, last_step, thread);
  if (!last_to_arrive(args, record, &shared.is_last, thread)) return;
  finish_rows<kDim>(shared, args, record, thread);
  const int first = start < 0 ? 0 : start, length = fold || start >= 0 ? 0 : meta.length;
  const float total = length > 0 ? meta.total : 0.0f;
  append_tokens<kDim>(shared, args, record, first, length, total, thread);
  if (thread == 0) {
    *record.at<DecodeMeta>(0) = {length + args.query_len - first, total + shared.new_gates[args.query_len - 1],
                                 start < 0 && (fold || meta.has_state), fold || meta.folded, 0};
  }
}

template <int kDim, int kDegree>
void run_decode_step(const DecodeArgs& args, void* stream) {
  prefer_shared_memory(decode_step_kernel<kDim, kDegree>, "decode_step_kernel");
  launch(decode_step_kernel<kDim, kDegree>, "decode_step_kernel", dim3(args.records * args.splits.divisor),
         kDecodeThreads, sizeof(DecodeShared<kDim>), stream, args);
}

template <int kDim, int kDegree>
DecodeKernels decode_kernels() {
  return {kDim,
          kDegree,
          run_decode_step<kDim, kDegree>,
          run_decode_fold<kDim, kDegree>,
          run_decode_import<kDim, kDegree>,
          run_decode_export<kDim, kDegree>};
}

}  // namespace power::kernels
