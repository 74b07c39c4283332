#include "tests/kernels/emulator/emulator.h"

#include <setjmp.h>
#include <ucontext.h>

#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace power::emulator {
namespace {

constexpr int kWarp = 32;
constexpr size_t kStackBytes = 128 * 1024;
constexpr size_t kMaxShared = 227 * 1024;

struct Copy {
  uint32_t destination;
  const void* source;
  int bytes;
  bool valid;
};

struct Fiber {
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  jmp_buf place;
  bool started = false, running = false;
  std::vector<std::vector<Copy>> groups{1};  // committed copies, oldest first; the last one is still open
};

struct Warp {
  Operands lanes[kWarp];
  int arrived = 0;
  WarpInstruction instruction = nullptr;
  long generation = 0;
};

struct Block {
  std::vector<Warp> warps;
  int arrived = 0, predicates = 0, result = 0;
  long generation = 0;
};

// One grid runs at a time, on one host thread.
std::vector<Fiber> fibers;
Block block;
dim3 block_at, grid;
int threads = 0, current = 0;
const char* kernel_name = "";
const std::function<void()>* kernel = nullptr;
std::string failure;
jmp_buf scheduler;
alignas(1024) uint8_t memory[kMaxShared];
size_t memory_bytes = 0;
size_t most_shared = 0;

void yield() {
  if (_setjmp(fibers[current].place) == 0) _longjmp(scheduler, 1);
}

// Ends the grid: the scheduler throws, this fiber never resumes.
void stop(const std::string& what) {
  failure = std::string(kernel_name) + ", thread " + std::to_string(current) + ": " + what;
  _longjmp(scheduler, 1);
}

void fiber_main() {
  for (;;) {
    (*kernel)();
    fibers[current].running = false;
    yield();
  }
}

void resume(int thread) {
  current = thread;
  if (_setjmp(scheduler) != 0) return;
  Fiber& fiber = fibers[thread];
  if (fiber.started) _longjmp(fiber.place, 1);
  fiber.started = true;
  static ucontext_t unused;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = fiber.stack.get();
  context.uc_stack.ss_size = kStackBytes;
  context.uc_link = nullptr;
  makecontext(&context, fiber_main, 0);
  swapcontext(&unused, &context);
}

uint8_t* shared_at(uint32_t address, size_t bytes) {
  if (address + bytes > memory_bytes || address % bytes != 0) {
    stop("bad shared-memory address " + std::to_string(address) + " of " + std::to_string(memory_bytes));
  }
  return memory + address;
}

void run_block(std::mt19937& random) {
  std::memset(memory, 0xff, sizeof memory);
  block = Block();
  block.warps.resize((threads + kWarp - 1) / kWarp);
  for (int i = 0; i < threads; ++i) {
    fibers[i].running = true;
    fibers[i].groups.assign(1, {});
  }
  std::vector<int> order(block.warps.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  long last_progress = -1;
  for (bool live = true; live;) {
    std::shuffle(order.begin(), order.end(), random);
    live = false;
    long progress = 0;
    for (int warp : order) {
      for (int turn = 0; turn < 8; ++turn) {  // a warp runs ahead of the others
        for (int i = warp * kWarp; i < std::min(threads, (warp + 1) * kWarp); ++i) {
          if (fibers[i].running) resume(i);
          if (!failure.empty()) throw std::runtime_error("emulator: " + failure);
        }
      }
      for (int i = warp * kWarp; i < std::min(threads, (warp + 1) * kWarp); ++i) {
        live |= fibers[i].running;
        progress += !fibers[i].running;
      }
      progress += block.warps[warp].generation;
    }
    progress += block.generation * threads + block.arrived;
    if (live && progress == last_progress) {
      std::string where;
      for (size_t w = 0; w < block.warps.size(); ++w) where += " " + std::to_string(block.warps[w].arrived);
      throw std::runtime_error(std::string("emulator: deadlock in ") + kernel_name + ": " +
                               std::to_string(block.arrived) + " of " + std::to_string(threads) +
                               " threads at a barrier; lanes waiting in each warp:" + where);
    }
    last_progress = progress;
  }
  for (int i = 0; i < threads; ++i) {
    if (fibers[i].groups.size() > 1 || !fibers[i].groups[0].empty()) {
      for (const auto& group : fibers[i].groups) {
        if (!group.empty()) {
          throw std::runtime_error(std::string("emulator: asynchronous copies never waited for in ") + kernel_name);
        }
      }
    }
  }
}

}  // namespace

dim3 thread_index() { return dim3(current); }
dim3 block_index() { return block_at; }
dim3 grid_size() { return grid; }
uint8_t* shared_memory() { return memory; }

size_t take_most_shared_memory() { return std::exchange(most_shared, 0); }

void run_grid(const char* name, dim3 size, int block_threads, size_t shared_bytes, const std::function<void()>& body) {
  if (shared_bytes > kMaxShared) throw std::runtime_error(std::string("emulator: too much shared memory in ") + name);
  most_shared = std::max(most_shared, shared_bytes);
  kernel_name = name;
  kernel = &body;
  grid = size;
  threads = block_threads;
  memory_bytes = shared_bytes;
  failure.clear();
  if (fibers.size() < static_cast<size_t>(threads)) fibers.resize(threads);
  std::mt19937 random(1);
  try {
    for (unsigned y = 0; y < size.y; ++y) {
      for (unsigned x = 0; x < size.x; ++x) {
        block_at = dim3(x, y);
        run_block(random);
      }
    }
  } catch (...) {
    fibers.clear();  // some stand in the middle of the kernel
    throw;
  }
}

Operands warp_instruction(WarpInstruction instruction, const Operands& mine) {
  Warp& warp = block.warps[current / kWarp];
  const int lane = current % kWarp;
  if (warp.arrived > 0 && warp.instruction != instruction) stop("lanes of a warp wait for different instructions");
  warp.instruction = instruction;
  warp.lanes[lane] = mine;
  const long generation = warp.generation;
  if (++warp.arrived == kWarp) {
    instruction(warp.lanes);
    warp.arrived = 0;
    ++warp.generation;
  } else {
    while (warp.generation == generation) yield();
  }
  return warp.lanes[lane];
}

namespace {

void load_matrices(Operands* lanes, bool transposed) {
  for (int matrix = 0; matrix < 4; ++matrix) {
    uint16_t element[8][8];
    for (int row = 0; row < 8; ++row) std::memcpy(element[row], shared_at(lanes[8 * matrix + row].in[0], 16), 16);
    for (int lane = 0; lane < kWarp; ++lane) {
      const int row = lane / 4, column = 2 * (lane % 4);
      const uint16_t low = transposed ? element[column][row] : element[row][column];
      const uint16_t high = transposed ? element[column + 1][row] : element[row][column + 1];
      lanes[lane].out[matrix] = low | static_cast<uint32_t>(high) << 16;
    }
  }
}

float half_of(uint32_t pair, int index) { return index ? kernels::bf16_high(pair) : kernels::bf16_low(pair); }

}  // namespace

void ldmatrix(Operands* lanes) { load_matrices(lanes, false); }
void ldmatrix_trans(Operands* lanes) { load_matrices(lanes, true); }

void mma_m16n8k16(Operands* lanes) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < kWarp; ++lane) {
    const int g = lane / 4, q = lane % 4;
    for (int i = 0; i < 2; ++i) {
      for (int part = 0; part < 4; ++part) {
        a[g + 8 * (part % 2)][2 * q + i + 8 * (part / 2)] = half_of(lanes[lane].in[part], i);
      }
      for (int part = 0; part < 2; ++part) b[2 * q + i + 8 * part][g] = half_of(lanes[lane].in[4 + part], i);
    }
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      lanes[lane].out[i] = kernels::float_bits(sum);
    }
  }
}

namespace {

float tf32(uint32_t bits) { return kernels::bits_float(bits & 0xffffe000u); }

double power_of_two(int exponent) {
  const uint64_t bits = static_cast<uint64_t>(1023 + exponent) << 52;
  double x;
  std::memcpy(&x, &bits, 8);
  return x;
}

// The sum of nine terms as tensor cores form it: terms are cut two bits below the last bit of the largest, the sum is
// cut to float32.
float sum_towards_zero(const double (&terms)[9]) {
  double largest = 0, plain = 0;
  for (double term : terms) {
    largest = std::max(largest, std::fabs(term));
    plain += term;
  }
  if (largest < 1e-60) return 0;
  if (!std::isfinite(plain)) return static_cast<float>(plain);
  uint64_t bits;
  std::memcpy(&bits, &largest, 8);
  const int unit = static_cast<int>(bits >> 52) - 1023 - 25;
  const double scale = power_of_two(-unit);
  int64_t sum = 0;
  for (double term : terms) sum += static_cast<int64_t>(term * scale);
  uint64_t size = static_cast<uint64_t>(std::abs(sum)), mask = 0;
  while (size >> 24 > 0) size >>= 1, mask = mask << 1 | 1;
  sum = sum < 0 ? -static_cast<int64_t>(static_cast<uint64_t>(-sum) & ~mask)
                : static_cast<int64_t>(static_cast<uint64_t>(sum) & ~mask);
  return static_cast<float>(static_cast<double>(sum) * power_of_two(unit));
}

}  // namespace

void mma_m16n8k8_tf32(Operands* lanes) {
  float a[16][8], b[8][8];
  for (int lane = 0; lane < kWarp; ++lane) {
    const int g = lane / 4, q = lane % 4;
    for (int part = 0; part < 4; ++part) a[g + 8 * (part % 2)][q + 4 * (part / 2)] = tf32(lanes[lane].in[part]);
    for (int part = 0; part < 2; ++part) b[q + 4 * part][g] = tf32(lanes[lane].in[4 + part]);
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      double terms[9];
      for (int k = 0; k < 8; ++k) terms[k] = double{a[row][k]} * b[k][column];
      terms[8] = kernels::bits_float(lanes[lane].in[6 + i]);
      lanes[lane].out[i] = kernels::float_bits(sum_towards_zero(terms));
    }
  }
}

void shuffle_xor(Operands* lanes) {
  for (int lane = 0; lane < kWarp; ++lane) lanes[lane].out[0] = lanes[(lane ^ lanes[lane].in[1]) % kWarp].in[0];
}

void shuffle_up(Operands* lanes) {
  for (int lane = 0; lane < kWarp; ++lane) {
    const int source = lane - static_cast<int>(lanes[lane].in[1]);
    lanes[lane].out[0] = lanes[source < 0 ? lane : source].in[0];
  }
}

void shuffle_from(Operands* lanes) {
  for (int lane = 0; lane < kWarp; ++lane) lanes[lane].out[0] = lanes[lanes[lane].in[1] % kWarp].in[0];
}

void copy_async(uint32_t destination, const void* source, int bytes, bool valid) {
  std::memset(shared_at(destination, bytes), 0xff, bytes);
  if (reinterpret_cast<uintptr_t>(source) % bytes != 0)
    stop("cp.async from an address that is no multiple of its size");
  fibers[current].groups.back().push_back({destination, source, bytes, valid});
}

void commit_copies() { fibers[current].groups.emplace_back(); }

void wait_copies(int pending_groups) {
  auto& groups = fibers[current].groups;
  while (static_cast<int>(groups.size()) - 1 > pending_groups) {
    for (const Copy& copy : groups.front()) {
      uint8_t* to = shared_at(copy.destination, copy.bytes);
      if (copy.valid) {
        std::memcpy(to, copy.source, copy.bytes);
      } else {
        std::memset(to, 0, copy.bytes);
      }
    }
    groups.erase(groups.begin());
  }
}

int barrier(bool predicate) {
  const long generation = block.generation;
  block.predicates += predicate;
  if (++block.arrived == threads) {
    block.result = block.predicates;
    block.arrived = block.predicates = 0;
    ++block.generation;
  } else {
    while (block.generation == generation) yield();
  }
  return block.result;
}

}  // namespace power::emulator
