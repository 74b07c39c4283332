#include "config/load.h"

#include <gtest/gtest.h>

#include <fstream>

#include "config/schema.h"
#include "config/value.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace power::config {
namespace {

using test::expect_error;

std::string write(const test::TempFolder& folder, const std::string& text) {
  const std::string path = (folder.path() / "f.yaml").string();
  std::ofstream(path) << text;
  return path;
}

Assignment flag(const std::string& key, const std::string& value) {
  return {key, value, {Source::kCommandLine, "--" + key}};
}

// A configuration in which no key has its default.
RunConfig unusual() {
  return from_yaml(
      "dataset: 'my data'\ndata_root: /tmp/x\ntokenizer: bytes\nverify_data: 'off'\nn_layer: 3\nn_head: 2\nn_embd: 48\n"
      "head_size: 16\nqhead_ratio: 2\nattention_kernel: [power, sdpa, power]\ndegree: 4\nchunk_size: 128\n"
      "disable_gating: True\nnormalize: layer\ndropout: 0.1\nbias: True\nblock_size: 77\nrecompute: True\n"
      "batch_size: 5\ngradient_accumulation_steps: 3\nmax_iters: 11\nlearning_rate: 0.0003333333333333333\n"
      "min_lr: 1e-7\nlr_schedule: wsd\nwarmup_iters: 2\nlr_decay_iters: 9\ndecay_lr: False\nweight_decay: 0.05\n"
      "beta1: 0.8\nbeta2: 0.999\ngrad_clip: 0\nout_dir: 'runs/a: b'\ninit_from: resume\nresume: auto\n"
      "eval_only: True\nalways_save_checkpoint: False\neval_interval: 7\neval_iters: 3\nlog_interval: 2\n"
      "save_interval: 4\nkeep_last: 9\ntime_limit: 1.5\ntensorboard: False\ndevice: cuda:1\ndtype: float16\nseed: 5\n"
      "deterministic: True\n",
      "unusual.yaml");
}

TEST(Load, LaterSourcesWinAndOriginsAreKept) {
  const test::TempFolder folder;
  const std::string path = write(folder, "seed: 1\nn_layer: 2\n\nbatch_size: 3\n");
  std::vector<Assignment> all = {flag("seed", "9")};  // the order of the list does not matter, the source does
  for (const auto& more : {read_file_assignments(path), [] {
                             const char* environment[] = {"HOME=/root", "POWERTRAIN_SEED=8", "POWERTRAIN_BATCH_SIZE=4",
                                                          "POWERTRAIN_LIBTORCH=/x", nullptr};
                             return read_environment_assignments(environment);
                           }()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  const Resolved resolved = resolve(all);
  EXPECT_EQ(resolved.config.seed, 9);
  EXPECT_EQ(resolved.config.batch_size, 4);
  EXPECT_EQ(resolved.config.n_layer, 2);
  EXPECT_EQ(resolved.config.n_head, RunConfig{}.n_head);
  EXPECT_EQ(resolved.origins.at("seed").where, "--seed");
  EXPECT_EQ(resolved.origins.at("batch_size").where, "POWERTRAIN_BATCH_SIZE");
  EXPECT_EQ(resolved.origins.at("n_layer").where, path + ":2");
  EXPECT_EQ(resolved.origins.at("n_head").where, "default");
  EXPECT_TRUE(resolved.warnings.empty());
  const std::string shown = to_yaml_with_origins(resolved);
  EXPECT_NE(shown.find("# " + path + ":2\n"), std::string::npos) << shown;
  EXPECT_EQ(to_yaml(from_yaml(shown, "shown")), to_yaml(resolved.config));
}

TEST(Load, MessagesNameTheOriginAndTheNearestKey) {
  const test::TempFolder folder;
  const std::string path = write(folder, "n_layer: 2\nbatchsize: 3\n");
  expect_error(ErrorKind::kUsage, path + ":2: unknown key 'batchsize'; the nearest is 'batch_size'",
               [&] { resolve(read_file_assignments(path)); });
  expect_error(ErrorKind::kUsage, "--set n_layers: unknown key 'n_layers'; the nearest is 'n_layer'", [] {
    resolve({{"n_layers", "1", {Source::kCommandLine, "--set n_layers"}}});
  });
  expect_error(ErrorKind::kUsage, "POWERTRAIN_BATCHSIZE: unknown key 'batchsize'; the nearest is 'batch_size'", [] {
    const char* environment[] = {"POWERTRAIN_BATCHSIZE=4", nullptr};
    resolve(read_environment_assignments(environment));
  });
  expect_error(ErrorKind::kUsage, "f.yaml:2: n_layer: '010' is not valid",
               [] { from_yaml("seed: 1\nn_layer: 010\n", "f.yaml"); });
  expect_error(ErrorKind::kUsage, "f.yaml:1: bias: 'yes' is not valid", [] { from_yaml("bias: yes\n", "f.yaml"); });
  expect_error(ErrorKind::kUsage, "f.yaml:1: seed: '[1, 2]' is not valid",
               [] { from_yaml("seed: [1, 2]\n", "f.yaml"); });
  expect_error(ErrorKind::kUsage, "--learning_rate: '1e-3x' is not valid",
               [] { resolve({flag("learning_rate", "1e-3x")}); });
  expect_error(ErrorKind::kUsage, "--seed: 'seed' is set twice, first by --set seed", [] {
    resolve({{"seed", "1", {Source::kCommandLine, "--set seed"}}, flag("seed", "2")});
  });
  expect_error(ErrorKind::kUsage, "nowhere.yaml: cannot be opened", [] { read_file_assignments("nowhere.yaml"); });
  expect_error(ErrorKind::kUsage, "not a regular file", [&] { read_file_assignments(folder.path().string()); });
}

TEST(Load, ALineForTheOlderTrainerPastes) {
  const Resolved resolved = resolve(
      {flag("batch_size", "8"), flag("compile", "False"), flag("attention_kernel", "power"), flag("chunk_size", "1024"),
       flag("wandb_project", "None"), flag("eval_slowdown_factor", "1.2"), flag("decay_lr", "True")});
  EXPECT_EQ(resolved.config.batch_size, 8);
  EXPECT_EQ(resolved.config.chunk_size, "1024");
  ASSERT_EQ(resolved.warnings.size(), 1u);
  for (const char* name : {"compile", "wandb_project", "eval_slowdown_factor"}) {
    EXPECT_NE(resolved.warnings[0].find(name), std::string::npos) << resolved.warnings[0];
  }
  EXPECT_EQ(resolved.warnings[0].find("decay_lr"), std::string::npos) << "it has an effect";
}

TEST(Load, StoredConfigurationReadsBackWhole) {
  const RunConfig config = unusual();
  const RunConfig defaults;
  for (const Key& key : schema()) {
    if (key.name == "overwrite" || key.name == "disable_eval") continue;  // they contradict other keys
    EXPECT_NE(get_value(config, key), get_value(defaults, key)) << key.name;
  }
  const RunConfig again = from_yaml(to_yaml(config), "stored");
  for (const Key& key : schema()) EXPECT_EQ(get_value(again, key), get_value(config, key)) << key.name;
  EXPECT_EQ(again.learning_rate, config.learning_rate) << "bit for bit";
}

}  // namespace
}  // namespace power::config
