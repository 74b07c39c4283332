#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>

#include "data/dataset.h"
#include "data/sampler.h"

namespace power::data {

struct Batch {
  torch::Tensor tokens;   // (batch_size, seq_len) int64 on the device
  torch::Tensor targets;  // the same, one token later
};

struct LoaderOptions {
  int64_t batch_size = 1;  // windows per micro-step of this rank
  int64_t seq_len = 1024;
  int64_t rank = 0;
  int64_t world_size = 1;
  int64_t first_sample = 0;  // samples consumed so far, over all ranks: the whole state of the loader
  torch::Device device = torch::kCPU;
};

// Micro-step m (0, 1, ...) of rank r reads samples first_sample + (m * world_size + r) * batch_size + [0, batch_size).
// A thread prepares batches ahead in pinned memory and copies them asynchronously; an error there (a vanished file)
// is thrown by next().
class Loader {
 public:
  Loader(std::shared_ptr<const Dataset> dataset, const Sampler& sampler, const LoaderOptions& options);
  ~Loader();

  Batch next();
  // Seconds next() spent waiting since the last call of this function.
  double take_wait_seconds();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace power::data
