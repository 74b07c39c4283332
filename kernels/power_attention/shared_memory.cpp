#include "kernels/power_attention/shared_memory.h"

#include "kernels/power_attention/power_attention.h"
#include "kernels/power_attention/supported.h"

namespace power::kernels {

size_t shared_memory_bytes(const AttentionShape& shape, bool states) {
  const bool with_states = states || (shape.chunk > 0 && shape.chunk < shape.key_len);
#define POWER_CASE(dim) \
  if (shape.head_dim <= dim) return power_attention_shared_bytes<dim>(with_states);
  POWER_ATTENTION_HEAD_DIMS(POWER_CASE)
#undef POWER_CASE
  return 0;
}

}  // namespace power::kernels
