#pragma once

#include "kernels/power_attention_float32/tile.cuh"

// phi(x): products of the entries of x that index tuples name, in the layouts that the products of tiles want.
namespace power::kernels::float32 {

// Of a warp's 16 rows row0.. and 8 kK features, as multiply takes them: element i of p[k] is row lane/4 + 8 (i/2),
// feature 8k + 2 (lane%4) + i%2.
template <int kDim, int kK>
POWER_DEVICE void row_features(float (&p)[kK][4], const uint8_t* x, int row0, const Feature* features, int degree,
                               int lane) {
  uint32_t indices[kK][2];
  POWER_UNROLL
  for (int k = 0; k < kK; ++k) {
    POWER_UNROLL
    for (int e = 0; e < 2; ++e) {
      indices[k][e] = features[8 * k + 2 * (lane % 4) + e].indices;
      p[k][e] = p[k][2 + e] = 1.0f;
    }
  }
  POWER_ROLLED
  for (int n = 0; n < degree; ++n) {
    POWER_UNROLL
    for (int k = 0; k < kK; ++k) {
      POWER_UNROLL
      for (int e = 0; e < 2; ++e) {
        const int column = indices[k][e] & 255;
        indices[k][e] >>= 8;
        p[k][e] *= Tile<kDim>::at(x, row0 + lane / 4, column);
        p[k][2 + e] *= Tile<kDim>::at(x, row0 + lane / 4 + 8, column);
      }
    }
  }
}

// The same of two features and 8 kK rows, features as the rows of the result: element i of p[k] is feature i/2 of
// `indices`, row 8k + 2 (lane%4) + i%2. p holds the rows' weights before.
template <int kDim, int kK>
POWER_DEVICE void column_features(float (&p)[kK][4], const uint8_t* x, const uint32_t (&indices)[2], int degree,
                                  int lane) {
  uint32_t left[2] = {indices[0], indices[1]};
  POWER_ROLLED
  for (int n = 0; n < degree; ++n) {
    const int column[2] = {static_cast<int>(left[0] & 255), static_cast<int>(left[1] & 255)};
    left[0] >>= 8;
    left[1] >>= 8;
    POWER_UNROLL
    for (int k = 0; k < kK; ++k) {
      POWER_UNROLL
      for (int i = 0; i < 4; ++i) p[k][i] *= Tile<kDim>::at(x, 8 * k + 2 * (lane % 4) + i % 2, column[i / 2]);
    }
  }
}

}  // namespace power::kernels::float32
