#pragma once

#include "kernels/power_attention/decode_tile.cuh"

// Folding a window into the state: S = e^{c_n} S + sum_t e^{c_n - c_t} phi(k_t) v_t^T, as S^T on tensor cores, with
// A = v^T and B = phi(k) e^{c_n - c_t} computed in registers from the keys, high and low half.
namespace power::kernels {

template <int kDim>
struct alignas(16) DecodeFoldShared {
  struct Chunk {
    uint16_t keys[kDecodeFoldTokens][kDim + 8];  // 8 more keep the rows of a fragment in other banks
    uint4 values[kDecodeFoldTokens / 16][kDim / 16][32];
  };
  Chunk chunks[2];  // one arrives while the other is used
  float weights[kMaxDecodeWindow];
};

// Starts the copy of tokens first..first+63 of the window; keys from `length` on become zero.
template <int kDim>
POWER_DEVICE void request_tokens(typename DecodeFoldShared<kDim>::Chunk& chunk, const DecodeArgs& args,
                                 const DecodeRecord& record, int first, int length, int thread) {
  constexpr int kChunks = kDim / 8, kValues = kDim / 16 * 32;
  const uint4* keys = record.at<const uint4>(args.layout.keys) + first * kChunks;
  const uint4* values = record.at<const uint4>(args.layout.values) + first / 16 * kValues;
  POWER_UNROLL
  for (int i = 0; i < kDecodeFoldTokens * kChunks / kDecodeThreads; ++i) {
    const int at = i * kDecodeThreads + thread, token = at / kChunks;
    const bool valid = first + token < length;
    cp_async_16(shared_address(&chunk.keys[token][at % kChunks * 8]), keys + (valid ? at : 0), valid);
  }
  POWER_UNROLL
  for (int i = 0; i < kDecodeFoldTokens / 16 * kValues / kDecodeThreads; ++i) {
    const int at = i * kDecodeThreads + thread;
    const bool valid = first + at / kValues * 16 < length;
    cp_async_16(shared_address(&chunk.values[0][0][0] + at), values + (valid ? at : 0), valid);
  }
  cp_async_commit();
}

// A lane's part of 16 rows of the state and of their key sums, as they are stored.
template <int kDim>
struct StoredRows {
  uint4 high[kDim / 16], low[kDim / 16];
  float sums[2];  // of rows that its quarter has

  POWER_DEVICE void load(const uint4* from_high, const uint4* from_low, const float* key_sum) {
    POWER_UNROLL
    for (int n = 0; n < kDim / 16; ++n) {
      high[n] = load_through(from_high + 32 * n);
      low[n] = load_through(from_low + 32 * n);
    }
    sums[0] = load_through(key_sum);
    sums[1] = load_through(key_sum + 2);
  }
};

// The same as its transpose: [16 columns e][8 features][fragment].
template <int kDim>
struct StateRows {
  float at[kDim / 16][2][4];

  POWER_DEVICE void take(const StoredRows<kDim>& stored, float factor) {
    POWER_UNROLL
    for (int n = 0; n < kDim / 16; ++n) {
      const uint4 h = stored.high[n], l = stored.low[n];
      const uint32_t highs[4] = {h.x, h.y, h.z, h.w}, lows[4] = {l.x, l.y, l.z, l.w};
      POWER_UNROLL
      for (int w = 0; w < 4; ++w) {
        at[n][w % 2][2 * (w / 2)] = factor * (bf16_low(highs[w]) + bf16_low(lows[w]));
        at[n][w % 2][2 * (w / 2) + 1] = factor * (bf16_high(highs[w]) + bf16_high(lows[w]));
      }
    }
  }
  POWER_DEVICE void store(uint4* high, uint4* low, float factor) const {
    POWER_UNROLL
    for (int n = 0; n < kDim / 16; ++n) {
      uint32_t highs[4], lows[4];
      POWER_UNROLL
      for (int w = 0; w < 4; ++w) {
        const float even = factor * at[n][w % 2][2 * (w / 2)], odd = factor * at[n][w % 2][2 * (w / 2) + 1];
        highs[w] = pack_bf16(even, odd);
        lows[w] = pack_bf16(even - bf16_low(highs[w]), odd - bf16_high(highs[w]));
      }
      high[32 * n] = {highs[0], highs[1], highs[2], highs[3]};
      low[32 * n] = {lows[0], lows[1], lows[2], lows[3]};
    }
  }
};

// state and sums take in the tokens of a chunk, of which the first `rest` are there; multiplicity is left out.
template <int kDim, int kDegree>
POWER_DEVICE void fold_chunk(StateRows<kDim>& state, float (&sums)[2],
                             const typename DecodeFoldShared<kDim>::Chunk& chunk, const float* weights, int step,
                             int rest, int lane) {
  const FeatureStep<kDim, kDegree> features(step);
  const int g = lane / 4, q = lane % 4;
  const uint32_t left_at = shared_address(&chunk.keys[lane % 16][features.first + lane / 16 * 8]);
  const uint16_t* right[2];
  POWER_UNROLL
  for (int block = 0; block < 2; ++block) {
    right[block] = &chunk.keys[2 * q][(features.first + 8 * block + g + features.shift) % kDim];
  }
  POWER_ROLLED
  for (int token0 = 0; token0 < kDecodeFoldTokens && token0 < rest; token0 += 16) {
    uint32_t left[4];  // 8 features x 8 tokens, as B operand: (block, half)
    ldmatrix_x4_trans(left, left_at + token0 * (2 * (kDim + 8)));
    uint32_t high[2][2], low[2][2];
    POWER_UNROLL
    for (int block = 0; block < 2; ++block) {
      POWER_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int token = token0 + 8 * half;
        const float* w = weights + token + 2 * q;
        float even = bf16_low(left[2 * block + half]) * w[0], odd = bf16_high(left[2 * block + half]) * w[1];
        if constexpr (kDegree == 2) {
          even *= bf16_low(right[block][token * (kDim + 8)]);
          odd *= bf16_low(right[block][(token + 1) * (kDim + 8)]);
        }
        sums[block] += even + odd;
        const uint32_t packed = pack_bf16(even, odd);
        high[block][half] = packed;
        low[block][half] = pack_bf16(even - bf16_low(packed), odd - bf16_high(packed));
      }
    }
    // Two column tiles at once, high halves first: no product waits for the one before it.
    POWER_UNROLL
    for (int n0 = 0; n0 < kDim / 16; n0 += 2) {
      uint32_t a[2][4];
      POWER_UNROLL
      for (int n = 0; n < 2; ++n) {
        uint4 v = chunk.values[token0 / 16][n0 + n][lane];
        if (rest - token0 < 16) keep_rows(v, rest - token0, lane);
        a[n][0] = v.x;
        a[n][1] = v.z;
        a[n][2] = v.y;
        a[n][3] = v.w;
      }
      POWER_UNROLL
      for (int half = 0; half < 2; ++half) {
        const auto& b = half == 0 ? high : low;
        POWER_UNROLL
        for (int i = 0; i < 4; ++i) mma_m16n8k16_bf16(state.at[n0 + i / 2][i % 2], a[i / 2], b[i % 2][0], b[i % 2][1]);
      }
    }
  }
}

// Steps first..last-1 of a record's state take in its window. A warp's next step is fetched while it works on one; up
// to kDecodeFoldTokens tokens stay in shared memory for all steps, more pass through it for each. Not inlined: the
// query, which nearly every block runs alone, then keeps its registers.
template <int kDim, int kDegree>
POWER_DEVICE_CALL void fold_window(DecodeFoldShared<kDim>& shared, const DecodeArgs& args, const DecodeRecord& record,
                                   const DecodeMeta& meta, int first, int last, int thread) {
  if (first >= last) return;
  constexpr int kPart = kDim / 16 * 32;
  const int lane = thread % 32, warp = thread / 32, g = lane / 4;
  uint4* high = record.at<uint4>(args.layout.state_high) + lane;
  uint4* low = record.at<uint4>(args.layout.state_low) + lane;
  float* key_sum = record.at<float>(args.layout.key_sum) + g / 2 * 4 + g % 2;
  const float* gates = record.at<const float>(args.layout.gates);
  const float decay = exp2_approx(meta.total);
  const int length = meta.length;
  const bool at_once = length <= kDecodeFoldTokens;
  request_tokens<kDim>(shared.chunks[0], args, record, 0, length, thread);
  StoredRows<kDim> stored = {};
  const auto fetch = [&](int step) {
    if (step < last) stored.load(high + step * kPart, low + step * kPart, key_sum + step * kDecodeStepRows);
  };
  if (meta.has_state) fetch(first + warp);
  for (int i = thread; i < round_up(length, 16); i += kDecodeThreads) {
    shared.weights[i] = i < length ? exp2_approx(meta.total - gates[i]) : 0.0f;
  }
  int buffer = 0;
  POWER_ROLLED
  for (int base = first; base < last; base += kDecodeWarps) {
    const int step = base + warp;
    const bool mine = step < last;
    const float multiplicity = FeatureStep<kDim, kDegree>(step).multiplicity();
    StateRows<kDim> state = {};
    float sums[2] = {}, before[2] = {};
    if (meta.has_state) {
      state.take(stored, decay / multiplicity);
      before[0] = decay * stored.sums[0];
      before[1] = decay * stored.sums[1];
      fetch(step + kDecodeWarps);
    }
    POWER_ROLLED
    for (int chunk = 0; chunk < length; chunk += kDecodeFoldTokens) {
      if (!at_once || base == first) {
        cp_async_wait<0>();
        sync_block();  // the chunk is there, and nobody reads the other one any more
        const int next = chunk + kDecodeFoldTokens < length ? chunk + kDecodeFoldTokens : 0;
        if (!at_once && (next > 0 || base + kDecodeWarps < last)) {
          request_tokens<kDim>(shared.chunks[buffer ^ 1], args, record, next, length, thread);
        }
      }
      if (mine) {
        fold_chunk<kDim, kDegree>(state, sums, shared.chunks[buffer], shared.weights + chunk, step, length - chunk,
                                  lane);
      }
      if (!at_once) buffer ^= 1;
    }
    if (!mine) continue;
    POWER_UNROLL
    for (int block = 0; block < 2; ++block) {
      float sum = sums[block];
      sum += shuffle_xor(sum, 1);
      sum += shuffle_xor(sum, 2);
      if (lane % 4 == 0) key_sum[step * kDecodeStepRows + 2 * block] = before[block] + sum * multiplicity;
    }
    state.store(high + step * kPart, low + step * kPart, multiplicity);
  }
}

// Whether this block is the last of its record's to get here; the others' writes are then visible to it.
POWER_DEVICE bool last_to_arrive(const DecodeArgs& args, const DecodeRecord& record, int* shared_flag, int thread) {
  sync_block();
  if (thread == 0) {
    fence_device();  // also for what the block's other threads wrote before the barrier
    const int before = atomic_add(&record.at<DecodeMeta>(0)->arrivals, 1);
    fence_device();
    *shared_flag = before + 1 == static_cast<int>(args.splits.divisor);
  }
  sync_block();
  return *shared_flag;
}

}  // namespace power::kernels
