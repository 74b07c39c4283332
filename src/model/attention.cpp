#include "model/attention.h"

#include <algorithm>

namespace power::model {
namespace {

using torch::Tensor;

// q (B,TQ,HQ,D), k and v (B,TK,H,D); query i stands at key position TK-TQ+i.
Tensor softmax_attention(const Tensor& q, const Tensor& k, const Tensor& v, double dropout) {
  const int64_t tq = q.size(1), tk = k.size(1);
  std::optional<Tensor> mask;
  if (tq > 1 && tq < tk) mask = at::ones({tq, tk}, q.options().dtype(torch::kBool)).tril(tk - tq);
  const bool causal = tq > 1 && tq == tk;
  const bool grouped = q.size(2) != k.size(2);
  return at::scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask, dropout,
                                          causal, std::nullopt, grouped)
      .transpose(1, 2);
}

// Writes `rows` (B,n,H,D) at `position` of a buffer that doubles when it is full.
void append(Tensor& buffer, const Tensor& rows, int64_t position) {
  const int64_t end = position + rows.size(1);
  if (!buffer.defined() || buffer.size(1) < end) {
    const int64_t capacity = std::max(end, 2 * position);
    const Tensor larger = at::empty({rows.size(0), capacity, rows.size(2), rows.size(3)}, rows.options());
    if (position > 0) larger.narrow(1, 0, position).copy_(buffer.narrow(1, 0, position));
    buffer = larger;
  }
  buffer.narrow(1, position, rows.size(1)).copy_(rows);
}

ops::OptTensor optional(const Tensor& x) { return x.defined() ? ops::OptTensor(x) : std::nullopt; }

}  // namespace

Tensor attend(const AttentionInputs& in, AttentionKernel kernel, const GptOptions& options, double dropout) {
  if (kernel == AttentionKernel::kSoftmax) return softmax_attention(in.q, in.k, in.v, dropout);
  return std::get<0>(ops::power_attention(in.q, in.k, in.v, optional(in.log_g), {}, {}, options.degree, {},
                                          options.chunk_size, options.normalize));
}

Tensor attend_step(const AttentionInputs& in, AttentionKernel kernel, const GptOptions& options,
                   DecodeState::Layer& past, int64_t position) {
  if (kernel == AttentionKernel::kPower) {
    return ops::power_attention_step(in.q, in.k, in.v, optional(in.log_g), past.power, options.degree, {},
                                     kDecodeSwitchOver, options.normalize);
  }
  append(past.keys, in.k, position);
  append(past.values, in.v, position);
  const int64_t length = position + in.k.size(1);
  return softmax_attention(in.q, past.keys.narrow(1, 0, length), past.values.narrow(1, 0, length), 0.0);
}

}  // namespace power::model
