#include <gtest/gtest.h>

#include "ops/dispatch.h"
#include "tests/ops/cases.h"

// What decoding with a cache says where its kernels cannot run; decode_gpu_test.cpp has the rest.
namespace power::test {
namespace {

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

TEST(Decode, SaysThatItRunsOnCuda) {
  const Inputs in = random_inputs({1, 4, 4, 1, 2, 16, 16}, Gating::kMild, false, 2, 60).to(torch::kCPU, torch::kHalf);
  torch::Tensor cache = torch::zeros({1, 2, 256}, torch::kByte), state = torch::zeros({1, 2, 136, 16});
  const auto step = ops::find_op<ops::DecodeStepSignature>("power_attention::decode_step");
  EXPECT_NE(message_of([&] {
              step.call(in.q, in.k, in.v, in.log_g, cache, 2, {}, 256, "sum");
            }).find("decode_step runs on CUDA only, and the tensors are on cpu; use power_attention_step"),
            std::string::npos);
  const auto load = ops::find_op<ops::DecodeImportSignature>("power_attention::decode_import");
  EXPECT_NE(message_of([&] { load.call(state, state.select(3, 0), cache, 2, 256); }).find("runs on CUDA only"),
            std::string::npos);
  const auto store = ops::find_op<ops::DecodeExportSignature>("power_attention::decode_export");
  EXPECT_NE(message_of([&] { store.call(cache, 16, 2, 256); }).find("runs on CUDA only"), std::string::npos);
}

TEST(Decode, RefusesACacheThatNoKernelServes) {
  const auto make = ops::find_op<ops::DecodeCacheSignature>("power_attention::decode_cache");
  EXPECT_NE(message_of([&] { make.call(1, 2, 16, 3, 256, torch::Device(torch::kCPU)); }).find("decode_cache: "),
            std::string::npos);
  EXPECT_NE(message_of([&] { make.call(0, 2, 16, 2, 256, torch::Device(torch::kCPU)); }).find("must be positive"),
            std::string::npos);
}

TEST(Decode, MetaTensorsHaveTheShapes) {
  const torch::Tensor q = torch::empty({2, 5, 6, 16}, torch::dtype(torch::kBFloat16).device(torch::kMeta));
  const torch::Tensor k = torch::empty({2, 5, 3, 16}, q.options());
  torch::Tensor cache = torch::empty({2, 3, 512}, torch::dtype(torch::kByte).device(torch::kMeta));
  const auto step = ops::find_op<ops::DecodeStepSignature>("power_attention::decode_step");
  const torch::Tensor y = step.call(q, k, k, {}, cache, 2, {}, 256, "sum");
  EXPECT_EQ(y.sizes(), q.sizes());
  EXPECT_EQ(y.scalar_type(), torch::kBFloat16);
  const auto store = ops::find_op<ops::DecodeExportSignature>("power_attention::decode_export");
  const auto [state, key_sum] = store.call(cache, 16, 2, 256);
  EXPECT_EQ(state.sizes(), (torch::IntArrayRef{2, 3, 136, 16}));
  EXPECT_EQ(key_sum.sizes(), (torch::IntArrayRef{2, 3, 136}));
}

}  // namespace
}  // namespace power::test
