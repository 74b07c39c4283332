#pragma once

#include <cstddef>
#include <cstdint>

// Symmetric power attention, fused: plain C++ interface, no CUDA or torch header. Device pointers throughout; nothing
// is allocated and nothing synchronises. docs/operator.md has the mathematics, supported.h the list of what is
// compiled.
namespace power::kernels {

enum class DataType { kBFloat16 };
enum class Normalize { kSum, kLayer, kNone };

// (batch, token, head, element); strides in elements, elements contiguous. Data and strides must be multiples of 16
// bytes.
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
  TensorView y;                // written
  float* row_stats = nullptr;  // written, row_stats_floats() values that the backward pass reads
  float* l = nullptr;          // written where not null: l_i = sum_j w_ij, (batch, kv head, token, head in group)
  void* workspace = nullptr;   // forward_workspace_bytes()
  void* stream = nullptr;      // cudaStream_t
};

struct BackwardParams {
  AttentionShape shape;
  TensorView q, k, v;
  GateView log_g;
  TensorView y, dy;
  const float* row_stats = nullptr;
  TensorView dq, dk, dv;    // written
  float* dlog_g = nullptr;  // written where log_g is given; strides as below
  int64_t dlog_g_batch = 0, dlog_g_token = 0, dlog_g_head = 0;
  void* workspace = nullptr;  // backward_workspace_bytes()
  void* stream = nullptr;
};

// Why the kernels cannot serve a shape, or nullptr where they can.
const char* unsupported_reason(const AttentionShape& shape);

size_t row_stats_floats(const AttentionShape& shape);
size_t forward_workspace_bytes(const AttentionShape& shape, bool gated);
size_t backward_workspace_bytes(const AttentionShape& shape, bool gated);

// The quadratic form: all pairs, no T x T storage. Deterministic. Throws std::invalid_argument for bad arguments and
// std::runtime_error where a launch fails.
void power_attention_forward(const ForwardParams& params);
void power_attention_backward(const BackwardParams& params);

}  // namespace power::kernels
