#include <torch/library.h>

// The operators' signatures; src/ops/ops.h documents the arguments. One folder per dispatch key holds their
// implementations. *_forward and *_backward are what autograd calls; they have no gradient of their own.
TORCH_LIBRARY(power_attention, m) {
  m.def(
      "power_attention(Tensor q, Tensor k, Tensor v, Tensor? log_g=None, Tensor? initial_state=None, "
      "Tensor? initial_key_sum=None, int degree=2, float? scale=None, int? chunk_size=None, str normalize='sum', "
      "bool return_state=False) -> (Tensor y, Tensor state, Tensor key_sum)");
  // r (B,TQ,HQ): the row's normaliser, 1/l or 1/root, as the backward of the same implementation needs it.
  m.def(
      "power_attention_forward(Tensor q, Tensor k, Tensor v, Tensor? log_g, Tensor? initial_state, "
      "Tensor? initial_key_sum, int degree, float? scale, int? chunk_size, str normalize, bool return_state) -> "
      "(Tensor y, Tensor state, Tensor key_sum, Tensor r)");
  // Gradients of absent arguments are tensors of zero elements.
  m.def(
      "power_attention_backward(Tensor dy, Tensor? dstate, Tensor? dkey_sum, Tensor q, Tensor k, Tensor v, "
      "Tensor? log_g, Tensor? initial_state, Tensor? initial_key_sum, Tensor y, Tensor r, int degree, float? scale, "
      "int? chunk_size, str normalize) -> "
      "(Tensor dq, Tensor dk, Tensor dv, Tensor dlog_g, Tensor dinitial_state, Tensor dinitial_key_sum)");
  // Functional: the returned caches replace the old ones; state and key_sum have zero elements where they are
  // unchanged.
  m.def(
      "power_attention_step(Tensor q, Tensor k, Tensor v, Tensor? log_g, Tensor? state, Tensor? key_sum, "
      "Tensor? cache_k, Tensor? cache_v, Tensor? cache_log_g, int degree=2, float? scale=None, int switch_over=256, "
      "str normalize='sum') -> (Tensor y, Tensor state, Tensor key_sum, Tensor cache_k, Tensor cache_v, "
      "Tensor cache_log_g)");
}
