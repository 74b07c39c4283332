#include "ops/composed/step.h"
#include "ops/check_argument.h"

#include <ATen/ATen.h>

#include "ops/composed/power_attention.h"

namespace power::ops::composed {
namespace {

at::Tensor append(const OptTensor& cache, const at::Tensor& fresh) {
  if (!cache.has_value() || cache->size(1) == 0) return fresh;
  return at::cat({*cache, fresh}, 1);
}

}  // namespace

Tensor6 power_attention_step(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                             const OptTensor& state, const OptTensor& key_sum, const OptTensor& cache_k,
                             const OptTensor& cache_v, const OptTensor& cache_log_g, int64_t degree, OptDouble scale,
                             int64_t switch_over, std::string_view normalize) {
  check_argument(switch_over >= 1, "power_attention_step: switch_over is ", switch_over, "; it must be at least 1");
  check_argument(cache_k.has_value() == cache_v.has_value(),
                 "power_attention_step: cache_k and cache_v belong together; found only one of them");
  check_argument(!cache_k.has_value() || cache_k->size(1) == 0 || log_g.has_value() == cache_log_g.has_value(),
                 "power_attention_step: log_g and cache_log_g must both be given or both be left out");
  check_argument(q.size(1) == k.size(1), "power_attention_step: q has ", q.size(1), " new tokens and k ", k.size(1),
                 "; the cache holds the earlier keys");
  const at::Tensor keys = append(cache_k, k), values = append(cache_v, v);
  const OptTensor gates = log_g.has_value() ? OptTensor(append(cache_log_g, *log_g)) : OptTensor();
  const bool fold = keys.size(1) >= switch_over;
  const Problem problem =
      check_problem(q, keys, values, gates, state, key_sum, degree, scale, {}, std::string(normalize), fold);
  const Forward out = power_attention_forward(problem, q, keys, values, gates, state, key_sum);
  const int64_t kept = fold ? 0 : keys.size(1);
  // Copies, so that no result is a view of an argument.
  const auto cache = [kept](const at::Tensor& t) { return t.narrow(1, 0, kept).clone(at::MemoryFormat::Contiguous); };
  return {out.y,       out.state,     out.key_sum,
          cache(keys), cache(values), gates.has_value() ? cache(*gates) : at::empty({0}, out.r.options())};
}

}  // namespace power::ops::composed
