#include "ops/composed/operands.h"

#include <ATen/ATen.h>

namespace power::ops {
namespace {

constexpr int64_t kSplitColumns = 8;  // three in use; eight keep rows 16-byte aligned for the tensor cores

at::Tensor with_columns(const at::Tensor& x, const at::Tensor& first, const at::Tensor& second,
                        const at::Tensor& third) {
  std::vector<int64_t> shape = x.sizes().vec();
  const int64_t columns = shape.back();
  shape.back() += kSplitColumns;
  at::Tensor out = at::empty(shape, x.options().dtype(at::kBFloat16));
  out.narrow(-1, 0, columns).copy_(x);
  out.select(-1, columns).copy_(first);
  out.select(-1, columns + 1).copy_(second);
  out.select(-1, columns + 2).copy_(third);
  out.narrow(-1, columns + 3, kSplitColumns - 3).zero_();
  return out;
}

}  // namespace

Precision Precision::of(const at::Tensor& input) {
  if (input.scalar_type() == at::kDouble) return {at::kDouble, at::kDouble};
  if (input.scalar_type() == at::kFloat || !input.is_cuda()) return {at::kFloat, at::kFloat};
  return {at::kFloat, at::kBFloat16};
}

at::Tensor left(const at::Tensor& x, const at::Tensor& w, const Precision& precision) {
  if (!precision.split()) return at::cat({x, w.unsqueeze(-1)}, -1);
  const at::Tensor high = w.to(at::kBFloat16);
  return with_columns(x, high, w - high, high);
}

at::Tensor right(const at::Tensor& x, const at::Tensor& w, const Precision& precision) {
  if (!precision.split()) return at::cat({x, w.unsqueeze(-1)}, -1);
  const at::Tensor high = w.to(at::kBFloat16);
  return with_columns(x, high, high, w - high);
}

at::Tensor collapse_right(const at::Tensor& product, int64_t columns, const Precision& precision) {
  if (!precision.split()) return product;
  at::Tensor out = product.narrow(-1, 0, columns + 1);
  out.select(-1, columns).add_(product.select(-1, columns + 2));
  return out;
}

at::Tensor collapse_left(const at::Tensor& product, int64_t columns, const Precision& precision) {
  if (!precision.split()) return product;
  at::Tensor out = product.narrow(-1, 0, columns + 1);
  out.select(-1, columns).add_(product.select(-1, columns + 1));
  return out;
}

at::Tensor row_dot(const at::Tensor& a, const at::Tensor& b) { return at::mul(a, b).sum(-1).to(at::kDouble); }

at::Tensor product(const at::Tensor& a, const at::Tensor& b, const Precision& precision) {
  if (!precision.split()) return at::bmm(a, b);
  return at::bmm(a, b, precision.real);
}

}  // namespace power::ops
