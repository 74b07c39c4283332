#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/cuda.h>
#include <torch/utils.h>

#include "core/str.h"
#include "tests/ops/cases.h"

// The forms against the reference and each other, and any split of a sequence against the whole.
namespace power::test {
namespace {

struct Outcome {
  torch::Tensor y, state, key_sum;
  std::vector<torch::Tensor> gradients;
};

Outcome evaluate(const Inputs& in, const Options& options, const torch::Tensor& dy, const torch::Tensor& dstate,
                 const torch::Tensor& dkey_sum) {
  const Inputs x = in.requires_grad();
  auto [y, state, key_sum] = run(x, options);
  return {y, state, key_sum, torch::autograd::grad({y, state, key_sum}, x.tensors(), {dy, dstate, dkey_sum})};
}

// The gradients of its scores vanish. What rounding leaves of them instead must not grow with 1 / score.
TEST(Forms, AQueryThatSeesOnlyItselfInFloat32) {
  for (const auto& [degree, head_dim] : {std::pair{1, 64}, std::pair{2, 64}, std::pair{4, 16}}) {
    for (int64_t queries : {333, 70}) {
      for (int64_t chunk : {0, 100}) {
        SCOPED_TRACE(str("degree ", degree, " queries ", queries, " chunk ", chunk));
        Inputs in = random_inputs({2, queries, 333, 2, 2, head_dim, head_dim}, Gating::kMild, true, degree, 33)
                        .to(torch::kCPU, torch::kFloat32);
        in.log_g->fill_(-60);
        const Inputs x = in.requires_grad();
        const torch::Tensor y = std::get<0>(run(x, {degree, {}, chunk}));
        const torch::Tensor dy = torch::randn_like(y);
        for (const torch::Tensor& gradient : torch::autograd::grad({y}, {x.q, x.k}, {dy})) {
          EXPECT_LT((gradient.norm() / dy.norm()).item<double>(), 1e-6);
        }
      }
    }
  }
}

TEST(Forms, AgreeInFloat64) {
  const std::vector<Shape> shapes = {{2, 67, 67, 1, 2, 8, 8},      // odd length
                                     {1, 9, 71, 3, 2, 6, 5},       // fewer queries, D and E of no special size
                                     {1, 150, 150, 2, 1, 17, 3}};  // several tiles, D not a multiple of 16
  for (const Shape& shape : shapes) {
    for (Gating gating : {Gating::kNone, Gating::kMild, Gating::kStrong, Gating::kSegments}) {
      for (int64_t degree : {1, 2, 3}) {
        for (bool with_state : {false, true}) {
          SCOPED_TRACE(str(shape.text(), "_p", degree, " gating ", static_cast<int>(gating), " state ", with_state));
          if (degree == 3 && shape.head_dim > 8) continue;
          const Inputs in = random_inputs(shape, gating, with_state, degree, 21);
          Options options{degree, {}, 0, "sum", true};
          auto [y0, state0, key_sum0] = run(in, options);
          const torch::Tensor dy = torch::randn_like(y0), ds = torch::randn_like(state0) * 0.1;
          const torch::Tensor dz = torch::randn_like(key_sum0) * 0.1;
          const Outcome quadratic = evaluate(in, options, dy, ds, dz);
          if (!with_state) {
            EXPECT_LT(operator_error(quadratic.y, reference_forward(in, options), dy), 1e-10);
          }
          for (int64_t chunk : {1, 7, 16, 64, 200}) {
            if (chunk == 1 && shape.key_len > 100) continue;
            options.chunk_size = chunk;
            const Outcome chunked = evaluate(in, options, dy, ds, dz);
            EXPECT_LT(distance(chunked.y, quadratic.y), 1e-10) << "chunk " << chunk;
            EXPECT_LT(distance(chunked.state, quadratic.state), 1e-10) << "chunk " << chunk;
            EXPECT_LT(distance(chunked.key_sum, quadratic.key_sum), 1e-10) << "chunk " << chunk;
            for (size_t i = 0; i < chunked.gradients.size(); ++i) {
              EXPECT_LT(operator_error(chunked.gradients[i], quadratic.gradients[i], dy), 1e-10)
                  << "chunk " << chunk << " gradient " << i;
            }
          }
        }
      }
    }
  }
}

TEST(Forms, NormalisationsAgreeWithTheReference) {
  for (const char* normalize : {"sum", "layer", "none"}) {
    for (int64_t degree : {1, 2, 3, 4, 6, 8}) {
      for (double scale : {0.3, -0.3}) {
        for (int64_t chunk : {0, 5}) {
          if (degree > 4 && chunk > 0) continue;
          SCOPED_TRACE(str(normalize, " degree ", degree, " scale ", scale, " chunk ", chunk));
          const Inputs in = random_inputs({2, 13, 17, 2, 2, 4, 3}, Gating::kMild, false, degree, 2);
          const Options options{degree, scale, chunk, normalize};
          const Inputs x = in.requires_grad();
          const torch::Tensor y = std::get<0>(run(x, options));
          const torch::Tensor dy = torch::randn_like(y);
          EXPECT_LT(operator_error(y, reference_forward(in, options), dy), 1e-11);
          const auto gradients = torch::autograd::grad({y}, x.tensors(), {dy});
          const auto expected = reference_backward(in, options, dy);
          for (size_t i = 0; i < gradients.size(); ++i) {
            EXPECT_LT(operator_error(gradients[i], expected[i], dy), 1e-9) << "input " << i;
          }
        }
      }
    }
  }
}

// Cut anywhere, carry the state over, and nothing changes: outputs, final state, and gradients through the cut.
TEST(Forms, AnySplitEqualsTheWhole) {
  const Shape shape{2, 20, 20, 2, 2, 5, 4};
  for (int64_t degree : {1, 2, 4}) {
    for (Gating gating : {Gating::kNone, Gating::kMild, Gating::kSegments}) {
      const Inputs in = random_inputs(shape, gating, false, degree, 31);
      const Inputs whole = in.requires_grad();
      const Options options{degree, {}, 0, "sum", true};
      auto [y, state, key_sum] = run(whole, options);
      const torch::Tensor dy = torch::randn_like(y), ds = torch::randn_like(state), dz = torch::randn_like(key_sum);
      const auto expected = torch::autograd::grad({y, state, key_sum}, whole.tensors(), {dy, ds, dz});
      for (const std::vector<int64_t>& lengths :
           std::vector<std::vector<int64_t>>{{1, 19}, {19, 1}, {7, 6, 7}, {1, 1, 1, 17}, {10, 10}}) {
        SCOPED_TRACE(str("degree ", degree, " gating ", static_cast<int>(gating), " first ", lengths[0]));
        const Inputs cut = in.requires_grad();
        std::vector<torch::Tensor> rows;
        OptTensor carried_state, carried_sum;
        int64_t first = 0, chunk = 0;
        for (int64_t length : lengths) {
          Inputs part = cut.slice(first, length);
          part.state = carried_state;
          part.key_sum = carried_sum;
          auto [yp, sp, zp] = run(part, {degree, {}, chunk, "sum", true});
          rows.push_back(yp);
          carried_state = sp;
          carried_sum = zp;
          first += length;
          chunk = 3 - chunk;  // both forms, in turn
        }
        const torch::Tensor joined = torch::cat(rows, 1);
        EXPECT_LT(distance(joined, y), 1e-10);
        EXPECT_LT(distance(*carried_state, state), 1e-10);
        EXPECT_LT(distance(*carried_sum, key_sum), 1e-10);
        const auto gradients =
            torch::autograd::grad({joined, *carried_state, *carried_sum}, cut.tensors(), {dy, ds, dz});
        for (size_t i = 0; i < gradients.size(); ++i) {
          EXPECT_LT(operator_error(gradients[i], expected[i], dy), 1e-10) << "input " << i;
        }
      }
    }
  }
}

// The low-level operators put together are the operator.
TEST(Forms, LowLevelOperatorsCompose) {
  const int64_t chunk = 8;
  const Inputs in = random_inputs({2, 24, 24, 2, 2, 4, 3}, Gating::kSegments, false, 2, 8);
  auto [sums, key_sums] = ops::update_state(in.k, in.v, in.log_g, 2, chunk);
  const torch::Tensor decay = in.log_g->view({2, 3, chunk, 2}).sum(2);
  auto [before, last] = ops::discumsum(sums, decay);
  auto [key_before, key_last] = ops::discumsum(key_sums, decay);
  auto [numerator, l] = ops::query_state(in.q, before, key_before, in.log_g, 2, {}, chunk);
  std::vector<torch::Tensor> inside, inside_l;
  for (int64_t n = 0; n < 3; ++n) {
    const Inputs part = in.slice(n * chunk, chunk);
    auto [y, row_l] = ops::attention(part.q, part.k, part.v, part.log_g, 2, {}, false);
    inside.push_back(y);
    inside_l.push_back(row_l);
  }
  const torch::Tensor y = (numerator + torch::cat(inside, 1)) / (l + torch::cat(inside_l, 1)).unsqueeze(-1);
  auto [expected, state, key_sum] = run(in, {2, {}, 0, "sum", true});
  EXPECT_LT(distance(y, expected), 1e-12);
  EXPECT_LT(distance(last, state), 1e-12);
  EXPECT_LT(distance(key_last, key_sum), 1e-12);
  EXPECT_LT(distance(std::get<0>(ops::attention(in.q, in.k, in.v, in.log_g)), expected), 1e-12);
}

TEST(Forms, RepeatBitwise) {
  for (torch::Dtype dtype : {torch::kFloat32, torch::kBFloat16}) {
    for (torch::Device device : {torch::Device(torch::kCPU), torch::Device(torch::kCUDA)}) {
      if (device.is_cuda() && !torch::cuda::is_available()) continue;
      for (int64_t chunk : {0, 48}) {
        const Inputs in = random_inputs({2, 200, 200, 2, 2, 16, 16}, Gating::kMild, false, 2, 4).to(device, dtype);
        std::vector<torch::Tensor> first;
        for (int round = 0; round < 2; ++round) {
          const Inputs x = in.requires_grad();
          const torch::Tensor y = std::get<0>(run(x, {2, {}, chunk, "sum", false}));
          auto all = torch::autograd::grad({y}, x.tensors(), {torch::ones_like(y)});
          all.push_back(y);
          for (size_t i = 0; round == 1 && i < all.size(); ++i) EXPECT_TRUE(torch::equal(all[i], first[i]));
          first = all;
        }
      }
    }
  }
}

// Strided views of one fused projection, as a model has them, give what contiguous copies give.
TEST(Forms, StridedInputs) {
  torch::manual_seed(3);
  const int64_t heads = 2, head_dim = 8, width = 3 * heads * head_dim + heads;
  const torch::Tensor fused = torch::randn({2, 30, width});
  const auto view = [&](int64_t i) {
    return fused.narrow(2, i * heads * head_dim, heads * head_dim).view({2, 30, heads, head_dim});
  };
  const torch::Tensor log_g = torch::log_sigmoid(fused.narrow(2, 3 * heads * head_dim, heads));
  const Inputs strided{view(0), view(1), view(2), log_g, {}, {}};
  Inputs plain = strided;
  plain.q = plain.q.contiguous(), plain.k = plain.k.contiguous(), plain.v = plain.v.contiguous();
  for (int64_t chunk : {0, 8}) {
    const Options options{2, {}, chunk};
    EXPECT_TRUE(torch::equal(std::get<0>(run(strided, options)), std::get<0>(run(plain, options))));
  }
}

}  // namespace
}  // namespace power::test
