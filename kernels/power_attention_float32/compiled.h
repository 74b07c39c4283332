#pragma once

#include "kernels/power_attention/call.h"
#include "kernels/power_attention_float32/kernels.h"
#include "kernels/power_attention_float32/supported.h"

namespace power::kernels::float32 {

struct CompiledKernels {
  int head_dim;
  void (*forward)(Args, void*);
  void (*backward_dq)(Args, void*);
  void (*backward_dkdv)(Args, void*);
  void (*chunk_sums)(ChunkSumsArgs, int chunks, void*);
  void (*state_rows)(StateRowsArgs, int chunks, void*);
  size_t (*shared_bytes)();
};

#define POWER_ROW(head_dim)     \
  {head_dim,                    \
   run_forward<head_dim>,       \
   run_backward_dq<head_dim>,   \
   run_backward_dkdv<head_dim>, \
   run_chunk_sums<head_dim>,    \
   run_state_rows<head_dim>,    \
   most_shared_bytes<head_dim>},
inline constexpr CompiledKernels kCompiled[] = {POWER_ATTENTION_FLOAT32_HEAD_DIMS(POWER_ROW)};
#undef POWER_ROW

// The smallest compiled head dim that holds this one, which is at most the largest.
inline const CompiledKernels& find_kernels(int head_dim) {
  const CompiledKernels* found = kCompiled;
  while (found->head_dim < head_dim) ++found;
  return *found;
}

// F = C(D+p-1, p)
inline int feature_count(int head_dim, int degree) {
  int64_t count = 1;
  for (int i = 0; i < degree; ++i) count = count * (head_dim + i) / (i + 1);
  return static_cast<int>(count);
}

inline View view_of(const TensorView& view, const char* name) {
  const bool aligned = reinterpret_cast<uintptr_t>(view.data) % 16 == 0 && view.batch % 4 == 0 && view.token % 4 == 0 &&
                       view.head % 4 == 0;
  require(view.data != nullptr, std::string(name) + " is null");
  require(aligned, std::string(name) + " has data or strides that are no multiple of 16 bytes; pass a contiguous copy");
  return {static_cast<float*>(const_cast<void*>(view.data)), view.batch, view.token, view.head};
}

}  // namespace power::kernels::float32
