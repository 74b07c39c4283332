#pragma once

#include <gtest/gtest.h>
#include <torch/cuda.h>

// For the first line of a GPU test. Its suite's name begins with Gpu, which gives the test ctest's label `gpu`.
#define SKIP_WITHOUT_GPU() \
  if (!torch::cuda::is_available()) GTEST_SKIP() << "needs a CUDA device, and there is none here"
