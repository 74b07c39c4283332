#pragma once

#include <cstddef>
#include <cstdint>

// Symmetric power attention, fused: plain C++ interface, no CUDA or torch header. Device pointers throughout; nothing
// is allocated and nothing synchronises. docs/operator.md has the mathematics, supported.h the list of what is
// compiled.
namespace power::kernels {

enum class DataType { kBFloat16, kFloat32 };
enum class Normalize { kSum, kLayer, kNone };

// (batch, token, head, element), of the shape's dtype; strides in elements, elements contiguous. Data and strides must
// be multiples of 16 bytes.
struct TensorView {
  const void* data = nullptr;
  int64_t batch = 0, token = 0, head = 0;
};

struct AttentionShape {
  DataType dtype = DataType::kBFloat16;
  int batch = 0;
  int query_len = 0;  // TQ <= TK; query i stands at key position TK-TQ+i
  int key_len = 0;    // TK
  int kv_heads = 0;   // H
  int group = 1;      // R = HQ / H, query heads per kv head
  int head_dim = 0;   // of q, k and v; a multiple of 8 up to 128
  int degree = 2;
  double scale = 0;  // inside the power
  Normalize normalize = Normalize::kSum;
  // Keys of a chunk (bf16: a multiple of 64): inside a chunk all pairs, before it a state. 0: one chunk, the quadratic
  // form.
  int chunk = 0;
};

// A state and its key sum, or their gradients: layout sym-lex/1 (docs/operator.md), float32, contiguous (batch, kv
// head, F, element) and (batch, kv head, F). Both null where there is none. Degrees 1 and 2; float32 also 3 and 4 up to
// head dim 32.
struct State {
  float* state = nullptr;
  float* key_sum = nullptr;
};

// Natural log of the gates (batch, token, head), float32; data == nullptr means no gates. A value of -inf, or so small
// that float cannot hold its exponential, starts a segment.
struct GateView {
  const float* data = nullptr;
  int64_t batch = 0, token = 0, head = 0;
};

// w_ij = (scale * q_i.k_j)^degree * exp(c_i - c_j), n_i = sum_{j<=i} w_ij v_j, y_i = normalised n_i.
struct ForwardParams {
  AttentionShape shape;
  TensorView q, k, v;
  GateView log_g;
  State initial;               // before the first key
  State final;                 // written where not null: after the last key
  void* states = nullptr;      // written where not null: saved_states_bytes(), spares the backward pass their making
  TensorView y;                // written
  float* row_stats = nullptr;  // written, row_stats_floats() values that the backward pass reads
  float* l = nullptr;          // written where not null: l_i = sum_j w_ij, (batch, kv head, token, head in group)
  void* workspace = nullptr;   // forward_workspace_bytes(), which looks at all other members
  void* stream = nullptr;      // cudaStream_t
};

struct BackwardParams {
  AttentionShape shape;
  TensorView q, k, v;
  GateView log_g;
  State initial;
  const void* states = nullptr;  // of the forward pass; null: made again
  TensorView y, dy;
  State dfinal;  // gradient of the final state
  const float* row_stats = nullptr;
  // Gradient of l, and l as the forward pass wrote it; null: l has no gradient. float32, kSum and kNone.
  const float *dl = nullptr, *l = nullptr;
  TensorView dq, dk, dv;    // written
  State dinitial;           // written where not null
  float* dlog_g = nullptr;  // written where log_g is given; strides as below
  int64_t dlog_g_batch = 0, dlog_g_token = 0, dlog_g_head = 0;
  void* workspace = nullptr;  // backward_workspace_bytes()
  void* stream = nullptr;
};

// Why the kernels cannot serve a shape, or nullptr where they can.
const char* unsupported_reason(const AttentionShape& shape);

// Bytes of shared memory that a block of the shape's kernels takes, forward and backward; a device that allows a block
// less cannot run them. states: an initial or a final state, or gradients of them. The shape must be supported.
size_t shared_memory_bytes(const AttentionShape& shape, bool states);

size_t row_stats_floats(const AttentionShape& shape);
size_t saved_states_bytes(const AttentionShape& shape, bool has_initial);
size_t forward_workspace_bytes(const ForwardParams& params);
size_t backward_workspace_bytes(const BackwardParams& params);

// Nothing of size T x T is stored. Deterministic. Throws std::invalid_argument for bad arguments and std::runtime_error
// where a launch fails.
void power_attention_forward(const ForwardParams& params);
void power_attention_backward(const BackwardParams& params);

}  // namespace power::kernels
