#include "tests/ops/cases.h"

#include <torch/utils.h>

#include <cmath>

#include "core/str.h"
#include "ops/cpu/reference.h"

namespace power::test {

std::string Shape::text() const {
  return str("B", batch, "_TQ", query_len, "_TK", key_len, "_R", group, "_H", heads, "_D", head_dim, "_E", value_dim);
}

std::vector<torch::Tensor> Inputs::tensors() const {
  std::vector<torch::Tensor> all = {q, k, v};
  for (const OptTensor* t : {&log_g, &state, &key_sum}) {
    if (t->has_value()) all.push_back(**t);
  }
  return all;
}

Inputs Inputs::slice(int64_t first, int64_t count) const {
  Inputs part{q.narrow(1, first, count), k.narrow(1, first, count), v.narrow(1, first, count), {}, {}, {}};
  if (log_g) part.log_g = log_g->narrow(1, first, count);
  return part;
}

Inputs Inputs::to(torch::Device device, torch::Dtype dtype) const {
  const torch::Dtype real = dtype == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
  Inputs out{q.to(device, dtype), k.to(device, dtype), v.to(device, dtype), {}, {}, {}};
  if (log_g) out.log_g = log_g->to(device, real);
  if (state) out.state = state->to(device, real);
  if (key_sum) out.key_sum = key_sum->to(device, real);
  return out;
}

Inputs Inputs::requires_grad() const {
  const auto leaf = [](const torch::Tensor& t) { return t.detach().clone().requires_grad_(); };
  Inputs out{leaf(q), leaf(k), leaf(v), {}, {}, {}};
  if (log_g) out.log_g = leaf(*log_g);
  if (state) out.state = leaf(*state);
  if (key_sum) out.key_sum = leaf(*key_sum);
  return out;
}

Inputs random_inputs(const Shape& s, Gating gating, bool with_state, int64_t degree, int64_t seed) {
  torch::manual_seed(seed);
  const auto wide = torch::TensorOptions().dtype(torch::kFloat64);
  Inputs in;
  in.q = torch::randn({s.batch, s.query_len, s.heads * s.group, s.head_dim}, wide);
  in.k = torch::randn({s.batch, s.key_len, s.heads, s.head_dim}, wide);
  in.v = torch::randn({s.batch, s.key_len, s.heads, s.value_dim}, wide);
  if (degree % 2 == 1) {  // odd degrees: keep l away from zero
    in.q = in.q.abs() + 0.1;
    in.k = in.k.abs() + 0.1;
  }
  if (gating != Gating::kNone) {
    const double bias = gating == Gating::kStrong ? -2.0 : 2.0;
    in.log_g = torch::log_sigmoid(bias + torch::randn({s.batch, s.key_len, s.heads}, wide));
    if (gating == Gating::kSegments) {
      // On the first token, side by side, and different in each head.
      in.log_g->masked_fill_(torch::rand({s.batch, s.key_len, s.heads}, wide) < 0.2, -INFINITY);
      in.log_g->select(1, 0).fill_(-INFINITY);
      in.log_g->select(1, s.key_len / 2).fill_(-INFINITY);
      if (s.key_len > 2) in.log_g->select(1, s.key_len / 2 + 1).fill_(-INFINITY);
    }
  }
  if (with_state) {
    Shape before = s;
    before.query_len = before.key_len = 5;
    const Inputs past =
        random_inputs(before, gating == Gating::kNone ? gating : Gating::kMild, false, degree, seed + 1);
    Options options;
    options.degree = degree;
    options.return_state = true;
    auto [y, state, key_sum] = run(past, options);
    in.state = state;
    in.key_sum = key_sum;
  }
  return in;
}

std::tuple<torch::Tensor, torch::Tensor, torch::Tensor> run(const Inputs& in, const Options& o) {
  return ops::power_attention(in.q, in.k, in.v, in.log_g, in.state, in.key_sum, o.degree, o.scale, o.chunk_size,
                              o.normalize, o.return_state);
}

namespace {

ops::reference::Shape reference_shape(const Inputs& in, const Options& o) {
  using S = ops::reference::Shape;
  return {in.q.size(0),
          in.q.size(1),
          in.k.size(1),
          in.q.size(2),
          in.k.size(2),
          in.q.size(3),
          in.v.size(3),
          o.degree,
          o.scale.value_or(1 / std::sqrt(static_cast<double>(in.q.size(3)))),
          o.normalize == "sum"     ? S::kSum
          : o.normalize == "layer" ? S::kLayer
                                   : S::kNone};
}

torch::Tensor plain(const torch::Tensor& t) { return t.detach().to(torch::kCPU, torch::kFloat64).contiguous(); }

}  // namespace

torch::Tensor reference_forward(const Inputs& in, const Options& o) {
  const torch::Tensor q = plain(in.q), k = plain(in.k), v = plain(in.v);
  const torch::Tensor log_g = in.log_g ? plain(*in.log_g) : torch::Tensor();
  torch::Tensor y = torch::empty({q.size(0), q.size(1), q.size(2), v.size(3)}, q.options());
  ops::reference::forward(reference_shape(in, o), q.data_ptr<double>(), k.data_ptr<double>(), v.data_ptr<double>(),
                          log_g.defined() ? log_g.data_ptr<double>() : nullptr, y.data_ptr<double>());
  return y;
}

std::vector<torch::Tensor> reference_backward(const Inputs& in, const Options& o, const torch::Tensor& dy_in) {
  const torch::Tensor dy = plain(dy_in), q = plain(in.q), k = plain(in.k), v = plain(in.v);
  const torch::Tensor log_g = in.log_g ? plain(*in.log_g) : torch::Tensor();
  std::vector<torch::Tensor> out = {torch::empty_like(q), torch::empty_like(k), torch::empty_like(v)};
  if (in.log_g) out.push_back(torch::empty_like(log_g));
  ops::reference::backward(reference_shape(in, o), dy.data_ptr<double>(), q.data_ptr<double>(), k.data_ptr<double>(),
                           v.data_ptr<double>(), in.log_g ? log_g.data_ptr<double>() : nullptr,
                           out[0].data_ptr<double>(), out[1].data_ptr<double>(), out[2].data_ptr<double>(),
                           in.log_g ? out[3].data_ptr<double>() : nullptr);
  return out;
}

double operator_error(const torch::Tensor& x, const torch::Tensor& reference, const torch::Tensor& dy) {
  const torch::Tensor ref = plain(reference);
  const double difference = (plain(x) - ref).norm().item<double>();
  const double size = ref.norm().item<double>(), input = plain(dy).norm().item<double>();
  return size < 1e-6 * input ? difference / input : difference / size;
}

}  // namespace power::test
