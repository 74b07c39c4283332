#pragma once

// Tile shapes, by head dim. A warp holds 16*kM rows of its side of the problem in registers.
namespace power::kernels {

// Output (forward) and dq: 128 query rows a block, 64 keys a stage.
template <int kDim>
struct QueryTile {
  // 32 rows a warp halve the shared-memory reads per product; at head dim 128 the accumulators leave room for 16.
  static constexpr int kM = kDim <= 64 ? 2 : 1;
  static constexpr int kRows = 128;
  static constexpr int kWarps = kRows / (16 * kM);
  static constexpr int kThreads = 32 * kWarps;
  // Keys whose scores a warp holds at once: fewer than a stage, so that registers allow more blocks on a
  // multiprocessor.
  static constexpr int kForwardKeys = kDim <= 64 ? 16 : 32;
  static constexpr int kBackwardKeys = 16;
  static constexpr int kForwardBlocks = kDim == 128 ? 1 : 3;
  static constexpr int kBackwardBlocks = kDim == 128 ? 1 : 2;
  // At head dim 128 dY shares the stages' memory, so that a block of the quadratic form fits the 99 KB of sm_86 and
  // sm_89.
  static constexpr bool kGradientOverlaysStages = kDim > 64;
};

// dk and dv: keys stay, 64 query rows a stage.
template <int kDim>
struct KeyTile {
  static constexpr int kM = kDim <= 64 ? 2 : 1;
  static constexpr int kWarps = 4;
  static constexpr int kRows = 16 * kM * kWarps;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kStages = 2;
  static constexpr int kQueries = 32;  // whose scores a warp holds at once
  static constexpr int kBlocks = 2;
};

// What a block of the chunk sums adds up; a warp holds one unit of it in its accumulators.
enum class ChunkSum {
  kPhi,         // degree 2, the state: 64 products of a tile x kColumns columns
  kKeys,        // degree 2, the key products: 16 dimensions x all
  kDimensions,  // degree 1, state and key sum: 16 dimensions x all columns
};

// Degree 2: blocks of kPhi and of kKeys in one launch.
template <int kDim, int kDegree>
struct ChunkSumTile {
  static constexpr int kM = 4;  // 16 rows of a tile of phi each
  static constexpr int kColumns = kDim > 64 ? 64 : kDim;
  // Three warps to a scheduler leave 168 registers. Two blocks, so that one works while the other waits at a barrier,
  // where their stages fit; head dims 32 and 64 have 10 and 36 tiles.
  static constexpr int kBlocks = kDegree == 2 && kDim <= 64 ? 2 : 1;
  static constexpr int kWarps = kDegree == 1 ? kDim / 16 : kDim == 32 ? 5 : 12 / kBlocks;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kLoadThreads = kThreads >= 256 ? 256 : kThreads >= 128 ? 128 : 64;
  static constexpr int kStages = 3;
};

}  // namespace power::kernels
