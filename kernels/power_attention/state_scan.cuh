#pragma once

#include <type_traits>

#include "kernels/common/launch.h"
#include "kernels/power_attention/state.cuh"
#include "kernels/power_attention/state_scan.h"
#include "kernels/power_attention/supported.h"

// The recurrence over chunks, element by element, in float32. A thread owns 8 neighbouring elements of an image (one
// 16-byte piece) through all chunks.
namespace power::kernels {

// Chunks whose loads are in flight together.
template <bool kKeys>
inline constexpr int kAhead = kKeys ? 4 : 8;

struct StateScanArgs {
  AttentionArgs attention;
  PublicStates outside;
};

// Where a piece stands in the state or (kKeys) the key products, and how it is weighted.
template <int kDim, int kDegree, bool kKeys>
struct Piece {
  bool inside;            // whether there is such a piece; those outside the head dim are kept as zeros
  bool exists = false;    // whether it is inside the head dim
  int64_t element;        // in the image (state) or in the key products
  int column = 0;         // first column of the state, or of the key products' matrix
  int low = 0, high = 0;  // dimensions of the state's row, or `low` the row of the key products
  bool diagonal = false;  // both dimensions in one block of 8: both orders of the product are stored

  POWER_DEVICE Piece(const AttentionArgs& args, int index)
      : inside(!kKeys || int64_t{index} * kPieceElements < key_products(kDim, kDegree)),
        element(int64_t{index} * kPieceElements) {
    if (!inside) return;
    if (kKeys && kDegree == 1) {
      low = high = static_cast<int>(element);
      exists = low < args.head_dim;
      return;
    }
    constexpr int kBlockPieces = static_cast<int>(block_elements(kDim)) / kPieceElements;
    const int block = index / kBlockPieces, byte = index % kBlockPieces * 16;
    const int image = byte / Image<kDim>::kImageBytes, in_image = byte % Image<kDim>::kImageBytes;
    const int row = in_image / Image<kDim>::kRowBytes, place = in_image % Image<kDim>::kRowBytes / 16;
    const int swizzle = Image<kDim>::kColumns == 64 ? row & 7 : (row >> 1) & 3;
    column = 8 * (image * (Image<kDim>::kColumns / 8) + (place ^ swizzle));
    if (kKeys || kDegree == 1) {
      low = high = kBlockRows * block + row;
      exists = low < args.head_dim && column < args.head_dim;
      return;
    }
    TileWalk walk;
    for (int i = 0; i < block; ++i) walk.next(args.head_dim / kPhiBlock);
    const int j = row & 7, i = 2 * ((j >> 1) ^ (row >> 4)) + ((row >> 3) & 1);
    low = kPhiBlock * walk.outer + i;
    high = kPhiBlock * walk.inner + j;
    diagonal = walk.outer == walk.inner;
    exists = column < args.head_dim;
  }

  // Index of the product of dimensions a and b in sym-lex/1.
  static POWER_DEVICE int product(int a, int b, int head_dim) {
    const int first = a < b ? a : b, second = a < b ? b : a;
    return kDegree == 1 ? a : first * head_dim - first * (first - 1) / 2 + second - first;
  }
  // Element e of the piece in the public state or key sum of head `head`; -1 where it has no place of its own there.
  POWER_DEVICE int64_t outside(const AttentionArgs& args, int head, int e, bool own) const {
    const int D = args.head_dim;
    const int64_t features = kDegree == 1 ? D : int64_t{D} * (D + 1) / 2;
    if (!kKeys) {
      if (own && low > high) return -1;
      return (head * features + product(low, high, D)) * D + column + e;
    }
    if (kDegree == 1) return head * features + low + e;
    if (own && low > column + e) return -1;
    return head * features + product(low, column + e, D);
  }
  // The element inside divided by the public one: products off the diagonal are stored twice, or once with factor 2.
  POWER_DEVICE float state_factor(int e) const {
    if (kDegree == 1) return 1.0f;
    if (kKeys) return low == column + e ? 1.0f : 0.5f;
    return diagonal && low != high ? 0.5f : 1.0f;
  }
  POWER_DEVICE float dstate_factor() const { return kDegree == 2 && !kKeys && !diagonal ? 2.0f : 1.0f; }
  template <bool kGradient>
  POWER_DEVICE float factor(int e) const {
    return kGradient ? dstate_factor() : state_factor(e);
  }
};

struct Eight {
  float value[kPieceElements];
};

POWER_DEVICE Eight unpack_eight(const uint4& packed) {
  return {{bf16_low(packed.x), bf16_high(packed.x), bf16_low(packed.y), bf16_high(packed.y), bf16_low(packed.z),
           bf16_high(packed.z), bf16_low(packed.w), bf16_high(packed.w)}};
}

POWER_DEVICE uint4 pack_eight(const Eight& x) {
  return {pack_bf16(x.value[0], x.value[1]), pack_bf16(x.value[2], x.value[3]), pack_bf16(x.value[4], x.value[5]),
          pack_bf16(x.value[6], x.value[7])};
}

// One thread's piece of every chunk's state. What `load` gives is unpacked where it is used, so that no load waits for
// another.
template <int kDim, int kDegree, bool kKeys>
class PieceOfChunks {
 public:
  using Loaded = std::conditional_t<kKeys, Eight, uint4>;

  POWER_DEVICE PieceOfChunks(const AttentionArgs& args, const StateArrays& states,
                             const Piece<kDim, kDegree, kKeys>& piece, int head)
      : exists_(piece.exists) {
    image_stride_ = image_blocks(kDim, args.head_dim, kDegree) * block_elements(kDim);
    image_ = states.images + int64_t{head} * args.chunks * image_stride_ + piece.element;
    if constexpr (kKeys) {
      image_ += args.state_tiles * block_elements(kDim);
      keys_ = states.keys + int64_t{head} * args.chunks * key_products(kDim, kDegree) + piece.element;
    }
  }
  POWER_DEVICE Loaded load(int chunk) const {
    Loaded x{};
    if (!exists_) return x;
    if constexpr (kKeys) {
      const float* keys = keys_ + chunk * key_products(kDim, kDegree);
      POWER_UNROLL
      for (int e = 0; e < kPieceElements; ++e) x.value[e] = keys[e];
    } else {
      x = *reinterpret_cast<const uint4*>(image_ + chunk * image_stride_);
    }
    return x;
  }
  static POWER_DEVICE Eight unpack(const Loaded& x) {
    if constexpr (kKeys) {
      return x;
    } else {
      return unpack_eight(x);
    }
  }
  // Pieces outside the head dim are written too, as zeros: the products read them.
  POWER_DEVICE void store(int chunk, const Eight& x) const {
    uint16_t* image = image_ + chunk * image_stride_;
    if constexpr (!kKeys) {
      *reinterpret_cast<uint4*>(image) = pack_eight(x);
    } else {
      float* keys = keys_ + chunk * key_products(kDim, kDegree);
      POWER_UNROLL
      for (int e = 0; e < kPieceElements; ++e) keys[e] = x.value[e];
      if constexpr (kDegree == 2) {  // what rounding loses is a second operand
        const uint4 rounded = pack_eight(x);
        const Eight back = unpack_eight(rounded);
        Eight rest;
        POWER_UNROLL
        for (int e = 0; e < kPieceElements; ++e) rest.value[e] = x.value[e] - back.value[e];
        *reinterpret_cast<uint4*>(image) = rounded;
        *reinterpret_cast<uint4*>(image + dimension_blocks(kDim) * block_elements(kDim)) = pack_eight(rest);
      }
    }
  }

 private:
  bool exists_;
  int64_t image_stride_;
  uint16_t* image_;
  float* keys_ = nullptr;
};

// What is left at a chunk's end of the state before it.
POWER_DEVICE float chunk_decay(const AttentionArgs& args, const GateArrays& gates, int index) {
  if (!args.gated) return 1.0f;
  const Chunk chunk(args, index);
  const int last = chunk.end_key - 1;
  const float decay = exp2_approx(difference(gates.sum[last], chunk.gates_before(gates)));
  return gates.segment[last] >= chunk.first_key ? 0.0f : decay;
}

// Calls step(chunk, decay, what load(chunk) gave) for every chunk, from the first one or from the last one, with the
// loads of kAhead chunks in flight.
template <bool kReverse, int kAhead, class Load, class Step>
POWER_DEVICE void for_each_chunk(const AttentionArgs& args, const GateArrays& gates, float* decays, const Load& load,
                                 const Step& step) {
  const int thread = threadIdx.x;
  const auto chunk_at = [&](int i) { return kReverse ? args.chunks - 1 - i : i; };
  for (int base = 0; base < args.chunks; base += kPieceThreads) {
    sync_block();
    if (base + thread < args.chunks) decays[thread] = chunk_decay(args, gates, chunk_at(base + thread));
    sync_block();
    const int end = args.chunks - base < kPieceThreads ? args.chunks - base : kPieceThreads;
    for (int first = 0; first < end; first += kAhead) {
      decltype(load(0)) ahead[kAhead];
      POWER_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        if (first + i < end) ahead[i] = load(chunk_at(base + first + i));
      }
      POWER_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        if (first + i < end) step(chunk_at(base + first + i), decays[first + i], ahead[i]);
      }
    }
  }
}

// Blocks of threads whose pieces belong to the key products come before those of the state: they take longest.
template <int kDim, int kDegree>
inline constexpr int kKeyPieceBlocks = ceil_div(static_cast<int>(key_products(kDim, kDegree)) / kPieceElements,
                                                kPieceThreads);

// A piece of the public state (kGradient: of its gradient) that comes in; zeros where there is none.
template <bool kGradient, int kDim, int kDegree, bool kKeys>
POWER_DEVICE Eight read_outside(const StateScanArgs& scan, const Piece<kDim, kDegree, kKeys>& piece, int head) {
  Eight x{};
  const float* in = kKeys ? scan.outside.in_keys : scan.outside.in_state;
  if (!piece.exists || in == nullptr) return x;
  for (int e = 0; e < kPieceElements; ++e) {
    x.value[e] = in[piece.outside(scan.attention, head, e, false)] * piece.template factor<kGradient>(e);
  }
  return x;
}

// Writes the one that goes out, where it is asked for.
template <bool kGradient, int kDim, int kDegree, bool kKeys>
POWER_DEVICE void write_outside(const StateScanArgs& scan, const Piece<kDim, kDegree, kKeys>& piece, int head,
                                const Eight& x) {
  float* out = kKeys ? scan.outside.out_keys : scan.outside.out_state;
  if (!piece.exists || out == nullptr) return;
  for (int e = 0; e < kPieceElements; ++e) {
    const int64_t at = piece.outside(scan.attention, head, e, true);
    if (at >= 0) out[at] = x.value[e] / piece.template factor<kGradient>(e);
  }
}

template <int kDim, int kDegree, bool kKeys>
POWER_DEVICE void scan_states(const StateScanArgs& scan, int index, float* decays) {
  const AttentionArgs& args = scan.attention;
  const HeadIndex head(args, blockIdx.x);
  const Piece<kDim, kDegree, kKeys> piece(args, index);
  using Chunks = PieceOfChunks<kDim, kDegree, kKeys>;
  const Chunks chunks(args, args.states, piece, head.head);
  Eight run = read_outside<false>(scan, piece, head.head);
  for_each_chunk<false, kAhead<kKeys>>(
      args, head.gates(args), decays,
      [&](int chunk) {
        return chunk + 1 < args.chunks || args.has_final ? chunks.load(chunk) : typename Chunks::Loaded{};
      },
      [&](int chunk, float decay, const auto& loaded) {
        if (piece.inside && (chunk > 0 || args.has_initial)) chunks.store(chunk, run);
        const Eight sum = Chunks::unpack(loaded);
        for (int e = 0; e < kPieceElements; ++e) run.value[e] = fmaf(run.value[e], decay, sum.value[e]);
      });
  write_outside<false>(scan, piece, head.head, run);
}

template <int kDim, int kDegree, bool kKeys>
POWER_DEVICE void scan_dstates(const StateScanArgs& scan, int index, float* decays) {
  const AttentionArgs& args = scan.attention;
  const HeadIndex head(args, blockIdx.x);
  const Piece<kDim, kDegree, kKeys> piece(args, index);
  using Chunks = PieceOfChunks<kDim, kDegree, kKeys>;
  const Chunks states(args, args.states, piece, head.head), chunks(args, args.dstates, piece, head.head);
  Eight run = read_outside<true>(scan, piece, head.head);
  const float dot_factor = 1.0f / piece.dstate_factor();
  struct SumAndState {
    typename Chunks::Loaded sum{}, state{};
  };
  for_each_chunk<true, kAhead<kKeys>>(
      args, head.gates(args), decays,
      [&](int chunk) {
        SumAndState x;
        if (chunk == 0 && !args.has_initial) return x;  // no state before it
        if (chunk >= args.first_query_chunk) x.sum = chunks.load(chunk);
        if (args.gated) x.state = states.load(chunk);
        return x;
      },
      [&](int chunk, float decay, const SumAndState& x) {
        if (piece.inside && (chunk + 1 < args.chunks || args.has_final)) chunks.store(chunk, run);
        if (args.gated) {
          const Eight state = Chunks::unpack(x.state);
          float dot = 0.0f;
          for (int e = 0; e < kPieceElements; ++e) dot = fmaf(state.value[e], run.value[e], dot);
          dot *= decay * dot_factor;
          for (int mask = 16; mask > 0; mask /= 2) dot += shuffle_xor(dot, mask);
          if (threadIdx.x % 32 == 0) {
            const int part = static_cast<int>(blockIdx.y * (kPieceThreads / 32) + threadIdx.x / 32);
            args.state_dot[(int64_t{head.head} * args.chunks + chunk) * args.state_dot_parts + part] = dot;
          }
        }
        const Eight sum = Chunks::unpack(x.sum);
        for (int e = 0; e < kPieceElements; ++e) run.value[e] = fmaf(run.value[e], decay, sum.value[e]);
      });
  write_outside<true>(scan, piece, head.head, run);
}

template <int kDim, int kDegree>
__global__ void __launch_bounds__(kPieceThreads) state_scan_kernel(const __grid_constant__ StateScanArgs scan) {
  POWER_SHARED_MEMORY(shared);
  float* decays = reinterpret_cast<float*>(shared);
  constexpr int kKeyBlocks = kKeyPieceBlocks<kDim, kDegree>;
  const int block = static_cast<int>(blockIdx.y), thread = static_cast<int>(threadIdx.x);
  if (block < kKeyBlocks) {
    scan_states<kDim, kDegree, true>(scan, block * kPieceThreads + thread, decays);
  } else {
    scan_states<kDim, kDegree, false>(scan, (block - kKeyBlocks) * kPieceThreads + thread, decays);
  }
}

template <int kDim, int kDegree>
__global__ void __launch_bounds__(kPieceThreads) dstate_scan_kernel(const __grid_constant__ StateScanArgs scan) {
  POWER_SHARED_MEMORY(shared);
  float* decays = reinterpret_cast<float*>(shared);
  constexpr int kKeyBlocks = kKeyPieceBlocks<kDim, kDegree>;
  const int block = static_cast<int>(blockIdx.y), thread = static_cast<int>(threadIdx.x);
  if (block < kKeyBlocks) {
    scan_dstates<kDim, kDegree, true>(scan, block * kPieceThreads + thread, decays);
  } else {
    scan_dstates<kDim, kDegree, false>(scan, (block - kKeyBlocks) * kPieceThreads + thread, decays);
  }
}

template <int kDim, int kDegree>
dim3 scan_grid(const AttentionArgs& args) {
  static_assert(block_elements(kDim) / kPieceElements % kPieceThreads == 0);
  return dim3(args.batch * args.kv_heads.divisor, ceil_div(state_pieces(kDim, args.head_dim, kDegree), kPieceThreads));
}

template <int kDim, int kDegree>
void run_state_scan(const AttentionArgs& args, const PublicStates& outside, void* stream) {
  launch(state_scan_kernel<kDim, kDegree>, "state_scan_kernel", scan_grid<kDim, kDegree>(args), kPieceThreads,
         kPieceThreads * sizeof(float), stream, StateScanArgs{args, outside});
}

template <int kDim, int kDegree>
void run_dstate_scan(const AttentionArgs& args, const PublicStates& outside, void* stream) {
  launch(dstate_scan_kernel<kDim, kDegree>, "dstate_scan_kernel", scan_grid<kDim, kDegree>(args), kPieceThreads,
         kPieceThreads * sizeof(float), stream, StateScanArgs{args, outside});
}

}  // namespace power::kernels
