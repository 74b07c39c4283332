#include <ATen/ATen.h>
#include <torch/library.h>

#include "ops/composed/power_attention.h"
#include "ops/composed/step.h"
#include "ops/dispatch.h"

// CPU key: the composed forms.
namespace power::ops::cpu {
namespace {

Tensor5 power_attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                                const OptTensor& initial_state, const OptTensor& initial_key_sum, int64_t degree,
                                OptDouble scale, OptInt chunk_size, std::string_view normalize, bool return_state) {
  const Problem problem = check_problem(q, k, v, log_g, initial_state, initial_key_sum, degree, scale, chunk_size,
                                        std::string(normalize), return_state);
  auto out = composed::power_attention_forward(problem, q, k, v, log_g, initial_state, initial_key_sum);
  return {out.y, out.state, out.key_sum, out.r, at::empty({0}, out.r.options())};
}

Tensor3 power_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                        const OptTensor& initial_state, const OptTensor& initial_key_sum, int64_t degree,
                        OptDouble scale, OptInt chunk_size, std::string_view normalize, bool return_state) {
  auto [y, state, key_sum, r, chunk_states] = power_attention_forward(
      q, k, v, log_g, initial_state, initial_key_sum, degree, scale, chunk_size, normalize, return_state);
  return {y, state, key_sum};
}

Tensor6 power_attention_backward(const at::Tensor& dy, const OptTensor& dstate, const OptTensor& dkey_sum,
                                 const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                                 const OptTensor& initial_state, const OptTensor& initial_key_sum, const at::Tensor& y,
                                 const at::Tensor& r, const at::Tensor& chunk_states, int64_t degree, OptDouble scale,
                                 OptInt chunk_size, std::string_view normalize, bool return_state) {
  const Problem problem = check_problem(q, k, v, log_g, initial_state, initial_key_sum, degree, scale, chunk_size,
                                        std::string(normalize), return_state);
  auto out = composed::power_attention_backward(problem, dy, dstate, dkey_sum, q, k, v, log_g, initial_state,
                                                initial_key_sum, y, r);
  return {out.dq, out.dk, out.dv, out.dlog_g, out.dinitial_state, out.dinitial_key_sum};
}

}  // namespace

TORCH_LIBRARY_IMPL(power_attention, CPU, m) {
  m.impl("power_attention", power_attention);
  m.impl("power_attention_forward", power_attention_forward);
  m.impl("power_attention_backward", power_attention_backward);
  m.impl("power_attention_step", composed::power_attention_step);
}

}  // namespace power::ops::cpu
