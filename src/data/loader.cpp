#include "data/loader.h"

#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.h"

namespace power::data {
namespace {

// Batches ready ahead of the step: one covers the jitter of reading, the others a slow disk's hiccups.
constexpr size_t kDepth = 3;

}  // namespace

struct Loader::Impl {
  struct Ready {
    torch::Tensor pair;                // (2, batch_size, seq_len): tokens, targets
    std::optional<c10::Event> copied;  // the end of the copy to the device
  };

  std::shared_ptr<const Dataset> dataset;
  Sampler sampler;
  LoaderOptions options;
  std::optional<c10::Stream> copy_stream;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Ready> ready;
  std::exception_ptr error;
  bool stop = false;
  double wait_seconds = 0;
  std::thread thread;

  Impl(std::shared_ptr<const Dataset> data, const Sampler& order, const LoaderOptions& opt)
      : dataset(std::move(data)), sampler(order), options(opt) {}

  Ready make(int64_t micro_step) const {
    const int64_t batch = options.batch_size, length = options.seq_len;
    const bool on_cpu = options.device.is_cpu();
    torch::Tensor host =
        torch::empty({2, batch, length}, torch::TensorOptions().dtype(torch::kInt64).pinned_memory(!on_cpu));
    int64_t* tokens = host.data_ptr<int64_t>();
    int64_t* targets = tokens + batch * length;
    std::vector<int64_t> window(static_cast<size_t>(length + 1));
    const int64_t first = options.first_sample + (micro_step * options.world_size + options.rank) * batch;
    for (int64_t b = 0; b < batch; ++b) {
      dataset->copy(sampler.first_token(first + b), length + 1, window.data());
      std::copy(window.begin(), window.end() - 1, tokens + b * length);
      std::copy(window.begin() + 1, window.end(), targets + b * length);
    }
    if (on_cpu) return {host, std::nullopt};
    // On a stream of its own, so that the copy runs beside the step. The pinned buffer goes back to LibTorch's cache,
    // which hands it out again only after the copy.
    const c10::StreamGuard guard(*copy_stream);
    torch::Tensor device = host.to(options.device, /*non_blocking=*/true);
    c10::Event copied(options.device.type());
    copied.record(*copy_stream);
    return {device, std::move(copied)};
  }

  void run() noexcept {
    for (int64_t micro_step = 0;; ++micro_step) {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return stop || ready.size() < kDepth; });
      if (stop) return;
      lock.unlock();
      try {
        Ready made = make(micro_step);
        lock.lock();
        ready.push_back(std::move(made));
      } catch (...) {
        if (!lock.owns_lock()) lock.lock();
        error = std::current_exception();
        changed.notify_all();
        return;
      }
      lock.unlock();
      changed.notify_all();
    }
  }
};

Loader::Loader(std::shared_ptr<const Dataset> dataset, const Sampler& sampler, const LoaderOptions& options)
    : impl_(std::make_unique<Impl>(std::move(dataset), sampler, options)) {
  require(options.seq_len == sampler.seq_len(), ErrorKind::kRuntime, "the loader reads windows of ", options.seq_len,
          " tokens, the sampler orders windows of ", sampler.seq_len());
  require(options.batch_size >= 1 && options.world_size >= 1 && options.rank >= 0 &&
              options.rank < options.world_size && options.first_sample >= 0,
          ErrorKind::kRuntime, "loader: batch ", options.batch_size, ", rank ", options.rank, " of ",
          options.world_size, ", first sample ", options.first_sample);
  if (!options.device.is_cpu()) {
    const c10::impl::VirtualGuardImpl device(options.device.type());
    if (!impl_->options.device.has_index()) impl_->options.device = device.getDevice();
    impl_->copy_stream = device.getStreamFromGlobalPool(impl_->options.device);
  }
  impl_->thread = std::thread([impl = impl_.get()] { impl->run(); });
}

Loader::~Loader() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stop = true;
  }
  impl_->changed.notify_all();
  impl_->thread.join();
}

Batch Loader::next() {
  const auto start = std::chrono::steady_clock::now();
  std::unique_lock lock(impl_->mutex);
  impl_->changed.wait(lock, [&] { return !impl_->ready.empty() || impl_->error; });
  impl_->wait_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (impl_->ready.empty()) std::rethrow_exception(impl_->error);  // batches made before the error are still given out
  Impl::Ready made = std::move(impl_->ready.front());
  impl_->ready.pop_front();
  lock.unlock();
  impl_->changed.notify_all();
  if (made.copied) {
    const c10::impl::VirtualGuardImpl device(impl_->options.device.type());
    const c10::Stream current = device.getStream(impl_->options.device);
    made.copied->block(current);
    made.pair.record_stream(current);  // its memory is not reused before the step's kernels have read it
  }
  return {made.pair[0], made.pair[1]};
}

double Loader::take_wait_seconds() {
  const std::lock_guard lock(impl_->mutex);
  return std::exchange(impl_->wait_seconds, 0.0);
}

}  // namespace power::data
