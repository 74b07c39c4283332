#pragma once

#include "kernels/common/global_memory.cuh"
#include "kernels/power_attention/decode.h"
#include "kernels/power_attention/decode_layout.h"

// Products on 16 rows (of features or keys) x kDim columns, and the records' parts.
namespace power::kernels {

// One (sequence, kv head).
struct DecodeRecord {
  uint8_t* base;
  int index, batch, kv_head;

  POWER_DEVICE DecodeRecord(const DecodeArgs& args, int record)
      : base(args.cache + int64_t{record} * args.layout.bytes),
        index(record),
        batch(divide(record, args.kv_heads)),
        kv_head(record - batch * args.kv_heads.divisor) {}

  template <class T>
  POWER_DEVICE T* at(uint32_t offset) const {
    return reinterpret_cast<T*>(base + offset);
  }
  POWER_DEVICE DecodeMeta meta() const {
    const uint4 words = load_through(at<const uint4>(0));
    return {static_cast<int>(words.x), __uint_as_float(words.y), static_cast<uint16_t>(words.z & 0xffffu),
            static_cast<uint16_t>(words.z >> 16), static_cast<int>(words.w)};
  }
  POWER_DEVICE const uint16_t* tokens(const StridedView& view) const {
    return view.data + batch * view.batch + kv_head * view.head;
  }
};

// Index of (row, column) in 16 rows in fragment order, in elements.
POWER_DEVICE int fragment_index(int row, int column) {
  const int lane = 4 * (column % 8) + row % 8 / 2, word = column % 16 / 8 * 2 + row / 8;
  return (column / 16 * 32 + lane) * 8 + 2 * word + row % 2;
}

// Factors of the 16 feature rows of a step: i = first..first+15, j = i + shift (mod kDim).
template <int kDim, int kDegree>
struct FeatureStep {
  int first, shift;
  POWER_DEVICE explicit FeatureStep(int step)
      : first(kDecodeStepRows * step % kDim), shift(kDecodeStepRows * step / kDim) {}
  POWER_DEVICE float multiplicity() const { return shift > 0 ? 2.0f : 1.0f; }
};

// Of words that hold (even, odd) tokens, keeps the first `count`.
POWER_DEVICE uint32_t keep_tokens(uint32_t pair, int count) {
  return count >= 2 ? pair : (count == 1 ? pair & 0xffffu : 0u);
}

// Memory of tokens that are not there may hold anything, and 0 * NaN is NaN: clears all but the first `count` rows.
POWER_DEVICE void keep_rows(uint4& part, int count, int lane) {
  const int low = count - 2 * (lane % 4), high = low - 8;
  part.x = keep_tokens(part.x, low);
  part.y = keep_tokens(part.y, high);
  part.z = keep_tokens(part.z, low);
  part.w = keep_tokens(part.w, high);
}

// A operand of 8 rows x 16: lane (g, q) gives x = row g, columns 2q, 2q+1, 2q+8, 2q+9. The rounding of x to bf16 goes
// into rows 8..15, which would otherwise be idle: the product is then exact to 16 bits of x.
POWER_DEVICE void split_rows(uint32_t (&a)[4], const float (&x)[4]) {
  a[0] = pack_bf16(x[0], x[1]);
  a[1] = pack_bf16(x[0] - bf16_low(a[0]), x[1] - bf16_high(a[0]));
  a[2] = pack_bf16(x[2], x[3]);
  a[3] = pack_bf16(x[2] - bf16_low(a[2]), x[3] - bf16_high(a[2]));
}

// sums[n8] (rows 0..7 and their remainders x 8 columns) += A * tile; tile(n) is a lane's part of columns 16n...
template <int kDim, class Tile>
POWER_DEVICE void multiply_rows(float (&sums)[kDim / 8][4], const uint32_t (&a)[4], const Tile& tile) {
  POWER_UNROLL
  for (int n = 0; n < kDim / 16; ++n) {
    const uint4 b = tile(n);
    mma_m16n8k16_bf16(sums[2 * n], a, b.x, b.y);
    mma_m16n8k16_bf16(sums[2 * n + 1], a, b.z, b.w);
  }
}

// Tokens a record may hold in its window before it folds them; a step of more leaves all of them there. The first fold
// of a record comes early, by a different number of tokens for each: so the folds of a batch that starts together
// spread over a period (the golden ratio spreads any number of records evenly).
POWER_DEVICE int window_limit(const DecodeArgs& args, const DecodeMeta& meta, int record) {
  const int limit = args.window < kDecodeFoldTokens ? args.window : kDecodeFoldTokens;
  const uint32_t early = (static_cast<uint32_t>(record) * 2654435769u >> 16) * static_cast<uint32_t>(limit) >> 16;
  return meta.folded ? limit : limit - static_cast<int>(early);
}

}  // namespace power::kernels
