#include <torch/library.h>

// The operators' signatures; src/ops/ops.h documents the arguments. One folder per dispatch key holds their
// implementations. *_forward and *_backward are what autograd calls; they have no gradient of their own.
TORCH_LIBRARY(power_attention, m) {
  m.def(
      "power_attention(Tensor q, Tensor k, Tensor v, Tensor? log_g=None, Tensor? initial_state=None, "
      "Tensor? initial_key_sum=None, int degree=2, float? scale=None, int? chunk_size=None, str normalize='sum', "
      "bool return_state=False) -> (Tensor y, Tensor state, Tensor key_sum)");
  // r (B,TQ,HQ,1; 2 above degree 2) is what the backward of the same implementation needs of each row: its normaliser,
  // and its scaling factor; chunk_states, of a size of its own, may be what it needs of each chunk. Both choose the
  // implementation from the same arguments.
  m.def(
      "power_attention_forward(Tensor q, Tensor k, Tensor v, Tensor? log_g, Tensor? initial_state, "
      "Tensor? initial_key_sum, int degree, float? scale, int? chunk_size, str normalize, bool return_state) -> "
      "(Tensor y, Tensor state, Tensor key_sum, Tensor r, Tensor chunk_states)");
  // Gradients of absent arguments are tensors of zero elements.
  m.def(
      "power_attention_backward(Tensor dy, Tensor? dstate, Tensor? dkey_sum, Tensor q, Tensor k, Tensor v, "
      "Tensor? log_g, Tensor? initial_state, Tensor? initial_key_sum, Tensor y, Tensor r, Tensor chunk_states, "
      "int degree, float? scale, int? chunk_size, str normalize, bool return_state) -> "
      "(Tensor dq, Tensor dk, Tensor dv, Tensor dlog_g, Tensor dinitial_state, Tensor dinitial_key_sum)");
  // Functional: the returned caches replace the old ones; state and key_sum have zero elements where they are
  // unchanged.
  m.def(
      "power_attention_step(Tensor q, Tensor k, Tensor v, Tensor? log_g, Tensor? state, Tensor? key_sum, "
      "Tensor? cache_k, Tensor? cache_v, Tensor? cache_log_g, int degree=2, float? scale=None, int switch_over=256, "
      "str normalize='sum') -> (Tensor y, Tensor state, Tensor key_sum, Tensor cache_k, Tensor cache_v, "
      "Tensor cache_log_g)");

  // Decoding with a cache of constant size that the step changes in place: CUDA, bf16 and fp16, any number of new
  // tokens. cache (B,H,bytes) uint8; zeros are an empty cache, its rows belong to one sequence each.
  m.def(
      "decode_cache(int batch, int heads, int head_dim, int degree=2, int window=256, Device? device=None) -> Tensor");
  m.def(
      "decode_step(Tensor q, Tensor k, Tensor v, Tensor? log_g, Tensor(a!) cache, int degree=2, float? scale=None, "
      "int window=256, str normalize='sum') -> Tensor");
  // Starts a cache from a state, and gives the state of all tokens it has seen (folding its window).
  m.def("decode_import(Tensor state, Tensor key_sum, Tensor(a!) cache, int degree=2, int window=256) -> ()");
  m.def(
      "decode_export(Tensor(a!) cache, int head_dim, int degree=2, int window=256) -> (Tensor state, Tensor key_sum)");

  // The parts of the operator. Results that are not normalised are float32 (float64 for float64 inputs).
  m.def(
      "attention(Tensor q, Tensor k, Tensor v, Tensor? log_g=None, int degree=2, float? scale=None, "
      "bool normalize=True) -> (Tensor y, Tensor l)");
  m.def(
      "attention_backward(Tensor? dy, Tensor? dl, Tensor q, Tensor k, Tensor v, Tensor? log_g, Tensor y, Tensor l, "
      "int degree, float? scale, bool normalize) -> (Tensor dq, Tensor dk, Tensor dv, Tensor dlog_g)");
  m.def(
      "update_state(Tensor k, Tensor v, Tensor? log_g=None, int degree=2, int? chunk_size=None) -> "
      "(Tensor state, Tensor key_sum)");
  m.def(
      "update_state_backward(Tensor? dstate, Tensor? dkey_sum, Tensor k, Tensor v, Tensor? log_g, int degree, "
      "int? chunk_size) -> (Tensor dk, Tensor dv, Tensor dlog_g)");
  m.def("discumsum(Tensor x, Tensor? log_decay=None, Tensor? initial=None) -> (Tensor before, Tensor last)");
  m.def(
      "discumsum_backward(Tensor? dbefore, Tensor? dlast, Tensor before, Tensor? log_decay) -> "
      "(Tensor dx, Tensor dlog_decay, Tensor dinitial)");
  m.def(
      "query_state(Tensor q, Tensor state, Tensor key_sum, Tensor? log_g=None, int degree=2, float? scale=None, "
      "int? chunk_size=None) -> (Tensor y, Tensor l)");
  m.def(
      "query_state_backward(Tensor? dy, Tensor? dl, Tensor q, Tensor state, Tensor key_sum, Tensor? log_g, int degree, "
      "float? scale, int? chunk_size) -> (Tensor dq, Tensor dstate, Tensor dkey_sum, Tensor dlog_g)");

  m.def(
      "make_inputs(int batch, int seq_len, int heads, int head_dim, int group=1, ScalarType dtype=float, "
      "bool gated=True, int seed=0, Device? device=None) -> (Tensor q, Tensor k, Tensor v, Tensor log_g)");
}
