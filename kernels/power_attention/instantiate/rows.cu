#include "kernels/power_attention/rows.cuh"
