#pragma once

#include "kernels/common/launch.h"
#include "kernels/power_attention/bwd.h"
#include "kernels/power_attention/config.h"
#include "kernels/power_attention/row_math.cuh"
#include "kernels/power_attention/state.cuh"
#include "kernels/power_attention/supported.h"

// The products are those of bwd_dq.cuh, with keys in place of query rows.
namespace power::kernels {

// What a stage holds of its 64 query rows besides q and dY'.
struct RowColumns {
  float weight[kBlockRows];  // r times the gate down to the tile's first token; r alone in masked tiles
  float delta[kBlockRows];
  float row_scale[kBlockRows];  // degree > 2
  float log2_gate[kBlockRows];  // masked tiles: relative to the last key of the block
  int segment[kBlockRows];      // masked tiles
  // Around the first row's token t: its gates are first_sum[t % 2], its segment first_segment[t % 4].
  FloatPair first_sum[2];
  int first_segment[4];
};

// What the loop over the query rows loads from, kept in shared memory as in KeySource.
struct QuerySource {
  RowView q, dy;
  GateArrays gates;
  const float *delta, *weight;

  POWER_DEVICE QuerySource(const AttentionArgs& args, const HeadIndex& head)
      : q(head.rows(args.q, args)),
        dy(head.rows(args.dy, args)),
        gates(head.gates(args)),
        delta(args.delta + int64_t{head.head} * args.padded_rows),
        weight(args.row_weight + int64_t{head.head} * args.padded_rows) {}
};

template <int kDim>
struct KeyGradientShared {
  using Tile = KeyTile<kDim>;
  static constexpr int kTileBytes = Tile::kRows / kBlockRows * Image<kDim>::kBlockBytes;
  static constexpr int kVOffset = kTileBytes;
  static constexpr int kStageOffset = 2 * kTileBytes;
  static constexpr int kStageBytes = 2 * Image<kDim>::kBlockBytes;  // Q, dY
  static constexpr int kColumnOffset = kStageOffset + Tile::kStages * kStageBytes;
  static constexpr int kSourceOffset = kColumnOffset + Tile::kStages * static_cast<int>(sizeof(RowColumns));
  static constexpr int kBytes = kSourceOffset + static_cast<int>(sizeof(QuerySource));
  using Sums = BlockSums<kDim, Tile::kM, Tile::kThreads>;
  static constexpr int kSumsOffset = round_up(kBytes, 16);
  static constexpr int kChunkedBytes = kSumsOffset + Sums::kBytes;  // of the chunked form
};

// Of a key, relative to the last key of its tile.
POWER_DEVICE float key_log2_gate(const AttentionArgs& args, const GateArrays& gates, int key, int last_key) {
  return args.gated && key < last_key ? difference(gates.sum[key], gates.sum[last_key]) : 0.0f;
}

template <int kDim, int kDegree, Masking kMasking, int kQueries, int kM, class Operand>
POWER_DEVICE void accumulate_dkdv(float (&dk)[kM][kDim / 8][4], float (&dv)[kM][kDim / 8][4], float (&dot)[kM][2],
                                  const Operand& keys, const Operand& values, const AttentionArgs& args,
                                  const GateArrays& gates, int last_key, uint32_t q_tile, uint32_t dy_tile,
                                  const RowColumns& columns, float block_factor, int row0, int query0, int tile_row0,
                                  int first_key, int lane) {
  float s[kM][kQueries / 8][4] = {}, x[kM][kQueries / 8][4] = {};
  q_tile += query0 * Image<kDim>::kRowBytes;  // within a block of 64 rows: the swizzle repeats
  dy_tile += query0 * Image<kDim>::kRowBytes;
  keys.multiply(s, q_tile, 0, lane);
  values.multiply(x, dy_tile, 0, lane);
  [[maybe_unused]] float key_gate[kM][2];
  if constexpr (kMasking == Masking::kExact) {
    POWER_UNROLL
    for (int m = 0; m < kM; ++m) {
      POWER_UNROLL
      for (int half = 0; half < 2; ++half) {
        key_gate[m][half] = key_log2_gate(args, gates, first_key + tile_row0 + 16 * m + 8 * half + lane / 4, last_key);
      }
    }
  }
  POWER_UNROLL
  for (int block = 0; block < kQueries / 8; ++block) {
    POWER_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int column = query0 + 8 * block + 2 * (lane % 4) + i;
      const float column_weight = columns.weight[column] * block_factor, delta = columns.delta[column];
      const float row_scale = kDegree == kAnyDegree ? columns.row_scale[column] : 1.0f;
      POWER_UNROLL
      for (int m = 0; m < kM; ++m) {
        POWER_UNROLL
        for (int half = 0; half < 2; ++half) {
          float weight = column_weight;
          [[maybe_unused]] const int key = first_key + tile_row0 + 16 * m + 8 * half + lane / 4;
          if constexpr (kMasking == Masking::kExact) {
            weight *= exp2_approx(columns.log2_gate[column] - key_gate[m][half]);
            if (key < columns.segment[column]) weight = 0.0f;
          }
          if constexpr (kMasking != Masking::kNone) {  // key > token of the row, without a division
            if (row0 + column < (key - args.first_key) * static_cast<int>(args.group.divisor)) weight = 0.0f;
          }
          float& score = s[m][block][2 * half + i];
          const float u = power_weight<kDegree>(score, row_scale, weight, args.degree);
          const float ds = u * (x[m][block][2 * half + i] - delta);
          dot[m][half] = fmaf(score, ds, dot[m][half]);
          score *= u;
          x[m][block][2 * half + i] = ds;
        }
      }
    }
  }
  uint32_t a[kM][kQueries / 16][4];
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    POWER_UNROLL
    for (int k = 0; k < kQueries / 16; ++k) pack_a_fragment(a[m][k], s[m][2 * k], s[m][2 * k + 1]);
  }
  multiply_mnmajor<kDim>(dv, a, dy_tile, 0, lane);
  sync_warp();  // keeps ptxas from loading the next product's operands early, into registers that are not there
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    POWER_UNROLL
    for (int k = 0; k < kQueries / 16; ++k) pack_a_fragment(a[m][k], x[m][2 * k], x[m][2 * k + 1]);
  }
  multiply_mnmajor<kDim>(dk, a, q_tile, 0, lane);
}

// What the gradient of the state after the chunk adds to dk / p, to its product with k, and to dv.
template <int kDim, int kDegree, int kThreads, int kM, class Tail>
POWER_DEVICE void accumulate_state_dkdv(float (&dk)[kM][kDim / 8][4], float (&dv)[kM][kDim / 8][4], float (&dot)[kM][2],
                                        float state_factor, const AttentionArgs& args, int head, const Chunk& chunk,
                                        uint32_t stages, const uint8_t* k_tile, const uint8_t* v_tile, uint8_t* sums,
                                        int tile_row0, int thread, const Tail& tail) {
  const int lane = thread % 32;
  const uint16_t* image = state_image<kDim, kDegree>(args, args.dstates, head, chunk.index);
  const int blocks = image_blocks(kDim, args.head_dim, kDegree);
  RowOperand<kDim, kM, kDegree == 2> values;
  values.load(shared_address(v_tile), tile_row0, lane);
  RowOperand<kDim, kM, false> keys;
  keys.load(shared_address(k_tile), tile_row0, lane);
  float one[kM][2];
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) one[m][0] = one[m][1] = 1.0f;
  if constexpr (kDegree == 1) {
    stream_state<kDim, kThreads>(
        stages, image, blocks, thread,
        [&](int block, uint32_t address) {
          multiply_dimensions_transposed<kDim>(dk, values, address, block, lane);
          multiply_dimensions<kDim>(dv, keys, address, block, lane);
        },
        tail);
    add_outer<kDim>(dk, one, state_keys<kDim, kDegree>(args, args.dstates, head, chunk.index), lane);
  } else {
    PhiGradient<kDim, kM, kThreads> gradient(sums, thread);
    stream_state<kDim, kThreads>(
        stages, image, blocks, thread,
        [&](int block, uint32_t address) {
          if (block >= args.state_tiles) {
            const int part = (block - args.state_tiles) % dimension_blocks(kDim);
            return gradient.add_key_products(keys, address, part, one, lane);
          }
          gradient.contract(k_tile, tile_row0, values, address, args.head_dim / kPhiBlock, lane,
                            [&](int x, const auto& rotated, const auto& inner) {
                              uint32_t phi[kM][1][4];
                              phi_fragment<kM>(phi, rotated, inner);
                              multiply_mnmajor<kDim>(dv, phi, address, 16 * x, lane);
                            });
        },
        tail);
    gradient.get(dk);
  }
  scale<kDim>(dk, state_factor);
  scale<kDim>(dv, state_factor);
  add_dots<kDim>(dot, dk, k_tile, tile_row0, lane);
}

// The blocks of 64 query rows that see a tile of keys: [masked, clear) one by one, [clear, end) with every row at or
// after the last key.
struct QueryBlocks {
  int masked, clear, end;
};

template <int kThreads>
POWER_DEVICE QueryBlocks find_query_blocks(const AttentionArgs& args, const GateArrays& gates, int first_key,
                                           int last_key, int row_end, int thread) {
  const int group = static_cast<int>(args.group.divisor);
  const int total = (row_end + kBlockRows - 1) / kBlockRows;
  const int first_row = first_key > args.first_key ? (first_key - args.first_key) * group : 0;
  const int clear_row = last_key > args.first_key ? (last_key - args.first_key) * group : 0;
  QueryBlocks blocks{first_row / kBlockRows, (clear_row + kBlockRows - 1) / kBlockRows, total};
  if (blocks.masked > total) blocks.masked = total;
  if (blocks.clear > total) blocks.clear = total;
  if (!args.gated || total - blocks.clear <= kFewBlocks) return blocks;
  const FloatPair reference = gates.sum[last_key];
  blocks.end = blocks.clear;
  for (int base = blocks.clear; base < total; base += kThreads) {
    const int block = base + thread;
    bool live = false;
    if (block < total) {
      const int token = token_of_row(args, block * kBlockRows);
      live = gates.segment[token] <= last_key && difference(gates.sum[token], reference) >= kNoWeightLog2;
    }
    const int count = sync_block_count(live);
    blocks.end += count;
    if (count < kThreads) break;
  }
  return blocks;
}

// Two kernels, so that the quadratic form has the registers to itself.
template <int kDim, int kDegree, bool kChunked>
__global__ void __launch_bounds__(KeyTile<kDim>::kThreads, KeyTile<kDim>::kBlocks)
    power_attention_bwd_dkdv_kernel(const __grid_constant__ AttentionArgs args) {
  using Tile = KeyTile<kDim>;
  using Shared = KeyGradientShared<kDim>;
  constexpr int kM = Tile::kM, kThreads = Tile::kThreads;
  POWER_SHARED_MEMORY(shared);
  const uint32_t base = shared_address(shared);
  RowColumns* columns = reinterpret_cast<RowColumns*>(shared + Shared::kColumnOffset);
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const HeadIndex head(args, blockIdx.x);
  const QuerySource first_source(args, head);
  auto& kept_source = *reinterpret_cast<QuerySource*>(shared + Shared::kSourceOffset);
  if (thread == 0) kept_source = first_source;
  const GateArrays& gates = first_source.gates;
  const int chunk_index = divide(blockIdx.y, args.key_tiles);
  const Chunk chunk(args, chunk_index);
  const int tile_of_chunk = static_cast<int>(blockIdx.y) - chunk_index * static_cast<int>(args.key_tiles.divisor);
  const int first_key = chunk.first_key + tile_of_chunk * Tile::kRows;  // the first keys have the most queries
  if (first_key >= chunk.end_key) return;
  const int key_end = first_key + Tile::kRows < chunk.end_key ? first_key + Tile::kRows : chunk.end_key;
  const int last_key = key_end - 1;
  const int tile_row0 = 16 * kM * warp;
  const FloatPair reference = args.gated ? gates.sum[last_key] : FloatPair{0.0f, 0.0f};

  load_tokens_async<kDim, Tile::kRows, kThreads>(base, head.keys(args.k), first_key, key_end, args.head_dim, thread);
  load_tokens_async<kDim, Tile::kRows, kThreads>(base + Shared::kVOffset, head.keys(args.v), first_key, key_end,
                                                 args.head_dim, thread);
  const QueryBlocks blocks = find_query_blocks<kThreads>(args, gates, first_key, last_key, chunk.end_row, thread);
  const int clear_count = blocks.end - blocks.clear, count = clear_count + blocks.clear - blocks.masked;

  const auto first_row_of = [&](int step) {
    return (step < clear_count ? blocks.clear + step : blocks.masked + step - clear_count) * kBlockRows;
  };
  const auto load_rows = [&](int step, const QuerySource& source) {
    const int row0 = first_row_of(step), loader = again(threadIdx.x);
    const uint32_t tile = base + Shared::kStageOffset + step % Tile::kStages * Shared::kStageBytes;
    load_tile_async<kDim, kBlockRows, kThreads>(tile, source.q, args.group, row0, chunk.end_row, args.head_dim, loader);
    load_tile_async<kDim, kBlockRows, kThreads>(tile + Image<kDim>::kBlockBytes, source.dy, args.group, row0,
                                                chunk.end_row, args.head_dim, loader);
  };
  // Without a state the rows come first, and wait for nothing that follows here.
  if (!kChunked && count > 0) load_rows(0, first_source);
  bool with_state = false;
  float state_factor = 1.0f;
  if constexpr (kChunked) {
    with_state = chunk.has_dstate(args) && (!args.gated || gates.segment[chunk.end_key - 1] <= last_key);
    if (with_state && args.gated) {
      state_factor = exp2_approx(difference(gates.sum[chunk.end_key - 1], reference));
      with_state = state_factor != 0.0f;
    }
  }
  // The masked rows and the keys together decide how their gates are applied.
  const int masked_row = blocks.masked * kBlockRows, clear_row = blocks.clear * kBlockRows;
  const int masked_token = token_of_row(args, masked_row < args.rows ? masked_row : args.rows - 1);
  const int clear_token = token_of_row(args, clear_row < args.rows ? clear_row : args.rows - 1);
  const bool mild =
      count == clear_count || gates_are_mild(args, gates, masked_token < first_key ? masked_token : first_key,
                                             clear_token > last_key ? clear_token : last_key);

  const auto load_columns = [&](int step, const QuerySource& source) {
    const bool exact = step >= clear_count && !mild;
    const int row0 = first_row_of(step), loader = again(threadIdx.x);
    RowColumns& stage = columns[step % Tile::kStages];
    // A warp each: one that did all of it would keep the others waiting at the barrier.
    const int part = loader / 32, place = loader % 32;
    if (part == 1 && place < kBlockRows / 4) {
      cp_async_16(shared_address(stage.delta + 4 * place), source.delta + row0 + 4 * place, true);
    }
    if (part == 2 && place < kBlockRows / 4 && !exact) {
      cp_async_16(shared_address(stage.weight + 4 * place), source.weight + row0 + 4 * place, true);
    }
    if (loader < kBlockRows && (exact || kDegree == kAnyDegree)) {
      const int row = row0 + loader;
      const int64_t index = int64_t{again(blockIdx.x)} * args.rows + row;
      const bool valid = row < chunk.end_row;
      if constexpr (kDegree == kAnyDegree) stage.row_scale[loader] = valid ? args.row_scale[index] : 0.0f;
      if (exact) {
        const int token = token_of_row(args, valid ? row : chunk.end_row - 1);
        stage.weight[loader] = valid ? args.inverse[index] : 0.0f;
        stage.segment[loader] = source.gates.segment[token];
        stage.log2_gate[loader] = difference(source.gates.sum[token], reference);
      }
    }
    if (args.gated && part == 3 && place == 0) {
      const int token = token_of_row(args, row0);
      cp_async_16(shared_address(stage.first_sum), source.gates.sum + token / 2 * 2, true);
      cp_async_16(shared_address(stage.first_segment), source.gates.segment + token / 4 * 4, true);
    }
  };
  const auto load_stage = [&](int step, const QuerySource& source) {
    load_rows(step, source);
    load_columns(step, source);
  };

  const auto own_gate = [&](int key) {  // from the last key's gate to the key's own
    const float gate = exp2_approx(-key_log2_gate(args, gates, key, last_key));
    return key < gates.segment[last_key] ? 0.0f : gate;
  };
  const uint32_t stages = base + Shared::kStageOffset;
  if (kChunked && with_state) {
    load_first_pair<kDim, kDegree, kThreads>(stages, args, args.dstates, head.head, chunk.index, thread);
  } else if (count > 0) {
    if (kChunked) load_rows(0, first_source);
    load_columns(0, first_source);
  }
  cp_async_commit();
  float dk[kM][kDim / 8][4] = {}, dv[kM][kDim / 8][4] = {}, dot[kM][2] = {};
  if constexpr (kChunked) {
    if (with_state) {
      cp_async_wait<0>();
      sync_block();
      accumulate_state_dkdv<kDim, kDegree, kThreads>(dk, dv, dot, state_factor, args, head.head, chunk, stages, shared,
                                                     shared + Shared::kVOffset, shared + Shared::kSumsOffset, tile_row0,
                                                     thread, [&] {
                                                       if (count > 0) load_stage(0, kept_source);
                                                     });
    }
    if (args.key_state_dot != nullptr) {
      POWER_UNROLL
      for (int m = 0; m < kM; ++m) {
        POWER_UNROLL
        for (int half = 0; half < 2; ++half) {
          const int key = first_key + tile_row0 + 16 * m + 8 * half + lane / 4;
          dot[m][half] = sum_of_row(dot[m][half]);
          if (lane % 4 == 0 && key < key_end) {
            args.key_state_dot[int64_t{head.head} * args.keys + key] = dot[m][half] * own_gate(key);
          }
          dot[m][half] = 0.0f;
        }
      }
    }
  }
  RowOperand<kDim, kM, false> keys, values;
  keys.load(base, tile_row0, lane);
  values.load(base + Shared::kVOffset, tile_row0, lane);
  // The first query row that sees one of the warp's keys.
  const int warp_first_row = (first_key + tile_row0 - args.first_key) * static_cast<int>(args.group.divisor);
  const auto to_own_gates = [&] {  // from the last key's gate to each key's own
    if (!args.gated) return;
    POWER_UNROLL
    for (int m = 0; m < kM; ++m) {
      POWER_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int key = first_key + tile_row0 + 16 * m + 8 * half + lane / 4;
        const float factor = own_gate(key);
        dot[m][half] *= factor;
        POWER_UNROLL
        for (int c = 0; c < kDim / 8; ++c) {
          POWER_UNROLL
          for (int i = 0; i < 2; ++i) {
            dk[m][c][2 * half + i] *= factor;
            dv[m][c][2 * half + i] *= factor;
          }
        }
      }
    }
  };
  for (int step = 0; step < count; ++step) {
    cp_async_wait<0>();
    sync_block();
    if (step + 1 < count) load_stage(step + 1, kept_source);
    cp_async_commit();
    const int slot = step % Tile::kStages;
    const uint32_t q_tile = stages + slot * Shared::kStageBytes;
    const uint32_t dy_tile = q_tile + Image<kDim>::kBlockBytes;
    const RowColumns& stage = columns[slot];
    const int row0 = first_row_of(step);
    float block_factor = 1.0f;
    if (args.gated) {
      const int token = token_of_row(args, row0);
      const bool other_segment = stage.first_segment[token % 4] > last_key;
      block_factor = other_segment ? 0.0f : exp2_approx(difference(stage.first_sum[token % 2], reference));
    }
    if (step == clear_count && !mild) to_own_gates();
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
    constexpr int kQueries = kDim == 64 && kDegree == 2 ? 16 : Tile::kQueries;  // ptxas spills more for these
#else
    constexpr int kQueries = Tile::kQueries;
#endif
    POWER_ROLLED
    for (int query0 = 0; query0 < kBlockRows; query0 += kQueries) {
      // With the registers that states take, offsets into the tiles are cheaper to compute again than to keep.
      const int part_lane = (kChunked ? again(thread) : thread) % 32;
      if (step < clear_count) {
        accumulate_dkdv<kDim, kDegree, Masking::kNone, kQueries>(dk, dv, dot, keys, values, args, gates, last_key,
                                                                 q_tile, dy_tile, stage, block_factor, row0, query0,
                                                                 tile_row0, first_key, part_lane);
      } else if (row0 + query0 + kQueries <= warp_first_row) {
        continue;  // all masked
      } else if (mild) {
        accumulate_dkdv<kDim, kDegree, Masking::kShare, kQueries>(dk, dv, dot, keys, values, args, gates, last_key,
                                                                  q_tile, dy_tile, stage, block_factor, row0, query0,
                                                                  tile_row0, first_key, part_lane);
      } else {
        accumulate_dkdv<kDim, kDegree, Masking::kExact, kQueries>(dk, dv, dot, keys, values, args, gates, last_key,
                                                                  q_tile, dy_tile, stage, 1.0f, row0, query0, tile_row0,
                                                                  first_key, part_lane);
      }
    }
  }
  if (mild) to_own_gates();
  if (count == 0) {  // the tiles of k and v are waited for nowhere else
    cp_async_wait<0>();
    sync_block();
  }

  float one[kM][2], dk_factor[kM][2];
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    POWER_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int key = first_key + tile_row0 + 16 * m + 8 * half + lane / 4;
      one[m][half] = 1.0f;
      dk_factor[m][half] = static_cast<float>(args.degree);
      dot[m][half] = sum_of_row(dot[m][half]);
      if (args.gated && lane % 4 == 0 && key < key_end) {
        args.key_dot[int64_t{head.head} * args.keys + key] = dot[m][half];
      }
    }
  }
  const auto store = [&](const float(&c)[kM][kDim / 8][4], const float(&factor)[kM][2], int tile_offset,
                         const StridedView& out) {
    store_rows<kDim>(c, factor, shared + tile_offset, tile_row0,
                     const_cast<uint16_t*>(out.data) + head.batch * out.batch + head.kv_head * out.head, out.token, 0,
                     FastDivisor(), first_key + tile_row0, key_end, args.head_dim, lane);
  };
  store(dv, one, Shared::kVOffset, args.dv);
  store(dk, dk_factor, 0, args.dk);
}

template <int kDim, int kDegree>
void run_power_attention_bwd_dkdv(AttentionArgs args, void* stream) {
  using Tile = KeyTile<kDim>;
  using Shared = KeyGradientShared<kDim>;
  const int key_tiles = ceil_div(args.chunk < args.keys ? args.chunk : args.keys, Tile::kRows);
  args.key_tiles = FastDivisor(key_tiles);
  const dim3 grid(args.batch * args.kv_heads.divisor, key_tiles * args.chunks);
  if constexpr (kDegree != kAnyDegree) {
    if (args.dstates.images != nullptr) {
      return launch(power_attention_bwd_dkdv_kernel<kDim, kDegree, true>, "power_attention_bwd_dkdv_kernel", grid,
                    Tile::kThreads, Shared::kChunkedBytes, stream, args);
    }
  }
  launch(power_attention_bwd_dkdv_kernel<kDim, kDegree, false>, "power_attention_bwd_dkdv_kernel", grid, Tile::kThreads,
         Shared::kBytes, stream, args);
}

}  // namespace power::kernels
