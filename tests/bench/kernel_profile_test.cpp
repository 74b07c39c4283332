#include "bench/kernel_profile.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <chrono>

#include "tests/support/gpu.h"

namespace power::bench {
namespace {

const KernelTime* find(const std::vector<KernelTime>& times, const std::string& name) {
  for (const KernelTime& time : times) {
    if (time.name == name) return &time;
  }
  return nullptr;
}

TEST(KernelProfile, CalleesTimeCountsOnce) {
  // a: 0..100 calls b 10..40 (which calls c 15..25) and c 50..60; a again, alone; on another thread b.
  const auto times = own_times(
      {{1, 10, 40, "b"}, {1, 0, 100, "a"}, {1, 50, 60, "c"}, {1, 15, 25, "c"}, {1, 100, 107, "a"}, {2, 20, 30, "b"}});
  ASSERT_EQ(times.size(), 3u);
  EXPECT_EQ(times.at("a").calls, 2);
  EXPECT_EQ(times.at("a").ns, 100u - 30 - 10 + 7);
  EXPECT_EQ(times.at("b").calls, 2);
  EXPECT_EQ(times.at("b").ns, 30u - 10 + 10);
  EXPECT_EQ(times.at("c").calls, 2);
  EXPECT_EQ(times.at("c").ns, 20u);
}

TEST(KernelProfile, CountsTheOperatorsOfARun) {
  const at::Tensor a = at::randn({256, 256});
  at::Tensor b;
  const auto begin = std::chrono::steady_clock::now();
  // linear calls mm itself
  const std::vector<KernelTime> times = profile_kernels(
      at::kCPU, [&] { b = at::linear(at::mm(a, a), a); }, 4);
  const double wall = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  ASSERT_NE(find(times, "aten::mm"), nullptr);
  ASSERT_NE(find(times, "aten::linear"), nullptr);
  EXPECT_EQ(find(times, "aten::mm")->calls, 2);
  EXPECT_EQ(find(times, "aten::linear")->calls, 1);
  double sum = 0;
  for (const KernelTime& time : times) sum += time.ms;
  EXPECT_GT(sum, 0);
  EXPECT_LE(4 * sum, wall);
  for (size_t i = 1; i < times.size(); ++i) EXPECT_GE(times[i - 1].ms, times[i].ms);
}

TEST(KernelProfile, SeesTheBackwardPass) {
  const at::Tensor a = at::randn({64, 64}).requires_grad_();
  const at::Tensor y = at::mm(a, a).sum();
  const auto times = profile_kernels(
      at::kCPU, [&] { torch::autograd::grad({y}, {a}, {}, /*retain_graph=*/true); }, 3);
  ASSERT_NE(find(times, "aten::mm"), nullptr);
  EXPECT_EQ(find(times, "aten::mm")->calls, 2);
}

TEST(KernelProfile, NamesForPeople) {
  EXPECT_EQ(
      short_kernel_name("void power::kernels::power_attention_fwd_kernel<64, 2>(power::kernels::AttentionArgs)", 80),
      "power_attention_fwd_kernel<64, 2>");
  EXPECT_EQ(short_kernel_name("power::kernels::(anonymous namespace)::gate_sums_kernel(power::AttentionArgs)", 80),
            "gate_sums_kernel");
  EXPECT_EQ(
      short_kernel_name("void at::native::elementwise_kernel<128, 4, at::native::f(at::B&)::{lambda(int)#1}>(int)", 80),
      "elementwise_kernel<128, 4, at::native::f(at::B&)::{lambda(int)#1}>");
  EXPECT_EQ(short_kernel_name("Memcpy DtoD (Device -> Device)", 80), "Memcpy DtoD (Device -> Device)");
  EXPECT_EQ(short_kernel_name("aten::mm", 80), "aten::mm");
  EXPECT_EQ(short_kernel_name("cudnn_generated_fort_native_sdpa_sm90", 20), "cudnn_generated_f...");
}

TEST(GpuKernelProfile, SeesKernels) {
  SKIP_WITHOUT_GPU();
  const at::Tensor a = at::randn({512, 512}, at::TensorOptions().device(at::kCUDA));
  at::Tensor b;
  const auto times = profile_kernels(
      at::Device(at::kCUDA, 0), [&] { b = at::relu(a) + a; }, 5);
  ASSERT_EQ(times.size(), 2u);
  for (const KernelTime& time : times) {
    EXPECT_EQ(time.calls, 1) << time.name;
    EXPECT_GT(time.ms, 0) << time.name;
    EXPECT_LT(time.ms, 1) << time.name;
  }
}

}  // namespace
}  // namespace power::bench
