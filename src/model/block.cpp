#include "model/block.h"

#include "model/recompute.h"

namespace power::model {
namespace {

using torch::Tensor;

Tensor drop(const Tensor& x, double probability) { return probability > 0 ? at::dropout(x, probability, true) : x; }

// Every parameter of the block that there is, in one fixed order; `visit` may replace it.
template <class Affines, class Visitor>
void for_each_parameter(Affines& affines, const Visitor& visit) {
  for (auto* affine :
       {&affines.ln_1, &affines.c_attn, &affines.attn_c_proj, &affines.ln_2, &affines.c_fc, &affines.mlp_c_proj}) {
    visit(affine->weight);
    if (affine->bias.defined()) visit(affine->bias);
  }
}

}  // namespace

BlockAffines block_affines(const BlockModule& block, const std::vector<Tensor>& casts, size_t first) {
  return {
      block.ln_1->with_cast(), block.c_attn->with_cast(casts[first]),   block.attn_c_proj->with_cast(casts[first + 1]),
      block.ln_2->with_cast(), block.c_fc->with_cast(casts[first + 2]), block.mlp_c_proj->with_cast(casts[first + 3])};
}

Tensor block_forward(const Tensor& x, const BlockAffines& affines, const HeadLayout& heads, const Tensor& rotary,
                     const Attend& attend, double dropout) {
  const auto compute = affines.c_attn.cast.scalar_type();
  const Tensor qkvg = linear(layer_norm(x, affines.ln_1).to(compute), affines.c_attn);  // (B,T,rows)
  const Tensor y = attend(split_heads(qkvg, rotary, heads));                            // (B,T,HQ,D)
  const Tensor middle = x + drop(linear(y.flatten(2), affines.attn_c_proj), dropout);   // (B,T,C)
  const Tensor hidden = linear(layer_norm(middle, affines.ln_2).to(compute), affines.c_fc);
  return middle + drop(linear(at::gelu(hidden), affines.mlp_c_proj), dropout);
}

Tensor block_forward_recomputed(const Tensor& x, const BlockAffines& affines, const HeadLayout& heads,
                                const Tensor& rotary, const Attend& attend, double dropout, bool random) {
  std::vector<Tensor> inputs = {x};
  for_each_parameter(affines, [&](const Tensor& parameter) { inputs.push_back(parameter); });
  const TensorFunction function = [=](const std::vector<Tensor>& in) {
    BlockAffines own = affines;
    size_t next = 1;
    for_each_parameter(own, [&](Tensor& parameter) { parameter = in[next++]; });
    return block_forward(in[0], own, heads, rotary, attend, dropout);
  };
  return recompute(function, inputs, random);
}

}  // namespace power::model
