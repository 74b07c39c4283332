#include "model/heads.h"

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "model/rotary.h"

namespace power::model {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kRowsPerTask = 16;  // of B*T, per thread

// One pass over memory: turns the first `heads` heads of D values in each row of `from` (rows of from_stride) by
// `table` (T,D/2,2), and writes them to `to`. `sine` is 1 or, for the inverse, -1.
template <class Scalar, class Table>
void rotate_rows(const Scalar* from, int64_t from_stride, Scalar* to, int64_t to_stride, const Table* table,
                 int64_t rows, int64_t length, int64_t heads, int64_t head_size, Table sine) {
  at::parallel_for(0, rows, kRowsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const Table* turn = table + (row % length) * head_size;
      for (int64_t head = 0; head < heads; ++head) {
        const Scalar* x = from + row * from_stride + head * head_size;
        Scalar* y = to + row * to_stride + head * head_size;
        for (int64_t i = 0; i < head_size; i += 2) {
          const Table x0 = static_cast<Table>(x[i]), x1 = static_cast<Table>(x[i + 1]);
          const Table c = turn[i], s = sine * turn[i + 1];
          y[i] = static_cast<Scalar>(x0 * c - x1 * s);
          y[i + 1] = static_cast<Scalar>(x0 * s + x1 * c);
        }
      }
    }
  });
}

// Distance between the T rows of (B,T,heads,D), which must also be that from one sequence to the next. Where a
// dimension holds a single entry its stride says nothing.
int64_t row_stride(const Tensor& x) {
  const int64_t stride = x.size(1) > 1 ? x.stride(1) : x.stride(0);
  TORCH_INTERNAL_ASSERT(x.stride(3) == 1 && (x.size(0) == 1 || x.stride(0) == x.size(1) * stride), x.strides());
  return stride;
}

// from, to (B,T,heads,D), with their rows as row_stride wants them and the heads of a row side by side.
void rotate_into(const Tensor& to, const Tensor& from, const Tensor& table, bool inverse) {
  if (!from.is_cpu()) {
    to.copy_(rotate(from, table, inverse));
    return;
  }
  const int64_t length = from.size(1), rows = from.size(0) * length, heads = from.size(2), head_size = from.size(3);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, from.scalar_type(), "rotate", [&] {
    using Table = at::opmath_type<scalar_t>;
    rotate_rows(from.const_data_ptr<scalar_t>(), row_stride(from), to.data_ptr<scalar_t>(), row_stride(to),
                table.const_data_ptr<Table>(), rows, length, heads, head_size, static_cast<Table>(inverse ? -1 : 1));
  });
}

Tensor heads_of(const Tensor& rows, int64_t begin, int64_t size, int64_t head_size) {
  return rows.narrow(-1, begin, size).unflatten(-1, {size / head_size, head_size});
}

class SplitHeads : public torch::autograd::Function<SplitHeads> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& qkvg, const Tensor& rotary,
                               const HeadLayout& layout) {
    const int64_t D = layout.head_size, HQ = layout.ratio * layout.heads, H = layout.heads;
    const int64_t turned = layout.q_rows() + layout.k_rows();
    const Tensor rows = qkvg.detach();
    const Tensor qk = at::empty({rows.size(0), rows.size(1), HQ + H, D}, rows.options());
    rotate_into(qk, heads_of(rows, 0, turned, D), rotary, false);
    Tensor log_g;
    if (layout.gating) {
      const Tensor gate = rows.narrow(-1, turned + layout.k_rows(), H).to(rotary.scalar_type());
      log_g = at::log_sigmoid(gate + kGateOffset);
    }
    ctx->save_for_backward({rotary, log_g});
    ctx->saved_data["layout"] = std::vector<int64_t>{layout.heads, layout.ratio, layout.head_size, layout.gating};
    variable_list out = {qk.narrow(2, 0, HQ), qk.narrow(2, HQ, H), heads_of(rows, turned, layout.k_rows(), D)};
    if (layout.gating) out.push_back(log_g);
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &rotary = saved[0], &log_g = saved[1];
    const std::vector<int64_t> numbers = ctx->saved_data["layout"].toIntVector();
    const HeadLayout layout{numbers[0], numbers[1], numbers[2], numbers[3] != 0};
    const int64_t D = layout.head_size, turned = layout.q_rows() + layout.k_rows();
    const Tensor &dq = grads[0], &dk = grads[1], &dv = grads[2];
    const Tensor d = at::empty({dq.size(0), dq.size(1), layout.rows()}, dq.options());
    rotate_into(heads_of(d, 0, layout.q_rows(), D), dq.contiguous(), rotary, true);
    rotate_into(heads_of(d, layout.q_rows(), layout.k_rows(), D), dk.contiguous(), rotary, true);
    heads_of(d, turned, layout.k_rows(), D).copy_(dv);
    // d logsigmoid(x) / dx = 1 - sigmoid(x) = -expm1(log_g)
    if (layout.gating) d.narrow(-1, turned + layout.k_rows(), layout.heads).copy_(-at::expm1(log_g) * grads[3]);
    return {d, Tensor(), Tensor()};
  }
};

}  // namespace

AttentionInputs split_heads(const Tensor& qkvg, const Tensor& rotary, const HeadLayout& layout) {
  const variable_list out = SplitHeads::apply(qkvg, rotary, layout);
  return {out[0], out[1], out[2], layout.gating ? out[3] : Tensor()};
}

}  // namespace power::model
