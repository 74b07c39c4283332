#include "model/rotary.h"

#include <torch/utils.h>

#include <algorithm>
#include <numbers>

namespace power::model {

using torch::Tensor;

Tensor RotaryTable::rows(int64_t begin, int64_t count, torch::Device device, torch::Dtype dtype) {
  const int64_t end = begin + count;
  const int64_t have = table_.defined() ? table_.size(0) : 0;
  if (have < end || table_.device() != device || table_.scalar_type() != dtype) {
    const torch::NoGradGuard no_grad;
    const int64_t length = have < end ? std::max(end, 2 * have) : have;
    const Tensor t = torch::arange(length, torch::kFloat64);
    const Tensor exponent = torch::arange(0, head_size_, 2, torch::kFloat64) / head_size_;
    const Tensor angle = t.unsqueeze(1) * (2 * std::numbers::pi) / torch::pow(base_, exponent);
    table_ = torch::stack({angle.cos(), angle.sin()}, -1).to(dtype).to(device);
  }
  return table_.narrow(0, begin, count);
}

Tensor rotate(const Tensor& x, const Tensor& table, bool inverse) {
  const int64_t pairs = x.size(-1) / 2;
  const Tensor z = at::view_as_complex(x.to(table.scalar_type()).contiguous().unflatten(-1, {pairs, 2}));
  const Tensor turn = at::view_as_complex(table).unsqueeze(1);  // (T,1,D/2)
  return at::view_as_real(z * (inverse ? turn.conj() : turn)).flatten(-2);
}

}  // namespace power::model
