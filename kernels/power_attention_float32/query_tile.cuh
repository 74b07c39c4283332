#pragma once

#include "kernels/power_attention/query_rows.cuh"
#include "kernels/power_attention_float32/config.h"
#include "kernels/power_attention_float32/tile.cuh"

// What the kernels that own a tile of rows have in common: its lanes' rows and the keys it sees.
namespace power::kernels::float32 {

POWER_DEVICE RowsView rows_of(const View& view, const AttentionArgs& args, const HeadIndex& head) {
  return {view.data + head.batch * view.batch + int64_t{head.kv_head} * args.group.divisor * view.head, view.token,
          view.head};
}

POWER_DEVICE RowsView keys_of(const View& view, const HeadIndex& head) {
  return {view.data + head.batch * view.batch + head.kv_head * view.head, view.token, 0};
}

// Where row `row` of a view begins.
POWER_DEVICE float* row_pointer(const RowsView& view, const FastDivisor& group, int row) {
  const uint32_t token = divide(row, group), head = row - token * group.divisor;
  return const_cast<float*>(view.data) + token * view.token_stride + head * view.head_stride;
}

// The query rows of a lane: lane/4 and lane/4 + 8 of its warp's 16.
struct LaneRows {
  int row[2], token[2], segment[2];
  bool valid[2];
  FloatPair sum[2];

  POWER_DEVICE LaneRows(const AttentionArgs& args, const GateArrays& gates, int warp_row0, int row_end, int lane) {
    POWER_UNROLL
    for (int half = 0; half < 2; ++half) {
      row[half] = warp_row0 + 8 * half + lane / 4;
      valid[half] = row[half] < row_end;
      token[half] = token_of_row(args, valid[half] ? row[half] : row_end - 1);
      segment[half] = args.gated ? gates.segment[token[half]] : -1;
      sum[half] = args.gated ? gates.sum[token[half]] : FloatPair{0.0f, 0.0f};
    }
  }
};

// Keys and values of one step. gates: c of each key where keys are masked one by one, else, as floats, key_decay.
template <int kDim, int kStep>
struct alignas(128) KeyStage {
  uint8_t k[kStep * Tile<kDim>::kRowBytes], v[kStep * Tile<kDim>::kRowBytes];
  alignas(128) FloatPair gates[kStep];
};

// The keys that a tile of query rows sees, step by step: [begin, masked) precede every row, [masked, end) are compared.
template <int kDim, int kStep, int kThreads>
class KeySteps {
 public:
  using Stage = KeyStage<kDim, kStep>;

  template <int kRows>
  POWER_DEVICE KeySteps(const AttentionArgs& args, const GateArrays& gates, const QueryRows<kRows>& tile, int thread)
      : chunk_begin_(tile.chunk.first_key), first_token_(tile.first_token) {
    const KeyBlocks blocks = find_key_blocks<kThreads>(args, gates, tile.chunk.first_key / kBlockRows, tile.first_token,
                                                       tile.last_token, thread);
    begin_ = blocks.begin * kBlockRows;
    masked_ = tile.first_token / kBlockRows * kBlockRows;  // never the end: the last steps are always masked ones
    end_ = tile.last_token + 1;
    if (args.gated) {
      reference_ = gates.sum[first_token_];
      segment_ = gates.segment[first_token_];
    }
  }
  POWER_DEVICE int count() const { return ceil_div(end_ - begin_, kStep); }
  POWER_DEVICE int first_key(int step) const { return begin_ + step * kStep; }
  POWER_DEVICE bool masked(int step) const { return first_key(step) >= masked_; }
  POWER_DEVICE bool begins_masked(int step) const { return first_key(step) == masked_; }

  // Starts the copies of a step.
  POWER_DEVICE void load(Stage& stage, int step, const Args& args, const HeadIndex& head, const GateArrays& gates,
                         int thread) {
    const AttentionArgs& a = args.attention;
    const int key0 = first_key(step);
    // Blocks of 64 keys are counted from the first one: a chunk may begin inside its first block.
    load_rows_async<kDim, kStep, kThreads>(stage.k, keys_of(args.k, head), FastDivisor(), key0, a.keys, a.head_dim,
                                           thread, chunk_begin_);
    load_rows_async<kDim, kStep, kThreads>(stage.v, keys_of(args.v, head), FastDivisor(), key0, a.keys, a.head_dim,
                                           thread, chunk_begin_);
    if (!a.gated) return;
    const uint32_t to = shared_address(stage.gates) + 16 * thread;
    if (masked(step)) {
      if (thread < kStep / 2) cp_async_16(to, gates.sum + key0 + 2 * thread, true);
    } else {
      if (thread < kStep / 4) cp_async_16(to, gates.key_decay + key0 + 4 * thread, true);
      block_sum_ = gates.sum[key0 / kBlockRows * kBlockRows + kBlockRows - 1];
    }
  }
  // The factor of a step's keys beyond key_decay, down to the tile's first token; of the step that was loaded last.
  POWER_DEVICE float block_factor(int step, bool gated) const {
    if (!gated) return 1.0f;
    const int block_end = first_key(step) / kBlockRows * kBlockRows + kBlockRows - 1;
    return segment_ > block_end ? 0.0f : exp2_approx(difference(reference_, block_sum_));
  }
  // The factor of keys before the first token, from that token's gate to the row's own.
  POWER_DEVICE float row_factor(const LaneRows& rows, int half) const {
    return rows.segment[half] > first_token_ ? 0.0f : exp2_approx(difference(rows.sum[half], reference_));
  }

  // Gates of the lane's 2 rows x kStep keys, in the layout of multiply_rows.
  POWER_DEVICE void weights(float (&w)[kStep / 8][4], const Stage& stage, int step, float factor, const LaneRows& rows,
                            bool gated, int lane) const {
    if (!masked(step)) {
      const float* decay = reinterpret_cast<const float*>(stage.gates);
      POWER_UNROLL
      for (int n = 0; n < kStep / 8; ++n) {
        POWER_UNROLL
        for (int i = 0; i < 2; ++i) {
          w[n][i] = w[n][2 + i] = gated ? decay[8 * n + 2 * (lane % 4) + i] * factor : 1.0f;
        }
      }
      return;
    }
    const int key0 = first_key(step);
    POWER_UNROLL
    for (int n = 0; n < kStep / 8; ++n) {
      POWER_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int key = 8 * n + 2 * (lane % 4) + i % 2, half = i / 2;
        const bool seen = key0 + key >= rows.segment[half] && key0 + key <= rows.token[half];
        const float gate = gated ? exp2_approx(difference(rows.sum[half], stage.gates[key])) : 1.0f;
        w[n][i] = seen ? gate : 0.0f;
      }
    }
  }

 private:
  int begin_, masked_, end_, chunk_begin_, first_token_, segment_ = -1;
  FloatPair reference_{0.0f, 0.0f}, block_sum_{0.0f, 0.0f};
};

// w becomes u = (s * row_scale)^(degree-1) * w: a weight of the operator is s * u, its derivative degree * u.
template <int kN>
POWER_DEVICE void apply_power(float (&w)[kN][4], const float (&s)[kN][4], const float (&row_scale)[2], int degree) {
  POWER_ROLLED
  for (int d = 1; d < degree; ++d) {
    POWER_UNROLL
    for (int n = 0; n < kN; ++n) {
      POWER_UNROLL
      for (int i = 0; i < 4; ++i) w[n][i] *= s[n][i] * row_scale[i / 2];
    }
  }
}

// row_scale^(degree-1), the unit of sums over u.
POWER_DEVICE float power_unit(float row_scale, int degree) {
  float unit = 1.0f;
  POWER_ROLLED
  for (int d = 1; d < degree; ++d) unit *= row_scale;
  return unit;
}

POWER_DEVICE float row_scale_of(const AttentionArgs& args, int head, int row, bool valid) {
  return args.row_scale != nullptr && valid ? args.row_scale[int64_t{head} * args.rows + row] : 1.0f;
}

POWER_DEVICE bool has_state(const Args& args, const Chunk& chunk) {
  return args.states.sums != nullptr && (chunk.index > 0 || args.attention.has_initial);
}

POWER_DEVICE bool has_dstate(const Args& args, const Chunk& chunk) {
  return args.dstates.sums != nullptr && (chunk.index + 1 < args.attention.chunks || args.attention.has_final);
}

// Multiplies a lane's rows of a result.
template <int kN>
POWER_DEVICE void scale_rows(float (&c)[kN][4], const float (&factor)[2]) {
  POWER_UNROLL
  for (int n = 0; n < kN; ++n) {
    POWER_UNROLL
    for (int i = 0; i < 4; ++i) c[n][i] *= factor[i / 2];
  }
}

// Calls use(J, part, four neighbouring columns' memory, first column) for what a lane holds of one row.
template <int kDim, class Use>
POWER_DEVICE void for_each_four(float* row, int head_dim, int lane, const Use& use) {
  POWER_UNROLL
  for (int J = 0; J < kDim / 32; ++J) {
    POWER_UNROLL
    for (int part = 0; part < 2; ++part) {
      const int column = column_of(J, part, lane);
      if (column < head_dim) use(J, part, reinterpret_cast<Four*>(row + column), column);
    }
  }
}

// Adds a row of memory to a lane's part of a result.
template <int kDim>
POWER_DEVICE void add_row(float (&c)[kDim / 8][4], int half, float* row, int head_dim, int lane) {
  for_each_four<kDim>(row, head_dim, lane, [&](int J, int part, Four* memory, int) {
    const Four four = *memory;
    POWER_UNROLL
    for (int j = 0; j < 4; ++j) c[4 * J + j][2 * half + part] += four.value[j];
  });
}

template <int kDim>
POWER_DEVICE void store_row(const float (&c)[kDim / 8][4], int half, float factor, float* row, int head_dim, int lane) {
  for_each_four<kDim>(row, head_dim, lane, [&](int J, int part, Four* memory, int) {
    Four four = four_of(c, J, half, part);
    POWER_UNROLL
    for (int j = 0; j < 4; ++j) four.value[j] *= factor;
    *memory = four;
  });
}

// A lane's part of the product of a row of c with a row of a tile; its sum over the row is sum_of_row.
template <int kDim>
POWER_DEVICE float dot_with_row(const float (&c)[kDim / 8][4], int half, const uint8_t* tile, int tile_row, int lane) {
  float dot = 0.0f;
  POWER_UNROLL
  for (int J = 0; J < kDim / 32; ++J) {
    POWER_UNROLL
    for (int part = 0; part < 2; ++part) {
      const Four x = Tile<kDim>::four(tile, tile_row, column_of(J, part, lane));
      POWER_UNROLL
      for (int j = 0; j < 4; ++j) dot = fmaf(c[4 * J + j][2 * half + part], x.value[j], dot);
    }
  }
  return dot;
}

}  // namespace power::kernels::float32
