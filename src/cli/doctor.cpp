#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/environment.h"
#include "core/format.h"
#include "core/str.h"
#include "core/version.h"

namespace power::cli {
namespace {

namespace fs = std::filesystem;

enum class State { kOk, kNote, kProblem };

struct Check {
  std::string name;
  State state = State::kOk;
  std::string found;
  std::string advice;  // what to do; empty where all is well
};

const char* state_word(State state) { return state == State::kOk ? "ok" : state == State::kNote ? "note" : "problem"; }

Check check_libtorch(const Environment& environment) {
  Check check{"libtorch", State::kOk, environment.libtorch_version + " in " + environment.libtorch_path, ""};
  if (environment.libtorch_version.rfind(POWERTRAIN_LIBTORCH_VERSION, 0) != 0) {
    check.state = State::kProblem;
    check.advice = str("the program was built with ", POWERTRAIN_LIBTORCH_VERSION,
                       ": point POWERTRAIN_LIBTORCH at that version, or build again with this one");
  } else if (const char* wanted = std::getenv("POWERTRAIN_LIBTORCH")) {
    std::error_code error;
    if (!fs::equivalent(wanted, environment.libtorch_path, error)) {
      check.state = State::kNote;
      check.advice = str("POWERTRAIN_LIBTORCH names ", wanted,
                         ": it takes effect in the installed program (cmake --install) and when building");
    }
  }
  return check;
}

// Code for an architecture runs on later chips of the same major version; PTX (80) is compiled for all later ones.
bool is_covered(const Environment& environment, const Gpu& gpu) {
  return std::any_of(environment.architectures.begin(), environment.architectures.end(),
                     [&](int architecture) { return architecture <= gpu.capability; });
}

std::vector<Check> check_gpus(const Environment& environment) {
  if (environment.gpus.empty()) {
    const char* advice = environment.cuda_version.empty()
                             ? "for a machine with a GPU: cmake --preset cuda, and build again"
                             : "with a GPU in this machine: install or update NVIDIA's driver, and see that nvidia-smi "
                               "lists it; without one the program trains on the CPU";
    return {{"gpu", State::kNote, environment.gpu_problem, advice}};
  }
  std::vector<Check> checks;
  for (size_t index = 0; index < environment.gpus.size(); ++index) {
    const Gpu& gpu = environment.gpus[index];
    Check check{str("gpu ", index), State::kOk,
                str(gpu.name, ", ", format_bytes(static_cast<double>(gpu.memory)), ", compute capability ",
                    gpu.capability / 10, ".", gpu.capability % 10),
                ""};
    if (!is_covered(environment, gpu)) {
      check.state = State::kProblem;
      check.advice =
          str("the kernels are not compiled for it: configure with -DCMAKE_CUDA_ARCHITECTURES=", gpu.capability,
              " and build again");
    }
    checks.push_back(check);
  }
  return checks;
}

Check check_threads(const Environment& environment) {
  Check check{"cpu", State::kOk, str("cores ", environment.cores, ", threads ", environment.threads), ""};
  if (environment.threads > environment.cores) {
    check.state = State::kNote;
    check.advice = str("more threads than cores slow each other down: set OMP_NUM_THREADS=", environment.cores);
  }
  return check;
}

Check check_space(const std::string& name, int64_t available, double wanted, const char* advice) {
  Check check{name, State::kOk, format_bytes(static_cast<double>(available)) + " free", ""};
  if (static_cast<double>(available) < wanted) {
    check.state = State::kNote;
    check.advice = advice;
  }
  return check;
}

std::vector<Check> run_checks(const Environment& environment) {
  std::vector<Check> checks = {
      {"program", State::kOk, str("powertrain ", POWERTRAIN_VERSION, " (", environment.commit, ")"), ""},
      check_libtorch(environment),
      {"cuda", environment.cuda_version.empty() ? State::kNote : State::kOk,
       environment.cuda_version.empty() ? "this build runs on the CPU only"
                                        : str("CUDA ", environment.cuda_version, ", NCCL ", environment.nccl_version),
       ""}};
  for (Check& check : check_gpus(environment)) checks.push_back(std::move(check));
  checks.push_back(check_threads(environment));
  constexpr double kGiB = 1024.0 * 1024 * 1024;
  // GPT-2 124M: 2 GB of weights, gradients and optimizer state; three checkpoints of 1.5 GB.
  checks.push_back(check_space("memory", environment.memory_available, 2 * kGiB,
                               "enough for the tiny configurations only; close other programs"));
  checks.push_back(check_space("disk", environment.disk_available, 5 * kGiB,
                               "checkpoints of GPT-2 124M take 1.5 GB each: free space, or choose another --out_dir"));
  return checks;
}

int run_doctor(const Arguments& arguments) {
  const std::vector<Check> checks = run_checks(inspect_environment());
  const bool problem =
      std::any_of(checks.begin(), checks.end(), [](const Check& check) { return check.state == State::kProblem; });
  if (arguments.has("json")) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const Check& check : checks) {
      list.push_back(
          {{"name", check.name}, {"state", state_word(check.state)}, {"found", check.found}, {"advice", check.advice}});
    }
    std::cout << nlohmann::ordered_json{{"ok", !problem}, {"checks", list}}.dump(2) << "\n";
  } else {
    for (const Check& check : checks) {
      std::string name = check.name;
      name.resize(std::max<size_t>(name.size(), 10), ' ');
      std::string state = state_word(check.state);
      state.resize(8, ' ');
      std::cout << state << name << check.found << "\n";
      if (!check.advice.empty()) std::cout << "          -> " << check.advice << "\n";
    }
  }
  return problem ? 1 : 0;
}

}  // namespace

Command doctor_command() {
  return {.name = "doctor",
          .summary = "what this machine has, what is missing, what to do; exit code 1 where something is broken",
          .options = {json_option()},
          .examples = {"powertrain doctor", "powertrain doctor --json"},
          .run = run_doctor};
}

}  // namespace power::cli
