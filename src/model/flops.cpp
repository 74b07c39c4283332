#include "model/gpt.h"
#include "model/parameters.h"
#include "ops/problem.h"

// Counts of floating-point operations, 2 per multiply-add. A matrix product's backward pass is two products of the same
// size, so training costs three times the forward pass.
namespace power::model {
namespace {

constexpr double kForwardAndBackward = 3.0;

// C(D+p-1, p), the number of distinct monomials of degree p in D variables.
double state_size(int64_t head_size, int64_t degree) {
  double size = 1;
  for (int64_t i = 0; i < degree; ++i) {
    size = size * static_cast<double>(head_size + i) / static_cast<double>(i + 1);
  }
  return size;
}

// All pairs j <= i of `length` tokens: q.k and w.v, D multiply-adds each, summed over the tokens of one query head.
double pairs_flops(double length, double head_size) { return length * (length + 1) / 2 * 2 * 2 * head_size; }

// Forward operations of one layer's attention over seq_len tokens, all heads.
double quadratic_flops(const GptOptions& options, int64_t seq_len) {
  const auto query_heads = static_cast<double>(options.n_head * options.qhead_ratio);
  return query_heads * pairs_flops(static_cast<double>(seq_len), static_cast<double>(options.head_size));
}

// Pairs inside chunks; phi(k) v^T of every token that has a later chunk to serve, once per key head; phi(q)^T S of
// every token behind the first chunk, once per query head. The key sum is one more column of v.
double chunked_flops(const GptOptions& options, int64_t seq_len, int64_t chunk) {
  const auto heads = static_cast<double>(options.n_head),
             query_heads = heads * static_cast<double>(options.qhead_ratio);
  const auto head_size = static_cast<double>(options.head_size);
  const int64_t full = seq_len / chunk, tail = seq_len % chunk;
  const double inside = static_cast<double>(full) * pairs_flops(static_cast<double>(chunk), head_size) +
                        pairs_flops(static_cast<double>(tail), head_size);
  const auto written = static_cast<double>(tail > 0 ? seq_len - tail : seq_len - chunk);
  const auto read = static_cast<double>(seq_len - chunk);
  const double state = 2 * state_size(options.head_size, options.degree) * (head_size + 1);
  return query_heads * inside + state * (heads * written + query_heads * read);
}

// Forward operations of power attention in the form that runs; where the shape decides, as it does on a GPU in bf16.
double power_flops(const GptOptions& options, int64_t seq_len) {
  int64_t chunk = options.chunk_size.value_or(0);
  if (!options.chunk_size) {
    ops::Problem problem{};
    problem.batch = 1;
    problem.query_len = problem.key_len = seq_len;
    problem.heads = options.n_head;
    problem.query_heads = options.n_head * options.qhead_ratio;
    problem.head_dim = problem.value_dim = options.head_size;
    problem.degree = options.degree;
    chunk = ops::choose_chunk_size(problem, ops::Backend::kHalfKernels);
  }
  const bool chunked = chunk != ops::kQuadraticForm && chunk < seq_len;
  return chunked ? chunked_flops(options, seq_len, chunk) : quadratic_flops(options, seq_len);
}

int64_t affine_count(int64_t out, int64_t in, bool bias) { return out * in + (bias ? out : 0); }

// Parameters of the linear maps of one block, and of its two layer norms.
int64_t block_linear_count(const GptOptions& options, int64_t layer) {
  const HeadLayout heads = head_layout(options, layer);
  const int64_t C = options.n_embd, hidden = mlp_hidden_size(options);
  return affine_count(heads.rows(), C, options.bias) + affine_count(C, heads.q_rows(), options.bias) +
         affine_count(hidden, C, options.bias) + affine_count(C, hidden, options.bias);
}

int64_t layer_norm_count(const GptOptions& options) { return options.n_embd * (options.bias ? 2 : 1); }

}  // namespace

int64_t parameter_count(const GptOptions& options) {
  int64_t count = options.vocab_size * options.n_embd + layer_norm_count(options);
  for (int64_t layer = 0; layer < options.n_layer; ++layer) {
    count += block_linear_count(options, layer) + 2 * layer_norm_count(options);
  }
  return count;
}

double training_flops_per_token(const GptOptions& options, int64_t seq_len) {
  GptOptions without_bias = options;  // adding a bias is not a product
  without_bias.bias = false;
  double forward = 2.0 * static_cast<double>(options.vocab_size * options.n_embd);  // the head
  for (int64_t layer = 0; layer < options.n_layer; ++layer) {
    const bool softmax = attention_of(options, layer) == AttentionKernel::kSoftmax;
    const double attention = softmax ? quadratic_flops(options, seq_len) : power_flops(options, seq_len);
    forward +=
        2.0 * static_cast<double>(block_linear_count(without_bias, layer)) + attention / static_cast<double>(seq_len);
  }
  return kForwardAndBackward * forward;
}

}  // namespace power::model
