#pragma once

#include "kernels/common/launch.h"
#include "kernels/power_attention/decode_fold.cuh"
#include "kernels/power_attention/decode_state.cuh"
#include "kernels/power_attention/supported.h"

// One decode step of a layer: block (record, split) takes its share of the record's feature rows and
// keys, for 8 query rows at a time, then folds the window into its feature rows where that is due. The last block of a
// record to finish adds the shares up in order, writes y and puts the new tokens into the window.
namespace power::kernels {

template <int kDim>
struct DecodeShared {
  // Query rows of the group. `right` holds q twice over, so that (i + d) mod kDim needs no modulo; `left` is q times
  // the gates between the state and the query. Row lengths spread the rows of a fragment over the banks.
  float right[kDecodeRowGroup][2 * kDim + 8];
  float left[kDecodeRowGroup][kDim + 8];
  uint4 query[kDecodeRowGroup][kDim / 8 + 1];
  int row_token[kDecodeRowGroup];  // -1: no such row
  // New tokens: log2 gate sum since the step began or the latest segment start among them, and that start or -1.
  float new_gates[kMaxDecodeWindow];
  int new_start[kMaxDecodeWindow];
  int is_last;
  union {
    float sums[kDecodeWarps][kDecodeRowGroup][kDim + 4];  // n, and l at kDim
    DecodeFoldShared<kDim> fold;
  };
};

template <int kDim>
struct DecodeBlocks {  // a multiprocessor holds at once; registers follow from it
  static constexpr int kCount = kDim == 32 ? 5 : kDim == 64 ? 4 : 2;
};

template <int kDim>
POWER_DEVICE void scan_new_gates(DecodeShared<kDim>& shared, const DecodeArgs& args, const DecodeRecord& record,
                                 int thread) {
  const float* log_g = args.log_g + record.batch * args.log_g_batch + record.kv_head * args.log_g_head;
  for (int t = thread; t < args.query_len; t += kDecodeThreads) {
    shared.new_gates[t] = args.log_g != nullptr ? log_g[t * args.log_g_token] * kLog2OfE : 0.0f;
  }
  sync_block();
  if (thread == 0) {
    float sum = 0.0f;
    int start = -1;
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

// The 16 bytes of query rows row0..row0+7 that a thread puts into shared memory: chunk thread % kChunks of row
// thread / kChunks.
template <int kDim>
POWER_DEVICE uint4 fetch_query_rows(const DecodeArgs& args, const DecodeRecord& record, int row0, int thread) {
  constexpr int kChunks = kDim / 8;
  static_assert(kDecodeRowGroup * kChunks <= kDecodeThreads, "one chunk a thread");
  const int row = row0 + thread / kChunks, chunk = thread % kChunks;
  if (thread >= kDecodeRowGroup * kChunks || row >= args.rows || 8 * chunk >= args.head_dim) return {};
  const int token = divide(row, args.group), head = row - token * static_cast<int>(args.group.divisor);
  const uint16_t* q = args.q.data + record.batch * args.q.batch + token * args.q.token +
                      (int64_t{record.kv_head} * args.group.divisor + head) * args.q.head;
  return *reinterpret_cast<const uint4*>(q + 8 * chunk);
}

// `total` is the window's log2 gate sum.
template <int kDim>
POWER_DEVICE void place_query_rows(DecodeShared<kDim>& shared, const DecodeArgs& args, const uint4& values, int row0,
                                   float total, int thread) {
  constexpr int kChunks = kDim / 8;
  const int r = thread / kChunks, chunk = thread % kChunks;
  if (r < kDecodeRowGroup) {
    const bool valid = row0 + r < args.rows;
    const int token = divide(valid ? row0 + r : 0, args.group);
    const float factor = shared.new_start[token] < 0 ? exp2_approx(total + shared.new_gates[token]) : 0.0f;
    shared.query[r][chunk] = values;
    const uint32_t pairs[4] = {values.x, values.y, values.z, values.w};
    POWER_UNROLL
    for (int w = 0; w < 4; ++w) {
      const int column = 8 * chunk + 2 * w;
      const float even = bf16_low(pairs[w]), odd = bf16_high(pairs[w]);
      shared.right[r][column] = shared.right[r][column + kDim] = even;
      shared.right[r][column + 1] = shared.right[r][column + kDim + 1] = odd;
      shared.left[r][column] = even * factor;
      shared.left[r][column + 1] = odd * factor;
    }
    if (chunk == 0) shared.row_token[r] = valid ? token : -1;
  }
  sync_block();
}

// A tile of 16 feature rows with their key sums, as they come from memory.
template <int kDim>
struct StateTile {
  RowTile<kDim> rows;
  uint4 key_sums;

  POWER_DEVICE void load(const DecodeArgs& args, const DecodeRecord& record, int step, int lane) {
    rows.load(record.at<const uint4>(args.layout.state_high), step, lane);
    key_sums = load_through(record.at<const uint4>(args.layout.key_sum) + 4 * step + lane % 4);
  }
};

template <int kDim, int kDegree>
POWER_DEVICE void query_state(float (&n)[kDim / 8][4], float& l, const DecodeShared<kDim>& shared,
                              const StateTile<kDim>& tile, int step, int lane) {
  const FeatureStep<kDim, kDegree> features(step);
  const int g = lane / 4, first = features.first + 2 * (lane % 4);
  const float *left = &shared.left[g][first], *right = &shared.right[g][first + features.shift];
  float x[4] = {left[0], left[1], left[8], left[9]};
  if constexpr (kDegree == 2) {
    x[0] *= right[0];
    x[1] *= right[1];
    x[2] *= right[8];
    x[3] *= right[9];
  }
  const uint4& z = tile.key_sums;
  l += (x[0] * __uint_as_float(z.x) + x[1] * __uint_as_float(z.y)) +
       (x[2] * __uint_as_float(z.z) + x[3] * __uint_as_float(z.w));
  uint32_t a[4];
  split_rows(a, x);
  multiply_rows<kDim>(n, a, tile.rows);
}

// 16 keys as B operand. Chunk q + 4m of a key's row serves as k = 16 (2m).. and 16 (2m + 1).. of the product: the order
// of the summed index is free, and so a row needs no rearrangement.
template <int kDim>
struct KeyTile {
  uint4 keys[2][kDim / 32];

  // Tokens 16 * tile.. of the window.
  POWER_DEVICE void load_window(const DecodeArgs& args, const DecodeRecord& record, int tile, int lane) {
    const uint4* from = record.at<const uint4>(args.layout.keys);
    POWER_UNROLL
    for (int block = 0; block < 2; ++block) {
      POWER_UNROLL
      for (int m = 0; m < kDim / 32; ++m) {
        const int token = 16 * tile + 8 * block + lane / 4;
        keys[block][m] = load_through(from + token * (kDim / 8) + lane % 4 + 4 * m);
      }
    }
  }

  // New tokens 16 * tile.. of this step.
  POWER_DEVICE void load_new(const DecodeArgs& args, const DecodeRecord& record, int tile, int lane) {
    const uint16_t* k = record.tokens(args.k);
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
  }
};

// Columns 16n.. of the values of new tokens 16 * tile.., as B operand.
POWER_DEVICE uint4 new_values(const DecodeArgs& args, const uint16_t* v, int tile, int n, int lane) {
  const auto value = [&](int token, int column) -> uint32_t {
    return token < args.query_len && column < args.head_dim ? v[token * args.v.token + column] : 0;
  };
  const auto pair = [&](int token, int column) { return value(token, column) | value(token + 1, column) << 16; };
  const int token = 16 * tile + 2 * (lane % 4), column = 16 * n + lane / 4;
  return {pair(token, column), pair(token + 8, column), pair(token, column + 8), pair(token + 8, column + 8)};
}

// n += P V, l += sum P with P = s^degree * weight(key) for the tile's 16 keys; a weight below 0 masks the key.
// values(n) are the values' columns 16n.. as B operand.
template <int kDim, int kDegree, class Values, class Weight>
POWER_DEVICE void attend_keys(float (&n)[kDim / 8][4], float& l, const DecodeShared<kDim>& shared,
                              const KeyTile<kDim>& tile, const Values& values, const Weight& weight, int lane) {
  const int g = lane / 4, q = lane % 4;
  float s[2][4] = {};
  POWER_UNROLL
  for (int m = 0; m < kDim / 32; ++m) {
    const uint4 row = shared.query[g][q + 4 * m];
    const uint32_t even[4] = {row.x, 0, row.y, 0}, odd[4] = {row.z, 0, row.w, 0};
    POWER_UNROLL
    for (int block = 0; block < 2; ++block) {
      const uint4& keys = tile.keys[block][m];
      mma_m16n8k16_bf16(s[block], even, keys.x, keys.y);
      mma_m16n8k16_bf16(s[block], odd, keys.z, keys.w);
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
  uint32_t a[4];
  split_rows(a, p);
  POWER_UNROLL
  for (int part = 0; part < kDim / 16; ++part) {
    const uint4 v = values(part);
    mma_m16n8k16_bf16(n[2 * part], a, v.x, v.y);
    mma_m16n8k16_bf16(n[2 * part + 1], a, v.z, v.w);
  }
}

// The block's share of n and l for query rows row0.., into args.partials.
template <int kDim>
POWER_DEVICE void store_partials(DecodeShared<kDim>& shared, const DecodeArgs& args, int64_t share, int row0,
                                 const float (&n)[kDim / 8][4], float l, int thread) {
  const int lane = thread % 32, warp = thread / 32, g = lane / 4, q = lane % 4;
  POWER_UNROLL
  for (int block = 0; block < kDim / 8; ++block) {
    float* to = &shared.sums[warp][g][8 * block + 2 * q];
    to[0] = n[block][0] + n[block][2];
    to[1] = n[block][1] + n[block][3];
  }
  l += shuffle_xor(l, 1);
  l += shuffle_xor(l, 2);
  if (q == 0) shared.sums[warp][g][kDim] = l;
  sync_block();
  const int rows = args.rows - row0 < kDecodeRowGroup ? args.rows - row0 : kDecodeRowGroup;
  float* to = args.partials + (share * args.rows + row0) * (kDim + 4);
  for (int i = thread; i < rows * (kDim + 4); i += kDecodeThreads) {
    const int r = i / (kDim + 4), column = i % (kDim + 4);
    if (column > kDim) continue;
    float sum = 0.0f;
    POWER_UNROLL
    for (int w = 0; w < kDecodeWarps; ++w) sum += shared.sums[w][r][column];
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

// Adds up the splits of each row in order and writes y, a warp a row.
template <int kDim>
POWER_DEVICE void finish_rows(const DecodeArgs& args, const DecodeRecord& record, int thread) {
  constexpr int kColumns = kDim / 32;  // of a lane
  const int lane = thread % 32, splits = static_cast<int>(args.splits.divisor);
  uint16_t* y = const_cast<uint16_t*>(args.y.data) + record.batch * args.y.batch +
                int64_t{record.kv_head} * args.group.divisor * args.y.head;
  for (int row = thread / 32; row < args.rows; row += kDecodeWarps) {
    const float* share = args.partials + (int64_t{record.index} * splits * args.rows + row) * (kDim + 4);
    float n[kColumns] = {}, l = 0.0f;
#if !defined(POWER_EMULATE)
#pragma unroll 8
#endif
    for (int split = 0; split < splits; ++split) {
      const float* from = share + int64_t{split} * args.rows * (kDim + 4);
      POWER_UNROLL
      for (int c = 0; c < kColumns; ++c) n[c] += load_through(from + 32 * c + lane);
      l += load_through(from + kDim);
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
  // Asked for before anything says whether there is a state: the latency is what a single sequence pays for.
  StateTile<kDim> tile;
  if (first_step + warp < last_step) tile.load(args, record, first_step + warp, lane);
  const DecodeMeta meta = record.meta();
  uint4 query = fetch_query_rows<kDim>(args, record, 0, thread);
  const float* window_gates = record.at<const float>(args.layout.gates);
  scan_new_gates<kDim>(shared, args, record, thread);

  const int old_tiles = (meta.length + 15) / 16, tiles = old_tiles + (args.query_len + 15) / 16;
  const int first_tile = split * tiles / splits, last_tile = (split + 1) * tiles / splits;
  for (int row0 = 0; row0 < args.rows; row0 += kDecodeRowGroup) {
    if (row0 > 0) query = fetch_query_rows<kDim>(args, record, row0, thread);
    place_query_rows<kDim>(shared, args, query, row0, meta.total, thread);
    float n[kDim / 8][4] = {}, l = 0.0f;
    const int row_token = shared.row_token[lane / 4], row_start = row_token < 0 ? 0 : shared.new_start[row_token];
    const float row_gate = row_token < 0 ? 0.0f : shared.new_gates[row_token];
    POWER_ROLLED
    for (int t = first_tile + kDecodeWarps - 1 - warp; t < last_tile; t += kDecodeWarps) {
      KeyTile<kDim> keys;
      if (t < old_tiles) {
        RowTile<kDim> window;
        keys.load_window(args, record, t, lane);
        window.load(record.at<const uint4>(args.layout.values), t, lane);
        const int count = meta.length - 16 * t;
        const auto values = [&](int part) {
          if (count < 16) keep_rows(window.part[part], count, lane);
          return window.part[part];
        };
        const auto weight = [&](int key) {
          if (key >= count || row_token < 0 || row_start >= 0) return -1.0f;
          return exp2_approx((meta.total - window_gates[16 * t + key]) + row_gate);
        };
        attend_keys<kDim, kDegree>(n, l, shared, keys, values, weight, lane);
      } else {
        const int new_tile = t - old_tiles;
        keys.load_new(args, record, new_tile, lane);
        const auto values = [&](int part) { return new_values(args, record.tokens(args.v), new_tile, part, lane); };
        const auto weight = [&](int key) {
          key += 16 * new_tile;
          if (key > row_token || key < row_start) return -1.0f;
          return exp2_approx(row_gate - shared.new_gates[key]);
        };
        attend_keys<kDim, kDegree>(n, l, shared, keys, values, weight, lane);
      }
    }
    if (meta.has_state) {
      if (row0 > 0 && first_step + warp < last_step) tile.load(args, record, first_step + warp, lane);
      POWER_ROLLED
      for (int step = first_step + warp; step < last_step; step += kDecodeWarps) {
        StateTile<kDim> next = tile;
        if (step + kDecodeWarps < last_step) next.load(args, record, step + kDecodeWarps, lane);
        query_state<kDim, kDegree>(n, l, shared, tile, step, lane);
        tile = next;
      }
    }
    store_partials<kDim>(shared, args, int64_t{index} * splits + split, row0, n, l, thread);
  }

  const int start = shared.new_start[args.query_len - 1];
  const bool fold = meta.length > 0 && start < 0 && meta.length + args.query_len > window_limit(args, meta, index);
  if (fold) fold_window<kDim, kDegree>(shared.fold, args, record, meta, first_step, last_step, thread);
  if (!last_to_arrive(args, record, &shared.is_last, thread)) return;
  finish_rows<kDim>(args, record, thread);
  const int first = start < 0 ? 0 : start, length = fold || start >= 0 ? 0 : meta.length;
  const float total = length > 0 ? meta.total : 0.0f;
  append_tokens<kDim>(shared, args, record, first, length, total, thread);
  if (thread == 0) {
    const bool has_state = start < 0 && (fold || meta.has_state), folded = fold || meta.folded;
    *record.at<DecodeMeta>(0) = {length + args.query_len - first, total + shared.new_gates[args.query_len - 1],
                                 has_state, folded, 0};
  }
}

template <int kDim, int kDegree>
void run_decode_step(const DecodeArgs& args, void* stream) {
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
