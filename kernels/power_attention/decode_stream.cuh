#pragma once

#include "kernels/power_attention/decode_tile.cuh"

// What a warp reads of a record, in order: its steps of the state, then keys and values of its tiles of the window.
namespace power::kernels {

// 16 rows x kDim bf16 as they come from memory.
template <int kDim>
struct DecodePiece {
  uint4 rows[kDim / 16][32];  // of a lane
  uint4 extra[4];             // key sums of a step of the state, gates of 16 keys
};

template <int kDim>
struct DecodeRing {
  static constexpr int kStages = kDim == 32 ? 6 : 4;
  union {
    DecodePiece<kDim> stage[kStages];
    float sums[kDecodeRowGroup][kDim + 4];  // after the last piece: n, and l at kDim
  };
};

// Pieces pass through a ring of a warp's own in shared memory, kStages - 1 of them on their way at any time. The first
// are asked for before anything is known of the record but its place.
template <int kDim>
class DecodeStream {
  static constexpr int kStages = DecodeRing<kDim>::kStages, kParts = kDim / 16;

 public:
  // Steps first_step, first_step + kDecodeWarps .. of the state; count of them.
  POWER_DEVICE DecodeStream(DecodeRing<kDim>& ring, const DecodeArgs& args, const DecodeRecord& record, int first_step,
                            int count, int lane)
      : args_(args), base_(record.base), ring_(ring), lane_(lane), first_step_(first_step), steps_(count) {
    start();
  }

  POWER_DEVICE void start() {
    next_ = stage_ = 0;
    POWER_UNROLL
    for (int i = 0; i < kStages - 1; ++i) {
      if (i >= steps_) break;
      request(i);
      ++next_;
    }
  }

  // After start(): tiles first_tile, first_tile + kDecodeWarps .. of the window follow; without a state they come
  // first.
  POWER_DEVICE void add_window(bool has_state, int first_tile, int tiles) {
    if (!has_state && steps_ > 0) {
      cp_async_wait<0>();
      sync_warp();
      next_ = steps_ = 0;
    }
    first_tile_ = first_tile;
    pieces_ = steps_ + 2 * tiles;
    for (; next_ < kStages - 1; ++next_) request(next_);
  }

  // The next piece, valid until the one after it is asked for.
  POWER_DEVICE const DecodePiece<kDim>& next() {
    cp_async_wait<kStages - 2>();
    sync_warp();  // every lane's part of the piece is there, and nobody reads the one before it any more
    const int stage = stage_;
    stage_ = stage_ + 1 == kStages ? 0 : stage_ + 1;
    request(stage == 0 ? kStages - 1 : stage - 1);
    ++next_;
    return ring_.stage[stage];
  }

  // Nothing is on its way any more; the ring is free for other use.
  POWER_DEVICE void finish() {
    cp_async_wait<0>();
    sync_warp();
  }

  POWER_DEVICE int steps() const { return steps_; }

 private:
  // Piece next_ into a stage. A group without a copy where there is no such piece keeps the count.
  POWER_DEVICE void request(int stage) {
    const uint32_t to = shared_address(&ring_.stage[stage]) + 16 * lane_;
    const DecodeLayout& layout = args_.layout;
    if (next_ < steps_) {
      const uint32_t step = first_step_ + next_ * kDecodeWarps;
      copy_rows(to, layout.state_high + step * (kParts * 512));
      copy_extra(to, layout.key_sum + step * 64);
    } else if (next_ < pieces_) {
      const uint32_t piece = next_ - steps_, tile = first_tile_ + piece / 2 * kDecodeWarps;
      if (piece % 2 == 1) {
        copy_rows(to, layout.values + tile * (kParts * 512));
      } else {
        // Lane (g, q) takes chunks q + 4m of keys g and 8 + g.
        const uint8_t* from = base_ + layout.keys + (tile * 16 + lane_ / 4) * (2 * kDim) + lane_ % 4 * 16;
        POWER_UNROLL
        for (int n = 0; n < kParts; ++n) {
          cp_async_16(to + 512 * n, from + n / (kParts / 2) * (16 * kDim) + n % (kParts / 2) * 64, true);
        }
        copy_extra(to, layout.gates + tile * 64);
      }
    }
    cp_async_commit();
  }
  POWER_DEVICE void copy_rows(uint32_t to, uint32_t offset) {
    const uint8_t* from = base_ + offset + 16 * lane_;
    POWER_UNROLL
    for (int n = 0; n < kParts; ++n) cp_async_16(to + 512 * n, from + 512 * n, true);
  }
  POWER_DEVICE void copy_extra(uint32_t to, uint32_t offset) {
    if (lane_ < 4) cp_async_16(to + 512 * kParts, base_ + offset + 16 * lane_, true);
  }

  const DecodeArgs& args_;
  const uint8_t* base_;
  DecodeRing<kDim>& ring_;
  int lane_, first_step_, steps_, first_tile_ = 0, pieces_ = 0;
  int next_ = 0;   // piece to be asked for
  int stage_ = 0;  // of the piece to be used
};

}  // namespace power::kernels
