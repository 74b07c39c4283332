#include "kernels/power_attention/shared_memory.h"

#include "kernels/power_attention/power_attention.h"
#include "kernels/power_attention/supported.h"
#include "kernels/power_attention_float32/dispatch.h"

namespace power::kernels {

size_t shared_memory_bytes(const AttentionShape& shape, bool states) {
  if (shape.dtype == DataType::kFloat32) return float32::shared_memory_bytes(shape);
  const bool with_states = states || (shape.chunk > 0 && shape.chunk < shape.key_len);
#define POWER_CASE(dim) \
  if (shape.head_dim <= dim) return power_attention_shared_bytes<dim>(with_states);
  POWER_ATTENTION_HEAD_DIMS(POWER_CASE)
#undef POWER_CASE
  return 0;
}

}  // namespace power::kernels
