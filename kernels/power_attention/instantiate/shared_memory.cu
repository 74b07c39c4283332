#include "kernels/power_attention/shared_memory.cuh"

namespace power::kernels {

#define POWER_INSTANTIATE(head_dim) template size_t power_attention_shared_bytes<head_dim>(bool);
POWER_ATTENTION_HEAD_DIMS(POWER_INSTANTIATE)

}  // namespace power::kernels
