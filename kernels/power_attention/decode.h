#pragma once

#include <cstddef>

#include "kernels/power_attention/power_attention.h"

// Inference: a few new tokens against a cache of constant size, one launch a layer. Plain C++ interface; nothing is
// allocated, nothing synchronises, and every decision that depends on how many tokens came before is made on the
// device, so that a captured CUDA graph of a step can be replayed for every token. docs/kernels.md has the design.
//
// The cache of one (sequence, kv head) is a record of decode_record_bytes() bytes, records (batch, kv head) follow each
// other. A record of zero bytes is an empty cache: one memset starts all sequences, one of a sequence's records starts
// that sequence alone; copying records copies sequences. It holds the state of the tokens that have been folded, and a
// window of the newest ones: up to 64, or as many as the last step brought. Only decode kernels compiled from the same
// source read it: the public form of a state is `sym-lex/1`, which import and export convert.
namespace power::kernels {

struct DecodeShape {
  DataType dtype = DataType::kBFloat16;
  int batch = 0;
  int kv_heads = 0;  // H
  int group = 1;     // R = HQ / H, query heads per kv head
  int head_dim = 0;  // of q, k and v; a multiple of 8 up to 128
  int degree = 2;    // 1 or 2
  int window = 256;  // room for as many tokens as keys and values: a multiple of 16 up to kMaxDecodeWindow
};

inline constexpr int kMaxDecodeWindow = 256;
inline constexpr int kMaxDecodeSplits = 128;

// Why the kernels cannot serve a shape, or nullptr where they can. query_len: new tokens of a step, 1..window.
const char* decode_unsupported_reason(const DecodeShape& shape, int query_len);

// Bytes of one record, a multiple of 256.
size_t decode_record_bytes(const DecodeShape& shape);

// How many blocks share a (sequence, kv head) on a device with this many multiprocessors, by default. Results depend on
// it in rounding only.
int decode_splits(const DecodeShape& shape, int query_len, int multiprocessors);
size_t decode_workspace_bytes(const DecodeShape& shape, int query_len, int splits);

// y_i = normalised n_i as in ForwardParams, over all tokens the cache has seen since the last -inf gate and the new
// ones; the new tokens then belong to the cache. log_g without data means gates of 0.
struct DecodeParams {
  DecodeShape shape;
  int query_len = 1;  // TQ, 1..window
  double scale = 0;   // inside the power
  Normalize normalize = Normalize::kSum;
  TensorView q, k, v;
  GateView log_g;
  TensorView y;               // written
  void* cache = nullptr;      // updated; 256-byte aligned
  int splits = 1;             // 1..kMaxDecodeSplits, decode_splits()
  void* workspace = nullptr;  // decode_workspace_bytes(); no contents need survive between steps
  void* stream = nullptr;     // cudaStream_t
};

// Deterministic. Throws std::invalid_argument for bad arguments and std::runtime_error where a launch fails.
void power_attention_decode(const DecodeParams& params);

// state (B,H,F,D), key_sum (B,H,F), contiguous float32 in the layout sym-lex/1, F = C(D+degree-1, degree): the sum over
// all tokens seen, discounted to the last.
struct DecodeStateParams {
  DecodeShape shape;
  void* cache = nullptr;
  float* state = nullptr;
  float* key_sum = nullptr;
  void* stream = nullptr;
};

// Starts every sequence of the cache from a state.
void decode_import_state(const DecodeStateParams& params);
// Folds every window into its state, then writes the states; the cache goes on from there.
void decode_export_state(const DecodeStateParams& params);

}  // namespace power::kernels
