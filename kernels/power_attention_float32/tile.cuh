#pragma once

#include "kernels/common/ptx.cuh"
#include "kernels/power_attention/args.h"
#include "kernels/power_attention/row_math.cuh"
#include "kernels/power_attention_float32/args.h"

// Tiles of float32 rows in shared memory, and products that keep float32's precision on tensor cores (tf32x3): an
// operand is split into its 11 leading bits and the rest, a product is low*high + high*low + high*high. The
// accumulators of tensor cores truncate, so a sum takes fresh ones for every 32 terms, which are then added in float32.
//
// Summed indices and columns may be taken in any order as long as both operands agree. The order here lets a lane read
// and hold four neighbours: 16 bytes an access, and no shuffle between one product and the next.
namespace power::kernels::float32 {

struct alignas(16) Four {
  float value[4];
};

struct alignas(8) Two {
  float value[2];
};

// Rows of kDim floats; 16-byte chunk c of row r stands at chunk c ^ s(r), with s such that eight rows differ (columns
// of rows), rows r and r + 1 differ in bit 2 (rows as the B operand), and rows of one parity in bits 1 and 2 (columns
// as the B operand): all reads are free of bank conflicts.
template <int kDim>
struct Tile {
  static_assert(kDim % 32 == 0, "head dims are filled up to 32, 64 or 128");
  static constexpr int kRowBytes = 4 * kDim;

  static POWER_DEVICE uint32_t offset(int row, int column) {
    const uint32_t swizzle = (row & 6) ^ ((row & 1) * 5);
    return static_cast<uint32_t>(row) * kRowBytes + ((4u * static_cast<uint32_t>(column)) ^ (swizzle << 4));
  }
  static POWER_DEVICE float& at(uint8_t* tile, int row, int column) {
    return *reinterpret_cast<float*>(tile + offset(row, column));
  }
  static POWER_DEVICE float at(const uint8_t* tile, int row, int column) {
    return *reinterpret_cast<const float*>(tile + offset(row, column));
  }
  static POWER_DEVICE Four four(const uint8_t* tile, int row, int column) {
    return *reinterpret_cast<const Four*>(tile + offset(row, column));
  }
};

struct RowsView {
  const float* data;
  int64_t token_stride, head_stride;  // elements
};

// Starts the copy of rows row0..row0+kRows-1 into a tile; rows outside row_begin..row_limit-1 and columns from
// head_dim on become zero.
template <int kDim, int kRows, int kThreads>
POWER_DEVICE void load_rows_async(uint8_t* tile, const RowsView& view, const FastDivisor& group, int row0,
                                  int row_limit, int head_dim, int thread, int row_begin = 0) {
  constexpr int kChunks = kDim / 4, kRowsAtOnce = kThreads / kChunks;
  static_assert(kThreads % kChunks == 0 && kRows % kRowsAtOnce == 0, "every thread copies the same number of chunks");
  const uint32_t base = shared_address(tile);
  const int column = 4 * (thread % kChunks);
  POWER_UNROLL
  for (int i = 0; i < kRows / kRowsAtOnce; ++i) {
    const int row = thread / kChunks + i * kRowsAtOnce;
    const bool valid = row0 + row >= row_begin && row0 + row < row_limit && column < head_dim;
    const uint32_t r = valid ? row0 + row : 0, token = divide(r, group), head = r - token * group.divisor;
    const float* source = view.data + token * view.token_stride + head * view.head_stride + (valid ? column : 0);
    cp_async_16(base + Tile<kDim>::offset(row, column), source, valid);
  }
}

struct Split {
  uint32_t high, low;
};

// x = high + low: 11 leading bits, rounded, and the rest, which fits 12 bits.
POWER_DEVICE Split split(float x) {
  const uint32_t high = (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
  return {high, __float_as_uint(x - __uint_as_float(high))};
}

struct AFragment {
  uint32_t high[4], low[4];
  POWER_DEVICE void set(int i, float x) {
    const Split s = split(x);
    high[i] = s.high;
    low[i] = s.low;
  }
};

// The parts of a b; `high` and `low` may be one sum.
POWER_DEVICE void multiply_add(float (&high)[4], float (&low)[4], const AFragment& a, const Split& b0,
                               const Split& b1) {
  mma_m16n8k8_tf32(low, a.low, b0.high, b1.high);
  mma_m16n8k8_tf32(low, a.high, b0.low, b1.low);
  mma_m16n8k8_tf32(high, a.high, b0.high, b1.high);
}

// c[n] = A B^T, A: 16 rows a_row0.. of a tile, B: rows 8n.. of another. Element i of c[n]: row lane/4 + 8 (i/2), column
// 8n + 2 (lane%4) + i%2. A power multiplies a score's error by the degree: the small products have a sum of their own.
template <int kDim, int kN>
POWER_DEVICE void multiply_rows(float (&c)[kN][4], const uint8_t* a_tile, int a_row0, const uint8_t* b_tile, int lane) {
  const int g = lane / 4, q = lane % 4;
  float low[kN][4] = {};
  POWER_UNROLL
  for (int n = 0; n < kN; ++n) c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0.0f;
  POWER_ROLLED
  for (int k32 = 0; k32 < kDim; k32 += 32) {
    float sum[kN][4] = {};
    POWER_UNROLL
    for (int k = 0; k < 32; k += 16) {
      const int column = k32 + k + 4 * q;
      const Four a0 = Tile<kDim>::four(a_tile, a_row0 + g, column);
      const Four a1 = Tile<kDim>::four(a_tile, a_row0 + g + 8, column);
      AFragment a[2];
      POWER_UNROLL
      for (int i = 0; i < 4; ++i) {
        a[i / 2].set(i % 2 * 2, a0.value[i]);
        a[i / 2].set(i % 2 * 2 + 1, a1.value[i]);
      }
      POWER_UNROLL
      for (int n = 0; n < kN; ++n) {
        const Four b = Tile<kDim>::four(b_tile, 8 * n + g, column);
        multiply_add(sum[n], low[n], a[0], split(b.value[0]), split(b.value[1]));
        multiply_add(sum[n], low[n], a[1], split(b.value[2]), split(b.value[3]));
      }
    }
    POWER_UNROLL
    for (int n = 0; n < kN; ++n) {
      POWER_UNROLL
      for (int i = 0; i < 4; ++i) c[n][i] += sum[n][i];
    }
  }
  POWER_UNROLL
  for (int n = 0; n < kN; ++n) {
    POWER_UNROLL
    for (int i = 0; i < 4; ++i) c[n][i] += low[n][i];
  }
}

// Columns of a result of kDim columns: element 2 half + part of c[4 J + j] is row lane/4 + 8 half, column 32 J + 8
// (lane%4)
// + 4 part + j. So a lane holds eight neighbours.
POWER_DEVICE int column_of(int J, int part, int lane) { return 32 * J + 8 * (lane % 4) + 4 * part; }

template <int kN>
POWER_DEVICE Four four_of(const float (&c)[kN][4], int J, int half, int part) {
  Four four;
  POWER_UNROLL
  for (int j = 0; j < 4; ++j) four.value[j] = c[4 * J + j][2 * half + part];
  return four;
}

// c += P B, P as multiply_rows leaves it (16 rows x 8 kK), B: rows 0..8kK-1 of a tile.
template <int kDim, int kK>
POWER_DEVICE void multiply(float (&c)[kDim / 8][4], const float (&p)[kK][4], const uint8_t* b_tile, int lane) {
  const int g = lane / 4, q = lane % 4;
  POWER_UNROLL
  for (int J = 0; J < kDim / 32; ++J) {
    float sum[4][4] = {};
    POWER_UNROLL
    for (int k = 0; k < kK; ++k) {
      AFragment a;  // summed index q of the instruction is 2q here, q + 4 is 2q + 1
      a.set(0, p[k][0]);
      a.set(1, p[k][2]);
      a.set(2, p[k][1]);
      a.set(3, p[k][3]);
      const Four b0 = Tile<kDim>::four(b_tile, 8 * k + 2 * q, 32 * J + 4 * g);
      const Four b1 = Tile<kDim>::four(b_tile, 8 * k + 2 * q + 1, 32 * J + 4 * g);
      POWER_UNROLL
      for (int j = 0; j < 4; ++j) multiply_add(sum[j], sum[j], a, split(b0.value[j]), split(b1.value[j]));
    }
    POWER_UNROLL
    for (int j = 0; j < 4; ++j) {
      POWER_UNROLL
      for (int i = 0; i < 4; ++i) c[4 * J + j][i] += sum[j][i];
    }
  }
}

}  // namespace power::kernels::float32
