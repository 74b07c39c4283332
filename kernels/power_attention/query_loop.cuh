#pragma once

#include "kernels/power_attention/query_rows.cuh"

// What the kernels that own query rows, output and dq, share: a tile of rows walks over the keys of its chunk.
namespace power::kernels {

// Whether a tile sees anything of the state before its chunk, and what that weighs at the tile's first token.
struct StatePart {
  bool any = false;
  float factor = 1.0f;
};

POWER_DEVICE StatePart state_part(const AttentionArgs& args, const Chunk& chunk, const GateArrays& gates,
                                  const FloatPair& reference, int first_segment) {
  StatePart part;
  part.any = chunk.has_state(args) && first_segment < chunk.first_key;
  if (part.any && args.gated) {
    part.factor = exp2_approx(difference(reference, chunk.gates_before(gates)));
    part.any = part.factor != 0.0f;
  }
  return part;
}

// What the gates and the mask leave of the pair of a row and key `column` of a stage.
template <Masking kMasking, int kRows>
POWER_DEVICE float pair_weight(const RowGates<kRows>& rows, int row, const float* factors, float block_factor,
                               int column, int first_key) {
  float weight = factors[column] * block_factor;
  if constexpr (kMasking == Masking::kExact) {
    weight = exp2_approx(rows.log2_gate[row] - factors[column]);
    if (first_key + column < rows.segment[row]) weight = 0.0f;
  }
  if constexpr (kMasking != Masking::kNone) {
    if (first_key + column > rows.token[row]) weight = 0.0f;
  }
  return weight;
}

// The sums n and l of rows, from the first token's gate to each row's own.
template <int kDim, int kM, int kRows>
POWER_DEVICE void scale_to_own_gates(float (&n)[kM][kDim / 8][4], float (&l)[kM][2], const RowGates<kRows>& rows,
                                     int tile_row0, int first_token, int lane) {
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    POWER_UNROLL
    for (int half = 0; half < 2; ++half) {
      const float factor = rows.factor(tile_row0 + 16 * m + 8 * half + lane / 4, first_token);
      l[m][half] *= factor;
      POWER_UNROLL
      for (int c = 0; c < kDim / 8; ++c) {
        n[m][c][2 * half] *= factor;
        n[m][c][2 * half + 1] *= factor;
      }
    }
  }
}

template <Masking kMasking>
struct MaskingOf {
  static constexpr Masking value = kMasking;
};

// The loop over the blocks of 64 keys that a tile sees. They alternate between stages of K and V, each with its
// KeyFactors; what a state needs comes before them in the same memory.
template <int kDim, int kThreads>
struct KeyLoop {
  static constexpr int kStages = 2;
  static constexpr int kStageBytes = 2 * Image<kDim>::kBlockBytes;  // K, V

  const AttentionArgs& args;
  const uint32_t stages;
  KeyFactors* const factors;
  const FloatPair reference;  // the gates at the first token
  const int first_segment, first_token;
  const KeyBlocks blocks;

  // Without gates the factors are ones, written here and to be read behind a barrier.
  template <int kRows>
  POWER_DEVICE KeyLoop(const AttentionArgs& attention, const GateArrays& gates, const QueryRows<kRows>& tile,
                       uint32_t stage_memory, KeyFactors* stage_factors, int thread)
      : args(attention),
        stages(stage_memory),
        factors(stage_factors),
        reference(args.gated ? gates.sum[tile.first_token] : FloatPair{0.0f, 0.0f}),
        first_segment(args.gated ? gates.segment[tile.first_token] : -1),
        first_token(tile.first_token),
        blocks(find_key_blocks<kThreads>(args, gates, tile.chunk.first_key / kBlockRows, tile.first_token,
                                         tile.last_token, thread)) {
    if (args.gated) return;
    for (int i = thread; i < kStages * kBlockRows; i += kThreads) factors[i / kBlockRows].factor[i % kBlockRows] = 1.0f;
  }
  POWER_DEVICE bool is_mild(const GateArrays& gates) const {
    return gates_are_mild(args, gates, first_token, blocks.end * kBlockRows - 1);
  }
  POWER_DEVICE int stage_of(int block) const { return (block - blocks.begin) % kStages; }
  POWER_DEVICE void load_keys(int block, const KeySource& source) const {
    const uint32_t tile = stages + stage_of(block) * kStageBytes;
    const int loader = again(threadIdx.x);
    load_tokens_async<kDim, kBlockRows, kThreads>(tile, source.k, block * kBlockRows, args.keys, args.head_dim, loader);
    load_tokens_async<kDim, kBlockRows, kThreads>(tile + Image<kDim>::kBlockBytes, source.v, block * kBlockRows,
                                                  args.keys, args.head_dim, loader);
  }
  POWER_DEVICE void load_factors(int block, const KeySource& source, bool mild) const {
    const bool exact = block >= blocks.before && !mild;
    load_key_factors(args, source.gates, factors[stage_of(block)], block, exact, reference, again(threadIdx.x));
  }
  POWER_DEVICE void load(int block, const KeySource& source, bool mild) const {
    load_keys(block, source);
    load_factors(block, source, mild);
  }
  // step(masking, K tile, V tile, factors, block factor, key0, first key) for each kKeys keys key0.. of a stage that
  // some row of the warp sees; the first block is on its way already. Sums count from the first token's gate until
  // to_own_gates() turns them: at the end, or before the blocks whose pairs have their own exact factors.
  template <int kKeys, class ToOwnGates, class Step>
  POWER_DEVICE void run(const KeySource& source, bool mild, int warp_last_token, const ToOwnGates& to_own_gates,
                        const Step& step) const {
    for (int block = blocks.begin; block < blocks.end; ++block) {
      cp_async_wait<0>();
      sync_block();  // this block has landed, and nobody reads the stage that is filled next
      if (block + 1 < blocks.end) load(block + 1, source, mild);
      cp_async_commit();
      const int first_key = block * kBlockRows;
      const uint32_t k_tile = stages + stage_of(block) * kStageBytes, v_tile = k_tile + Image<kDim>::kBlockBytes;
      const KeyFactors& stage_factors = factors[stage_of(block)];
      const bool other_segment = first_segment > first_key + kBlockRows - 1;
      float block_factor = 1.0f;
      if (args.gated) {
        block_factor = other_segment ? 0.0f : exp2_approx(difference(reference, stage_factors.last_sums[1]));
      }
      if (block == blocks.before && !mild && args.gated) to_own_gates();
      POWER_ROLLED
      for (int key0 = 0; key0 < kBlockRows; key0 += kKeys) {
        if (block < blocks.before) {
          step(MaskingOf<Masking::kNone>(), k_tile, v_tile, stage_factors.factor, block_factor, key0, first_key);
        } else if (first_key + key0 > warp_last_token) {
          continue;  // all masked
        } else if (mild) {
          step(MaskingOf<Masking::kShare>(), k_tile, v_tile, stage_factors.factor, block_factor, key0, first_key);
        } else {
          step(MaskingOf<Masking::kExact>(), k_tile, v_tile, stage_factors.factor, 1.0f, key0, first_key);
        }
      }
    }
    if (mild && args.gated) to_own_gates();
  }
};

}  // namespace power::kernels
