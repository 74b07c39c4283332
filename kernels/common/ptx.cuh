#pragma once

// A thin layer over the PTX instructions the kernels use: one instruction a function, no policy.

#include "kernels/common/device.h"
#include "kernels/common/fast_divisor.h"

#if !defined(POWER_EMULATE)

namespace power::kernels {

POWER_DEVICE uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Copies 16 bytes, or writes 16 zero bytes where `valid` is false (the source is then not read).
POWER_DEVICE void cp_async_16(uint32_t destination, const void* source, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(destination), "l"(source), "r"(bytes) : "memory");
}

// The same for 4 bytes.
POWER_DEVICE void cp_async_4(uint32_t destination, const void* source, bool valid) {
  const int bytes = valid ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(destination), "l"(source), "r"(bytes) : "memory");
}

POWER_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int kPending>
POWER_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l%8 of matrix l/8.
POWER_DEVICE void ldmatrix_x4(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

POWER_DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// c (16x8, float) += a (16x16, bf16) * b (16x8, bf16)
POWER_DEVICE void mma_m16n8k16_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// c (16x8, float) += a (16x8, tf32) * b (8x8, tf32); the low 13 bits of an operand are not read.
POWER_DEVICE void mma_m16n8k8_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two floats rounded to nearest even; `low` goes into the low half.
POWER_DEVICE uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

POWER_DEVICE float bf16_low(uint32_t packed) { return __uint_as_float(packed << 16); }
POWER_DEVICE float bf16_high(uint32_t packed) { return __uint_as_float(packed & 0xffff0000u); }

// Products of both halves, rounded once. sm_80 has the fused instruction only; adding -0 changes nothing.
POWER_DEVICE uint32_t multiply_bf16x2(uint32_t a, uint32_t b) {
  uint32_t product;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(a), "r"(b), "r"(0x80008000u));
  return product;
}

// One half twice, as moves that ptxas folds into the operand of a product.
POWER_DEVICE uint32_t repeat_low(uint32_t packed) {
  uint32_t twice;
  asm("{ .reg .b16 low, high; mov.b32 {low, high}, %1; mov.b32 %0, {low, low}; }" : "=r"(twice) : "r"(packed));
  return twice;
}
POWER_DEVICE uint32_t repeat_high(uint32_t packed) {
  uint32_t twice;
  asm("{ .reg .b16 low, high; mov.b32 {low, high}, %1; mov.b32 %0, {high, high}; }" : "=r"(twice) : "r"(packed));
  return twice;
}

POWER_DEVICE float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

template <class T>
POWER_DEVICE T shuffle_xor(T value, int lane_mask) {
  return __shfl_xor_sync(0xffffffffu, value, lane_mask);
}

template <class T>
POWER_DEVICE T shuffle_from(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}

template <class T>
POWER_DEVICE T shuffle_up(T value, int delta) {
  return __shfl_up_sync(0xffffffffu, value, delta);
}

// The same value, which the compiler takes for a new one: what follows from it is computed where it is used and not
// kept in registers through a loop.
POWER_DEVICE int again(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

POWER_DEVICE void sync_warp() { __syncwarp(); }
POWER_DEVICE void sync_block() { __syncthreads(); }
POWER_DEVICE int sync_block_count(bool predicate) { return __syncthreads_count(predicate); }

POWER_DEVICE uint32_t divide(uint32_t n, const FastDivisor& d) {
  return d.divisor == 1 ? n : __umulhi(n, d.multiplier) >> d.shift;
}

}  // namespace power::kernels

#endif
