#pragma once

// Runs CUDA kernels on the CPU, so that their indexing and their asynchronous copies are tested where there is no GPU.
//
// Each CUDA thread is a fiber. Warp instructions (ldmatrix, mma, shuffles) wait for all 32 lanes and then act on them
// together; warps run in random order. A cp.async poisons its destination with NaN at once and delivers as late as the
// program allows, at the wait that covers it: data read before the wait, or a buffer refilled while another warp still
// reads it, shows as NaN in the result. Shared memory starts as NaN; accesses by address are bounds-checked.
//
// Not modelled: memory ordering beyond barriers, registers, speed.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#include "kernels/common/fast_divisor.h"

#define __global__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define threadIdx (::power::emulator::thread_index())
#define blockIdx (::power::emulator::block_index())
#define gridDim (::power::emulator::grid_size())

struct uint4 {
  uint32_t x, y, z, w;
};

struct dim3 {
  unsigned x, y, z;
  explicit dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

namespace power::emulator {

dim3 thread_index();
dim3 block_index();
dim3 grid_size();
uint8_t* shared_memory();

// Runs body once for every thread of every block. Throws std::runtime_error for a deadlock or a bad address.
void run_grid(const char* name, dim3 grid, int threads, size_t shared_bytes, const std::function<void()>& body);

// The most shared memory that a grid has asked for since the last call of this.
size_t take_most_shared_memory();

// Lane `lane`'s operands of a warp instruction, and where its result goes.
struct Operands {
  uint32_t in[10];
  uint32_t out[4];
};
using WarpInstruction = void (*)(Operands* lanes);
Operands warp_instruction(WarpInstruction instruction, const Operands& mine);

// The instructions, on the operands of 32 lanes.
void ldmatrix(Operands* lanes);        // in: address
void ldmatrix_trans(Operands* lanes);  // in: address
void mma_m16n8k16(Operands* lanes);    // in: a0..a3, b0, b1; out: the product, to be added to c
// in: a0..a3, b0, b1, c0..c3; out: c + product, added as the hardware does it (short of bits, rounded towards zero)
void mma_m16n8k8_tf32(Operands* lanes);
void shuffle_xor(Operands* lanes);   // in: value, lane mask
void shuffle_up(Operands* lanes);    // in: value, delta
void shuffle_from(Operands* lanes);  // in: value, lane

void copy_async(uint32_t destination, const void* source, int bytes, bool valid);
void commit_copies();
void wait_copies(int pending_groups);
int barrier(bool predicate);  // threads whose predicate holds

}  // namespace power::emulator

// What kernels/common/ptx.cuh is on a GPU.
namespace power::kernels {

inline uint32_t float_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
inline float bits_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
inline uint32_t __float_as_uint(float x) { return float_bits(x); }
inline float __uint_as_float(uint32_t bits) { return bits_float(bits); }

inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(static_cast<const uint8_t*>(pointer) - emulator::shared_memory());
}
inline void cp_async_16(uint32_t destination, const void* source, bool valid) {
  emulator::copy_async(destination, source, 16, valid);
}
inline void cp_async_4(uint32_t destination, const void* source, bool valid) {
  emulator::copy_async(destination, source, 4, valid);
}
inline void cp_async_commit() { emulator::commit_copies(); }
template <int kPending>
void cp_async_wait() {
  emulator::wait_copies(kPending);
}
inline void ldmatrix_x4(uint32_t (&r)[4], uint32_t address) {
  std::memcpy(r, emulator::warp_instruction(emulator::ldmatrix, {{address}, {}}).out, sizeof r);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t address) {
  std::memcpy(r, emulator::warp_instruction(emulator::ldmatrix_trans, {{address}, {}}).out, sizeof r);
}
inline void mma_m16n8k16_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const auto done = emulator::warp_instruction(emulator::mma_m16n8k16, {{a[0], a[1], a[2], a[3], b0, b1}, {}});
  for (int i = 0; i < 4; ++i) c[i] += bits_float(done.out[i]);
}
inline void mma_m16n8k8_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const auto done = emulator::warp_instruction(
      emulator::mma_m16n8k8_tf32,
      {{a[0], a[1], a[2], a[3], b0, b1, float_bits(c[0]), float_bits(c[1]), float_bits(c[2]), float_bits(c[3])}, {}});
  for (int i = 0; i < 4; ++i) c[i] = bits_float(done.out[i]);
}
inline uint32_t round_bf16(float x) {
  const uint32_t bits = float_bits(x);
  return std::isnan(x) ? 0x7fffu : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}
inline uint32_t pack_bf16(float low, float high) { return round_bf16(low) | round_bf16(high) << 16; }
inline float bf16_low(uint32_t packed) { return bits_float(packed << 16); }
inline float bf16_high(uint32_t packed) { return bits_float(packed & 0xffff0000u); }
inline uint32_t multiply_bf16x2(uint32_t a, uint32_t b) {
  return pack_bf16(bf16_low(a) * bf16_low(b), bf16_high(a) * bf16_high(b));
}
inline uint32_t repeat_low(uint32_t packed) { return (packed & 0xffffu) | packed << 16; }
inline uint32_t repeat_high(uint32_t packed) { return (packed & 0xffff0000u) | packed >> 16; }
inline float exp2_approx(float x) {
  const float y = std::exp2(x);
  return y < 1.17549435e-38f ? 0.0f : y;  // ftz
}
template <class T>
T shuffle(emulator::WarpInstruction instruction, T value, int argument) {
  static_assert(sizeof(T) % 4 == 0);
  uint32_t words[sizeof(T) / 4];
  std::memcpy(words, &value, sizeof(T));
  for (uint32_t& word : words) {
    word = emulator::warp_instruction(instruction, {{word, static_cast<uint32_t>(argument)}, {}}).out[0];
  }
  std::memcpy(&value, words, sizeof(T));
  return value;
}
template <class T>
T shuffle_xor(T value, int lane_mask) {
  return shuffle(emulator::shuffle_xor, value, lane_mask);
}
template <class T>
T shuffle_up(T value, int delta) {
  return shuffle(emulator::shuffle_up, value, delta);
}
template <class T>
T shuffle_from(T value, int lane) {
  return shuffle(emulator::shuffle_from, value, lane);
}
inline int again(int value) { return value; }
inline void sync_warp() { shuffle_xor(0, 0); }
inline void sync_block() { emulator::barrier(false); }
inline int sync_block_count(bool predicate) { return emulator::barrier(predicate); }
inline uint32_t divide(uint32_t n, const FastDivisor& d) {
  return d.divisor == 1 ? n : static_cast<uint32_t>((uint64_t{n} * d.multiplier) >> 32) >> d.shift;
}
using std::fabs;
inline float fabsf(float x) { return std::fabs(x); }
inline float fmaxf(float a, float b) { return std::fmax(a, b); }
inline float fmaf(float a, float b, float c) { return std::fma(a, b, c); }
inline float sqrtf(float x) { return std::sqrt(x); }

}  // namespace power::kernels
