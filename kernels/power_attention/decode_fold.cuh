#pragma once

#include "kernels/power_attention/decode_tile.cuh"

// Folding a window into the state: S = e^{c_n} S + sum_t e^{c_n - c_t} phi(k_t) v_t^T, as S^T on tensor cores, with
// A = v^T and B = phi(k) e^{c_n - c_t} computed in registers from the keys, high and low half.
namespace power::kernels {

template <int kDim>
struct DecodeFoldShared {
  static constexpr int kPairs = kDecodeFoldTokens / 2;
  uint32_t keys[kPairs][kDim + 8];  // (even, odd) token of a pair; 8 more keep the rows of a fragment in other banks
  float weights[kDecodeFoldTokens];
};

// Keys first..first+63 of the window as pairs of tokens, their weights, and zero from `length` on.
template <int kDim>
POWER_DEVICE void stage_keys(DecodeFoldShared<kDim>& shared, const DecodeArgs& args, const DecodeRecord& record,
                             int first, int length, float total, int thread) {
  constexpr int kChunks = kDim / 8;
  const uint4* keys = record.at<const uint4>(args.layout.keys);
  const float* gates = record.at<const float>(args.layout.gates);
  for (int i = thread; i < DecodeFoldShared<kDim>::kPairs * kChunks; i += kDecodeThreads) {
    const int pair = i / kChunks, chunk = i % kChunks, token = first + 2 * pair;
    uint4 even{}, odd{};
    if (token < length) even = keys[token * kChunks + chunk];
    if (token + 1 < length) odd = keys[(token + 1) * kChunks + chunk];
    const uint32_t evens[4] = {even.x, even.y, even.z, even.w}, odds[4] = {odd.x, odd.y, odd.z, odd.w};
    POWER_UNROLL
    for (int w = 0; w < 4; ++w) {
      shared.keys[pair][8 * chunk + 2 * w] = (evens[w] & 0xffffu) | odds[w] << 16;
      shared.keys[pair][8 * chunk + 2 * w + 1] = evens[w] >> 16 | (odds[w] & 0xffff0000u);
    }
  }
  for (int i = thread; i < kDecodeFoldTokens; i += kDecodeThreads) {
    shared.weights[i] = first + i < length ? exp2_approx(total - gates[first + i]) : 0.0f;
  }
}

// weight * phi of one feature row for the tokens of a pair.
template <int kDegree>
POWER_DEVICE void pair_features(float (&x)[2], uint32_t left, uint32_t right, const float* weights,
                                float multiplicity) {
  x[0] = bf16_low(left) * (weights[0] * multiplicity);
  x[1] = bf16_high(left) * (weights[1] * multiplicity);
  if constexpr (kDegree == 2) {
    x[0] *= bf16_low(right);
    x[1] *= bf16_high(right);
  }
}

// Steps first..last-1 of a record's state take in its window.
template <int kDim, int kDegree>
POWER_DEVICE void fold_window(DecodeFoldShared<kDim>& shared, const DecodeArgs& args, const DecodeRecord& record,
                              const DecodeMeta& meta, int first, int last, int thread) {
  constexpr int kAtOnce = kDim <= 64 ? 2 : 1;  // steps a warp holds in registers
  const int lane = thread % 32, warp = thread / 32, g = lane / 4, q = lane % 4;
  uint4* high = record.at<uint4>(args.layout.state_high);
  uint4* low = record.at<uint4>(args.layout.state_low);
  const uint4* values = record.at<const uint4>(args.layout.values);
  float* key_sum = record.at<float>(args.layout.key_sum);
  const float decay = exp2_approx(meta.total);
  POWER_ROLLED
  for (int base = first; base < last; base += kDecodeWarps * kAtOnce) {
    const int step0 = base + warp * kAtOnce;
    // state^T of a step: [16 columns e][8 features][fragment]
    float state[kAtOnce][kDim / 16][2][4] = {}, sums[kAtOnce][2] = {};
    POWER_UNROLL
    for (int u = 0; u < kAtOnce; ++u) {
      if (step0 + u >= last || !meta.has_state) continue;
      POWER_UNROLL
      for (int n = 0; n < kDim / 16; ++n) {
        const int at = ((step0 + u) * (kDim / 16) + n) * 32 + lane;
        const uint4 h = high[at], l = low[at];
        const uint32_t highs[4] = {h.x, h.y, h.z, h.w}, lows[4] = {l.x, l.y, l.z, l.w};
        POWER_UNROLL
        for (int w = 0; w < 4; ++w) {
          state[u][n][w % 2][2 * (w / 2)] = decay * (bf16_low(highs[w]) + bf16_low(lows[w]));
          state[u][n][w % 2][2 * (w / 2) + 1] = decay * (bf16_high(highs[w]) + bf16_high(lows[w]));
        }
      }
    }
    POWER_ROLLED
    for (int chunk = 0; chunk < meta.length; chunk += kDecodeFoldTokens) {
      sync_block();  // nobody reads what is staged next
      stage_keys<kDim>(shared, args, record, chunk, meta.length, meta.total, thread);
      sync_block();
      POWER_ROLLED
      for (int token0 = 0; token0 < kDecodeFoldTokens && chunk + token0 < meta.length; token0 += 16) {
        const int tile = (chunk + token0) / 16, rest = meta.length - (chunk + token0), pair = token0 / 2 + q;
        uint32_t b_high[kAtOnce][2][2], b_low[kAtOnce][2][2];  // [step][8 features][8 tokens]
        POWER_UNROLL
        for (int u = 0; u < kAtOnce; ++u) {
          const FeatureStep<kDim, kDegree> features(step0 + u);
          POWER_UNROLL
          for (int block = 0; block < 2; ++block) {
            const int i = features.first + 8 * block + g, j = (i + features.shift) % kDim;
            POWER_UNROLL
            for (int half = 0; half < 2; ++half) {
              float x[2];
              pair_features<kDegree>(x, shared.keys[pair + 4 * half][i], shared.keys[pair + 4 * half][j],
                                     &shared.weights[2 * (pair + 4 * half)], features.multiplicity());
              sums[u][block] += x[0] + x[1];
              b_high[u][block][half] = pack_bf16(x[0], x[1]);
              b_low[u][block][half] =
                  pack_bf16(x[0] - bf16_low(b_high[u][block][half]), x[1] - bf16_high(b_high[u][block][half]));
            }
          }
        }
        POWER_UNROLL
        for (int n = 0; n < kDim / 16; ++n) {
          uint4 v = values[(tile * (kDim / 16) + n) * 32 + lane];
          if (rest < 16) keep_rows(v, rest, lane);
          const uint32_t a[4] = {v.x, v.z, v.y, v.w};
          POWER_UNROLL
          for (int u = 0; u < kAtOnce; ++u) {
            POWER_UNROLL
            for (int block = 0; block < 2; ++block) {
              mma_m16n8k16_bf16(state[u][n][block], a, b_high[u][block][0], b_high[u][block][1]);
              mma_m16n8k16_bf16(state[u][n][block], a, b_low[u][block][0], b_low[u][block][1]);
            }
          }
        }
      }
    }
    POWER_UNROLL
    for (int u = 0; u < kAtOnce; ++u) {
      const int step = step0 + u;
      POWER_UNROLL
      for (int block = 0; block < 2; ++block) {
        float sum = sums[u][block];
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        if (q != 0 || step >= last) continue;
        float* to = key_sum + step * kDecodeStepRows + g / 2 * 4 + 2 * block + g % 2;
        *to = meta.has_state ? decay * *to + sum : sum;
      }
      if (step >= last) continue;
      POWER_UNROLL
      for (int n = 0; n < kDim / 16; ++n) {
        uint32_t highs[4], lows[4];
        POWER_UNROLL
        for (int w = 0; w < 4; ++w) {
          const float even = state[u][n][w % 2][2 * (w / 2)], odd = state[u][n][w % 2][2 * (w / 2) + 1];
          highs[w] = pack_bf16(even, odd);
          lows[w] = pack_bf16(even - bf16_low(highs[w]), odd - bf16_high(highs[w]));
        }
        const int at = (step * (kDim / 16) + n) * 32 + lane;
        high[at] = {highs[0], highs[1], highs[2], highs[3]};
        low[at] = {lows[0], lows[1], lows[2], lows[3]};
      }
    }
  }
}

// Whether this block is the last of its record's to get here; the others' writes are then visible to it.
POWER_DEVICE bool last_to_arrive(const DecodeArgs& args, const DecodeRecord& record, int* shared_flag, int thread) {
  fence_device();
  sync_block();
  if (thread == 0) {
    const int before = atomic_add(&record.at<DecodeMeta>(0)->arrivals, 1);
    *shared_flag = before + 1 == static_cast<int>(args.splits.divisor);
  }
  sync_block();
  if (*shared_flag) fence_device();
  return *shared_flag;
}

}  // namespace power::kernels
