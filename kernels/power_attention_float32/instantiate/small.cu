#include "kernels/power_attention_float32/discounted_sum.cuh"
#include "kernels/power_attention_float32/rows.cuh"
#include "kernels/power_attention_float32/state_scan.cuh"
