#pragma once

#include "kernels/power_attention/state.cuh"

// Tiles of query rows, for the kernels that own them.
namespace power::kernels {

// kRows query rows of one chunk; block y counts tiles from the last chunk's last one, so that long ones come first.
template <int kRows>
struct QueryRows {
  Chunk chunk;
  int row0, row_end, first_token, last_token;

  POWER_DEVICE explicit QueryRows(const AttentionArgs& args)
      : chunk(args, args.first_query_chunk + chunk_offset(args)) {
    const int in_chunk = tile() - chunk_offset(args) * static_cast<int>(args.row_tiles.divisor);
    row0 = chunk.first_row + in_chunk * kRows;
    row_end = row0 + kRows < chunk.end_row ? row0 + kRows : chunk.end_row;
    first_token = token_of_row(args, row0);
    last_token = row0 < row_end ? token_of_row(args, row_end - 1) : first_token;
  }
  POWER_DEVICE bool empty() const { return row0 >= row_end; }

 private:
  static POWER_DEVICE int tile() { return static_cast<int>(gridDim.y - 1 - blockIdx.y); }
  static POWER_DEVICE int chunk_offset(const AttentionArgs& args) { return divide(tile(), args.row_tiles); }
};

// Their grid; sets args.row_tiles.
inline dim3 query_grid(AttentionArgs& args, int tile_rows) {
  const int row_tiles = ceil_div(most_rows_of_chunk(args), tile_rows);
  args.row_tiles = FastDivisor(row_tiles);
  return dim3(args.batch * args.kv_heads.divisor, row_tiles * (args.chunks - args.first_query_chunk));
}

}  // namespace power::kernels
