#include <cmath>

#include "core/error.h"
#include "model/gpt.h"

namespace power::model {

AttentionKernel attention_of(const GptOptions& options, int64_t layer) {
  return options.attention.size() == 1 ? options.attention[0] : options.attention[layer];
}

void check_options(const GptOptions& options) {
  const auto positive = [](int64_t value, const char* name) {
    require(value > 0, ErrorKind::kUsage, name, " must be at least 1, not ", value);
  };
  positive(options.n_layer, "n_layer");
  positive(options.n_head, "n_head");
  positive(options.qhead_ratio, "qhead_ratio");
  positive(options.n_embd, "n_embd");
  positive(options.vocab_size, "vocab_size");
  positive(options.block_size, "block_size");
  positive(options.degree, "degree");
  require(options.head_size > 0 && options.head_size % 2 == 0, ErrorKind::kUsage,
          "head_size must be even and positive, because rotary embedding turns pairs; got ", options.head_size);
  const auto kernels = static_cast<int64_t>(options.attention.size());
  require(kernels == 1 || kernels == options.n_layer, ErrorKind::kUsage, "attention_kernel names ", kernels,
          " layers, the model has n_layer ", options.n_layer, ": name one kernel for all, or one per layer");
  require(options.rope_base >= 0 && std::isfinite(options.rope_base), ErrorKind::kUsage,
          "rope_base must be positive, or 0 for block_size; got ", options.rope_base);
  require(options.dropout >= 0 && options.dropout < 1, ErrorKind::kUsage, "dropout must be in [0, 1), got ",
          options.dropout);
  require(options.normalize == "sum" || options.normalize == "layer" || options.normalize == "none", ErrorKind::kUsage,
          "normalize must be sum, layer or none, not '", options.normalize, "'");
  require(!options.chunk_size || *options.chunk_size >= 0, ErrorKind::kUsage,
          "chunk_size must be positive, or 0 for the quadratic form; got ", options.chunk_size.value_or(0));
  const auto dtype = options.compute_dtype;
  require(dtype == torch::kFloat32 || dtype == torch::kBFloat16 || dtype == torch::kFloat16, ErrorKind::kUsage,
          "the compute dtype must be float32, bfloat16 or float16, not ", c10::str(dtype));
}

}  // namespace power::model
