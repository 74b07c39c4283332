#pragma once

// Tile shapes, by head dim. A warp holds 16 rows of its side of the problem; the other side streams by in steps of
// kStep rows, two in shared memory. Sums over more than 32 terms leave the tensor cores' accumulators: those truncate.
namespace power::kernels::float32 {

// Forward: query rows stay, keys stream.
template <int kDim>
struct ForwardTile {
  static constexpr int kWarps = 4;
  static constexpr int kRows = 16 * kWarps, kThreads = 32 * kWarps;
  static constexpr int kStep = kDim <= 64 ? 32 : 16;
  static constexpr int kBlocks = kDim <= 64 ? 3 : 2;  // on a multiprocessor: what registers should allow
};

// dq, and dk and dv: two tensors stay and two stream. At head dim 128 fewer rows keep a block below 96 KB.
template <int kDim>
struct GradientTile {
  static constexpr int kWarps = kDim <= 64 ? 4 : 2;
  static constexpr int kRows = 16 * kWarps, kThreads = 32 * kWarps;
  static constexpr int kStep = kDim <= 64 ? 32 : 16;
  static constexpr int kQueryBlocks = kDim <= 64 ? 3 : 2;
  static constexpr int kKeyBlocks = kDim <= 32 ? 3 : 2;  // two results to hold
};

// Rows against a state that streams by 32 features at a time.
template <int kDim>
struct StateTile {
  static constexpr int kWarps = kDim <= 64 ? 4 : 2;
  static constexpr int kRows = 16 * kWarps, kThreads = 32 * kWarps;
  static constexpr int kStep = 32;
  static constexpr int kBlocks = kDim <= 64 ? 3 : 2;
};

// Sums over a chunk: features stay, rows stream.
template <int kDim>
struct SumTile {
  static constexpr int kWarps = 4;
  static constexpr int kFeatures = 16 * kWarps, kThreads = 32 * kWarps;
  static constexpr int kStep = 32;
  static constexpr int kBlocks = kDim <= 64 ? 3 : 2;
};

inline constexpr int kStages = 2;
// Query rows of a tile, at least: dispatch counts tiles with it.
inline constexpr int kSmallestTile = 32;

}  // namespace power::kernels::float32
