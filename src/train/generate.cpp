#include "train/generate.h"

#include <ATen/CPUGeneratorImpl.h>

#include <iostream>

#include "data/tokenizer.h"
#include "train/device.h"
#include "train/generation.h"
#include "train/run_state.h"

namespace power::train {

void generate_command(const GenerateOptions& options) {
  const checkpoint::Reader reader = open_checkpoint(options.checkpoint);
  const config::RunConfig config = load_config(reader);
  const torch::Device device = choose_device(options.device);
  const auto tokenizer = data::make_tokenizer(config.tokenizer);
  model::Gpt model = load_model(reader, config, device);

  SamplingOptions sampling;
  sampling.max_new_tokens = options.max_new_tokens;
  sampling.temperature = options.temperature;
  sampling.top_k = options.top_k;
  sampling.top_p = options.top_p;
  sampling.vocab_size = tokenizer->vocab_size();
  sampling.end_of_text = tokenizer->end_of_text();

  const std::vector<uint16_t> ids = tokenizer->encode(options.prompt);
  std::vector<int64_t> prompt(ids.begin(), ids.end());
  // Without a prompt a new document starts: the end of text precedes every document but the first.
  if (prompt.empty()) prompt.push_back(tokenizer->end_of_text());

  torch::Generator generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(options.seed));
  for (int64_t sample = 0; sample < options.num_samples; ++sample) {
    if (sample > 0) std::cout << "\n---------------\n";
    std::cout << options.prompt << std::flush;
    data::Utf8Stream characters;
    generate(model, prompt, sampling, generator, device, [&](int64_t token) {
      std::cout << characters.push(tokenizer->token_bytes(token)) << std::flush;
      return true;
    });
    std::cout << characters.finish() << std::flush;
  }
  std::cout << std::endl;
}

}  // namespace power::train
