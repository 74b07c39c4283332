#pragma once

#include "kernels/power_attention/power_attention.h"

// The parts of the chunked form as functions of their own, float32, any chunk size. States: layout sym-lex/1,
// contiguous (batch, chunk, kv head, F, head_dim) and (batch, chunk, kv head, F), chunks = ceil(tokens / chunk).
namespace power::kernels::float32 {

struct StateShape {
  int batch = 0, tokens = 0, kv_heads = 0, group = 1, head_dim = 0, degree = 2, chunk = 0;
};

// What each chunk's keys add to the state at the chunk's end.
struct UpdateStateParams {
  StateShape shape;
  TensorView k, v;
  GateView log_g;
  State sums;                 // written
  void* workspace = nullptr;  // state_workspace_bytes(), zeros
  void* stream = nullptr;
};

struct UpdateStateBackwardParams {
  StateShape shape;
  TensorView k, v;
  GateView log_g;
  State dsums;
  TensorView dk, dv;        // written
  float* dlog_g = nullptr;  // written where log_g is given, (batch, token, kv head) contiguous
  void* workspace = nullptr;
  void* stream = nullptr;
};

// What the state before each chunk gives its queries: scale^degree gate phi(q) S and, with the key sum, l.
struct QueryStateParams {
  StateShape shape;
  double scale = 0;
  TensorView q;
  GateView log_g;
  State states;
  TensorView y;        // written
  float* l = nullptr;  // written, (batch, kv head, token, head in group)
  void* workspace = nullptr;
  void* stream = nullptr;
};

struct QueryStateBackwardParams {
  StateShape shape;
  double scale = 0;
  TensorView q;
  GateView log_g;
  State states;
  TensorView dy;
  const float* minus_dl = nullptr;  // the gradient of l, negated; as l
  TensorView dq;                    // written
  State dstates;                    // written
  float* dlog_g = nullptr;          // written where log_g is given, (batch, token, kv head) contiguous
  void* workspace = nullptr;
  void* stream = nullptr;
};

bool state_ops_serve(const StateShape& shape);
size_t state_workspace_bytes(const StateShape& shape, bool gated);
void update_state(const UpdateStateParams& params);
void update_state_backward(const UpdateStateBackwardParams& params);
void query_state(const QueryStateParams& params);
void query_state_backward(const QueryStateBackwardParams& params);

// Discounted sums over chunks of x (batch, chunk, head, element), element by element: before_(n+1) = decay_n before_n +
// x_n from `initial` (null: 0); `last` is the value after the last chunk. decay (batch, chunk, head), null: 1.
struct DiscountedSum {
  int batch = 0, chunks = 0, heads = 0, elements = 0;
  const float *x = nullptr, *decay = nullptr, *initial = nullptr;
  float *before = nullptr, *last = nullptr;  // written
  void* stream = nullptr;
};

struct DiscountedSumBackward {
  int batch = 0, chunks = 0, heads = 0, elements = 0;
  const float *before = nullptr, *decay = nullptr;
  const float *dbefore = nullptr, *dlast = nullptr;  // null: 0
  float *dx = nullptr, *dinitial = nullptr;          // written
  float* ddecay = nullptr;  // written where not null: discounted_sum_parts() summands of each (batch, chunk, head)
  void* stream = nullptr;
};

bool discounted_sum_serves(int64_t batch, int64_t chunks, int64_t heads, int64_t elements);
int discounted_sum_parts(int elements);
void discounted_sum(const DiscountedSum& params);
void discounted_sum_backward(const DiscountedSumBackward& params);

}  // namespace power::kernels::float32
