#pragma once

// Shared-memory images of 64 tokens and the products on them.
//
// A block of 64 rows x kDim bf16 is stored as images of 64 columns (128-byte rows, 16-byte chunk c of row r at chunk
// c ^ (r % 8), which is the hardware's 128B swizzle) or, for kDim = 32, of 32 columns (64-byte rows, chunk c ^ (r/2 %
// 4), the 64B swizzle). ldmatrix then reads eight rows without a bank conflict, as K-major and as MN-major operand
// alike.

#include "kernels/common/ptx.cuh"

namespace power::kernels {

inline constexpr int kBlockRows = 64;

template <int kDim>
struct Image {
  static_assert(kDim == 32 || kDim % 64 == 0, "head dims are filled up to 32, 64 or 128");
  static constexpr int kColumns = kDim < 64 ? 32 : 64;
  static constexpr int kRowBytes = 2 * kColumns;
  static constexpr int kImageBytes = kBlockRows * kRowBytes;
  static constexpr int kChunks = kDim / 8;  // 16-byte chunks in a row
  static constexpr int kBlockBytes = kBlockRows * kDim * 2;

  // Byte offsets are built so that loops over constants cost immediates, or one instruction for a run-time chunk:
  // of chunk 0 of a row, where `row` counts through consecutive blocks of 64 rows,
  static POWER_DEVICE uint32_t row(int index) {
    const uint32_t r = static_cast<uint32_t>(index) % kBlockRows, swizzle = kColumns == 64 ? r & 7 : (r >> 1) & 3;
    return static_cast<uint32_t>(index) / kBlockRows * kBlockBytes + r * kRowBytes + (swizzle << 4);
  }
  // from there (or from there plus a multiple of kRowBytes) to another chunk of the row,
  static POWER_DEVICE uint32_t chunk(uint32_t offset, int index) {
    constexpr int kImageChunks = kColumns / 8;
    const uint32_t image = static_cast<uint32_t>(index) / kImageChunks, c = static_cast<uint32_t>(index) % kImageChunks;
    return (offset ^ (c << 4)) + image * kImageBytes;
  }
  // and from a row to one a multiple of 8 rows further in the same block.
  static constexpr POWER_DEVICE uint32_t rows(int count) { return static_cast<uint32_t>(count) * kRowBytes; }

  static POWER_DEVICE uint32_t offset(int row_index, int chunk_index) { return chunk(row(row_index), chunk_index); }
  // Where 16 rows begin, for addresses that are built further.
  static POWER_DEVICE uint32_t rows16(int first) {
    return static_cast<uint32_t>(first) / kBlockRows * kBlockBytes + rows(static_cast<uint32_t>(first) % kBlockRows);
  }
};

// ldmatrix.x4 takes a 16x16 piece; a lane gives the address of one row of one 8x8 quarter. Lanes 0-15 the 16 rows,
// 16-31 their second halves:
template <int kDim>
POWER_DEVICE uint32_t lane_of_rows(int lane) {
  return Image<kDim>::offset(lane & 15, lane >> 4);
}
// Lanes 0-7, 8-15 the two halves of 8 rows, 16-31 those of the next 8:
template <int kDim>
POWER_DEVICE uint32_t lane_of_columns(int lane) {
  return Image<kDim>::offset((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);
}

// A fragment (16 rows x 16 columns) of a row-major block: rows row0.., chunks 2*k16 and 2*k16+1.
template <int kDim>
POWER_DEVICE void load_a_fragment(uint32_t (&a)[4], uint32_t block, int row0, int k16, int lane) {
  ldmatrix_x4(a, Image<kDim>::chunk(block + lane_of_rows<kDim>(lane), 2 * k16) + Image<kDim>::rows(row0));
}

// B fragments of 16 columns n and 16 of the summed index from a block stored [n][k]: b[0..1] first 8 n, b[2..3] next 8.
template <int kDim>
POWER_DEVICE void load_b_kmajor(uint32_t (&b)[4], uint32_t tile, int n0, int k16, int lane) {
  ldmatrix_x4(b, Image<kDim>::chunk(tile + lane_of_columns<kDim>(lane), 2 * k16) + Image<kDim>::rows(n0));
}

// The same from a block stored [k][n]: rows k0.., columns 16*n16...
template <int kDim>
POWER_DEVICE void load_b_mnmajor(uint32_t (&b)[4], uint32_t tile, int k0, int n16, int lane) {
  ldmatrix_x4_trans(b, Image<kDim>::chunk(tile + lane_of_rows<kDim>(lane), 2 * n16) + Image<kDim>::rows(k0));
}

// c[m][n8] += A * B^T over the head dim; A as fragments in registers, B rows n0.. of a tile [n][kDim].
template <int kDim, int kM, int kN8>
POWER_DEVICE void multiply_kmajor(float (&c)[kM][kN8][4], const uint32_t (&a)[kM][kDim / 16][4], uint32_t tile, int n0,
                                  int lane) {
  POWER_UNROLL
  for (int k = 0; k < kDim / 16; ++k) {
    POWER_UNROLL
    for (int n = 0; n < kN8 / 2; ++n) {
      uint32_t b[4];
      load_b_kmajor<kDim>(b, tile, n0 + 16 * n, k, lane);
      POWER_UNROLL
      for (int m = 0; m < kM; ++m) {
        mma_m16n8k16_bf16(c[m][2 * n], a[m][k], b[0], b[1]);
        mma_m16n8k16_bf16(c[m][2 * n + 1], a[m][k], b[2], b[3]);
      }
    }
  }
}

// The same with A from shared memory: the first rows of a block [m][kDim].
template <int kDim, int kM, int kN8>
POWER_DEVICE void multiply_kmajor(float (&c)[kM][kN8][4], uint32_t a_block, uint32_t tile, int n0, int lane) {
  POWER_UNROLL
  for (int k = 0; k < kDim / 16; ++k) {
    uint32_t a[kM][4];
    POWER_UNROLL
    for (int m = 0; m < kM; ++m) load_a_fragment<kDim>(a[m], a_block, 16 * m, k, lane);
    POWER_UNROLL
    for (int n = 0; n < kN8 / 2; ++n) {
      uint32_t b[4];
      load_b_kmajor<kDim>(b, tile, n0 + 16 * n, k, lane);
      POWER_UNROLL
      for (int m = 0; m < kM; ++m) {
        mma_m16n8k16_bf16(c[m][2 * n], a[m], b[0], b[1]);
        mma_m16n8k16_bf16(c[m][2 * n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// A warp's 16*kM rows of a tile as the A operand: fragments in registers, or read from shared memory each time where
// registers are better spent on more warps.
template <int kDim, int kM, bool kInRegisters>
struct RowOperand {
  uint32_t fragment[kM][kDim / 16][4];
  POWER_DEVICE void load(uint32_t tile, int row0, int lane) {
    const uint32_t rows = tile + Image<kDim>::rows16(row0);
    POWER_UNROLL
    for (int m = 0; m < kM; ++m) {
      POWER_UNROLL
      for (int k = 0; k < kDim / 16; ++k) load_a_fragment<kDim>(fragment[m][k], rows, 16 * m, k, lane);
    }
  }
  template <int kN8>
  POWER_DEVICE void multiply(float (&c)[kM][kN8][4], uint32_t b_tile, int n0, int lane) const {
    multiply_kmajor<kDim>(c, fragment, b_tile, n0, lane);
  }
  POWER_DEVICE void fragment_of(uint32_t (&a)[kM][1][4], int k16, int) const {
    POWER_UNROLL
    for (int m = 0; m < kM; ++m) {
      POWER_UNROLL
      for (int i = 0; i < 4; ++i) a[m][0][i] = fragment[m][k16][i];
    }
  }
};

template <int kDim, int kM>
struct RowOperand<kDim, kM, false> {
  uint32_t rows;
  POWER_DEVICE void load(uint32_t tile, int row0, int) { rows = tile + Image<kDim>::rows16(row0); }
  template <int kN8>
  POWER_DEVICE void multiply(float (&c)[kM][kN8][4], uint32_t b_tile, int n0, int lane) const {
    multiply_kmajor<kDim>(c, rows, b_tile, n0, lane);
  }
  POWER_DEVICE void fragment_of(uint32_t (&a)[kM][1][4], int k16, int lane) const {
    POWER_UNROLL
    for (int m = 0; m < kM; ++m) load_a_fragment<kDim>(a[m][0], rows, 16 * m, k16, lane);
  }
};

// c[m][n8] += A * B summed over kK16*16 rows k0.. of a tile [k][kDim].
template <int kDim, int kM, int kK16>
POWER_DEVICE void multiply_mnmajor(float (&c)[kM][kDim / 8][4], const uint32_t (&a)[kM][kK16][4], uint32_t tile, int k0,
                                   int lane) {
  POWER_UNROLL
  for (int k = 0; k < kK16; ++k) {
    POWER_UNROLL
    for (int n = 0; n < kDim / 16; ++n) {
      uint32_t b[4];
      load_b_mnmajor<kDim>(b, tile, k0 + 16 * k, n, lane);
      POWER_UNROLL
      for (int m = 0; m < kM; ++m) {
        mma_m16n8k16_bf16(c[m][2 * n], a[m][k], b[0], b[1]);
        mma_m16n8k16_bf16(c[m][2 * n + 1], a[m][k], b[2], b[3]);
      }
    }
  }
}

// Accumulator layout and A-fragment layout are the same: packs two neighbouring 16x8 blocks into one 16x16 fragment.
POWER_DEVICE void pack_a_fragment(uint32_t (&a)[4], const float (&left)[4], const float (&right)[4]) {
  a[0] = pack_bf16(left[0], left[1]);
  a[1] = pack_bf16(left[2], left[3]);
  a[2] = pack_bf16(right[0], right[1]);
  a[3] = pack_bf16(right[2], right[3]);
}

// One tensor (batch, token, head, element) seen from one (batch, kv head): row r is token r / group, head r % group.
// Strides in bytes, of 31 bits: a product with one is a single instruction.
struct RowView {
  const uint8_t* data;
  int token_stride, head_stride;

  POWER_DEVICE const uint8_t* at(int token, int head, int chunk) const {
    return data + int64_t{token} * token_stride + int64_t{head} * head_stride + 16 * chunk;
  }
};

// Starts the copy of kRows tokens row0.. of one head into a tile; those from row_limit on and columns from head_dim on
// become zero.
template <int kDim, int kRows, int kThreads>
POWER_DEVICE void load_tokens_async(uint32_t tile, const RowView& view, int row0, int row_limit, int head_dim,
                                    int thread) {
  constexpr int kChunks = Image<kDim>::kChunks, kRowsAtOnce = kThreads / kChunks;
  static_assert(kThreads % kChunks == 0 && kRows % kRowsAtOnce == 0, "every thread copies the same number of chunks");
  static_assert(kRowsAtOnce % 8 == 0 && kBlockRows % kRowsAtOnce == 0, "steps of Image::rows");
  const int chunk = thread % kChunks, first = row0 + thread / kChunks;
  const uint8_t* source = view.at(first, 0, chunk);
  const int64_t step = int64_t{kRowsAtOnce} * view.token_stride;
  const int rows = 8 * chunk < head_dim ? row_limit - first : 0;
  const uint32_t target = tile + Image<kDim>::offset(thread / kChunks, chunk);
  POWER_UNROLL
  for (int i = 0; i < kRows / kRowsAtOnce; ++i) {
    const int row = i * kRowsAtOnce;
    cp_async_16(target + row / kBlockRows * Image<kDim>::kBlockBytes + Image<kDim>::rows(row % kBlockRows), source,
                row < rows);
    source += step;
  }
}

// The same for rows of a group of heads.
template <int kDim, int kRows, int kThreads>
POWER_DEVICE void load_tile_async(uint32_t tile, const RowView& view, const FastDivisor& group, int row0, int row_limit,
                                  int head_dim, int thread) {
  if (group.divisor == 1) {
    return load_tokens_async<kDim, kRows, kThreads>(tile, view, row0, row_limit, head_dim, thread);
  }
  constexpr int kChunks = Image<kDim>::kChunks, kRowsAtOnce = kThreads / kChunks;
  static_assert(kThreads % kChunks == 0 && kRows % kRowsAtOnce == 0, "every thread copies the same number of chunks");
  static_assert(kRowsAtOnce % 8 == 0 && kBlockRows % kRowsAtOnce == 0, "steps of Image::rows");
  const int chunk = thread % kChunks, first = row0 + thread / kChunks;
  const int heads = static_cast<int>(group.divisor), token = divide(first, group);
  const int token_step = divide(kRowsAtOnce, group), head_step = kRowsAtOnce - token_step * heads;
  int head = first - token * heads;
  const uint8_t* source = view.at(token, head, chunk);
  const int64_t step = int64_t{token_step} * view.token_stride + int64_t{head_step} * view.head_stride;
  const int64_t next_token = view.token_stride - int64_t{heads} * view.head_stride;
  const int rows = 8 * chunk < head_dim ? row_limit - first : 0;
  const uint32_t target = tile + Image<kDim>::offset(thread / kChunks, chunk);
  POWER_UNROLL
  for (int i = 0; i < kRows / kRowsAtOnce; ++i) {
    const int row = i * kRowsAtOnce;
    cp_async_16(target + row / kBlockRows * Image<kDim>::kBlockBytes + Image<kDim>::rows(row % kBlockRows), source,
                row < rows);
    source += step;
    head += head_step;
    if (head >= heads) {
      head -= heads;
      source += next_token;
    }
  }
}

// Writes a warp's accumulators (16*kM rows x kDim, times row_factor) as bf16 rows row0.. through its own part of shared
// memory (16*kM rows of Image<kDim>, tile_row0.. of `tile`), so that global writes are 16 bytes a lane.
template <int kDim, int kM>
POWER_DEVICE void store_rows(const float (&c)[kM][kDim / 8][4], const float (&row_factor)[kM][2], uint8_t* tile,
                             int tile_row0, uint16_t* out, int64_t token_stride, int64_t head_stride,
                             const FastDivisor& group, int row0, int row_limit, int head_dim, int lane) {
  sync_warp();  // every lane has read what these rows held before
  const uint32_t own = Image<kDim>::row(tile_row0 + lane / 4) + 4 * (lane % 4);
  POWER_UNROLL
  for (int m = 0; m < kM; ++m) {
    POWER_UNROLL
    for (int n = 0; n < kDim / 8; ++n) {
      POWER_UNROLL
      for (int half = 0; half < 2; ++half) {
        const uint32_t packed =
            pack_bf16(c[m][n][2 * half] * row_factor[m][half], c[m][n][2 * half + 1] * row_factor[m][half]);
        *reinterpret_cast<uint32_t*>(tile + Image<kDim>::chunk(own, n) + Image<kDim>::rows(16 * m + 8 * half)) = packed;
      }
    }
  }
  sync_warp();
  constexpr int kChunks = Image<kDim>::kChunks, kRowsAtOnce = 32 / kChunks;
  const int chunk = lane % kChunks;
  POWER_UNROLL
  for (int i = 0; i < 16 * kM / kRowsAtOnce; ++i) {
    const int row = lane / kChunks + i * kRowsAtOnce, r = row0 + row;
    if (r >= row_limit || 8 * chunk >= head_dim) continue;
    const uint32_t token = divide(r, group), head = r - token * group.divisor;
    *reinterpret_cast<uint4*>(out + token * token_stride + head * head_stride + 8 * chunk) =
        *reinterpret_cast<const uint4*>(tile + Image<kDim>::offset(tile_row0 + row, chunk));
  }
}

}  // namespace power::kernels
