#pragma once

#include <string>

#include "checkpoint/checkpoint.h"
#include "core/str.h"

namespace power::checkpoint {

// A small checkpoint whose every value is a function of the step.
inline Contents example_contents(int64_t step, int64_t rows = 33) {
  const auto fill = [&](at::IntArrayRef shape, int64_t salt) {
    const int64_t count = c10::multiply_integers(shape);
    return (torch::arange(count, torch::kFloat32) + static_cast<double>(1000 * step + salt)).reshape(shape);
  };
  Contents contents;
  contents.step = step;
  contents.tensor_files = {
      {"model.safetensors", {{"wte.weight", fill({rows, 7}, 1)}, {"ln.weight", fill({7}, 2)}}, {{"format", "pt"}}},
      {"optimizer.safetensors", {{"wte.weight.exp_avg", fill({rows, 7}, 3)}, {"step", torch::full({}, step)}}, {}}};
  contents.text_files = {{"state.json", str("{\"step\": ", step, "}\n")}, {"config.yaml", "n_layer: 2\n"}};
  contents.summary = {{"tokens", 1000 * step}};
  return contents;
}

// Every byte of the checkpoint is that of example_contents(reader.step()).
inline bool is_example(const Reader& reader, int64_t rows = 33) {
  for (const TensorFile& file : example_contents(reader.step(), rows).tensor_files) {
    const std::vector<NamedTensor> read = reader.read_tensors(file.name);
    if (read.size() != file.tensors.size()) return false;
    for (const NamedTensor& named : file.tensors) {
      bool same = false;
      for (const NamedTensor& other : read)
        same = same || (other.name == named.name && other.tensor.equal(named.tensor));
      if (!same) return false;
    }
  }
  return reader.read_text("state.json") == str("{\"step\": ", reader.step(), "}\n");
}

}  // namespace power::checkpoint
