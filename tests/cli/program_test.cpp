#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "core/file.h"
#include "core/version.h"
#include "tests/cli/run_program.h"
#include "tests/cli/tiny_train.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

// The built program, as a user meets it.
namespace power::cli {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::ProgramResult;
using test::run_program;
using test::Words;

// Exit code, the message on stderr, nothing on stdout.
void expect_failure(const Words& arguments, int exit_code, const std::string& message,
                    const test::ProgramOptions& options = {}) {
  std::string line;
  for (const std::string& argument : arguments) line += " " + argument;
  SCOPED_TRACE("powertrain" + line);
  const ProgramResult result = run_program(arguments, options);
  EXPECT_EQ(result.exit_code, exit_code) << result.err;
  EXPECT_PRED2(contains, result.err, message);
  EXPECT_EQ(result.out, "");
}

TEST(Program, BadCommandLinesEndWithTwoAndSayWhatToDo) {
  expect_failure({}, 2, "no command given");
  expect_failure({"trian"}, 2, "unknown command 'trian'; the nearest is 'train' (`powertrain --help` lists all)");
  expect_failure({"genrate", "--prompt", "x"}, 2, "the nearest is 'generate'");
  expect_failure({"--config", "x"}, 2, "unknown command '--config'");
  expect_failure({"--verison"}, 2, "the nearest is '--version'");
  expect_failure({"version"}, 2, "the nearest is '--version'");
  expect_failure({"train", "--batchsize=8"}, 2, "unknown option --batchsize; the nearest is --batch_size");
  expect_failure({"train", "--nproc=2"}, 2, "unknown option --nproc");
  expect_failure({"train", "--set", "batchsize=8"}, 2, "unknown key 'batchsize'; the nearest is 'batch_size'");
  expect_failure({"train", "--set", "seed"}, 2, "--set seed: write --set KEY=VALUE");
  expect_failure({"train", "--n_layer=08"}, 2, "--n_layer: '08' is not valid (a leading zero");
  expect_failure({"train", "--learning_rate", "1e-3x"}, 2, "--learning_rate: '1e-3x' is not valid; use a number > 0");
  expect_failure({"train", "--n_layer", "two"}, 2, "--n_layer: 'two' is not valid; use a whole number >= 1");
  expect_failure({"train", "--n_layer", "0"}, 2, "--n_layer: '0' is not valid");
  expect_failure({"train", "--bias", "yes"}, 2, "--bias: 'yes' is not valid; use True or False");
  expect_failure({"train", "--bias", "False", "False"}, 2, "unexpected word 'False'");
  expect_failure({"train", "--seed=1", "--seed=2"}, 2, "--seed is given twice");
  expect_failure({"train", "--seed=1", "--set", "seed=2"}, 2, "'seed' is set twice");
  expect_failure({"train", "--attention_kernel=power,flash"}, 2, "'power,flash' is not valid; use power or sdpa");
  expect_failure({"train", "configs/tiny_cpu.yaml"}, 2, "given by --config configs/tiny_cpu.yaml");
  expect_failure({"train", "--config", "nowhere.yaml"}, 2, "nowhere.yaml: cannot be opened");
  expect_failure({"train", "--head_size=33"}, 2, "head_size 33 is odd");
  expect_failure({"eval"}, 2, "--checkpoint is missing: --checkpoint DIR");
  expect_failure({"eval", "--checkpoint"}, 2, "--checkpoint needs a value");
  expect_failure({"eval", "--checkpoint=x", "--max_tokens=1e3"}, 2, "--max_tokens=1e3: use a whole number >= 1");
  expect_failure({"generate", "--checkpoint", "x"}, 2, "--prompt is missing");
  expect_failure({"generate", "--checkpoint=x", "--prompt=y", "--top_p=2"}, 2, "--top_p=2: use a number >= 0 and <= 1");
  expect_failure({"plot"}, 2, "RUN... is missing");
  expect_failure({"bench", "operator", "--shape", "1,2"}, 2, "--shape 1,2: write batch, length, heads");
  expect_failure({"bench", "operator", "--svg", "x.svg"}, 2, "--svg draws tokens/s over the context: add --contexts");
  expect_failure({"completion", "tcsh"}, 2, "use bash, zsh or fish");
}

TEST(Program, BadFilesAndVariablesNameThePlace) {
  const test::TempFolder folder;
  const std::string file = (folder.path() / "run.yaml").string();
  const auto expect_bad = [&](const std::string& text, const std::string& message) {
    std::ofstream(file) << text << "out_dir: " << (folder.path() / "run").string() << "\n";
    expect_failure({"train", "--config", file}, 2, file + message);
  };
  expect_bad("n_layer: 2\nbatchsize: 8\n", ":2: unknown key 'batchsize'; the nearest is 'batch_size'");
  expect_bad("seed: 1\nseed: 2\n", ":2: 'seed' is set twice, first in line 1");
  expect_bad("n_layer: 010\n", ":1: n_layer: '010' is not valid");
  expect_bad("bias: yes\n", ":1: bias: 'yes' is not valid; use True or False");
  expect_bad("learning_rate: 1e-3x\n", ":1: learning_rate: '1e-3x' is not valid");
  expect_bad("batch_size: &a 8\ngradient_accumulation_steps: *a\n", ":1: anchors are not read");
  expect_bad("model:\n  n_layer: 2\n", ":2: a mapping inside the mapping");
  expect_bad(std::string(size_t{1} << 20, '#') + "\n", ": 1048");
  EXPECT_FALSE(fs::exists(folder.path() / "run")) << "nothing is touched";
  expect_failure({"train"}, 2, "POWERTRAIN_SEED: seed: '1x' is not valid",
                 {.environment = {{"POWERTRAIN_SEED", "1x"}}});
  expect_failure({"train"}, 2, "POWERTRAIN_SEDE: unknown key 'sede'; the nearest is 'seed'",
                 {.environment = {{"POWERTRAIN_SEDE", "1"}}});
}

TEST(Program, PrintConfigShowsValuesAndOrigins) {
  const test::TempFolder folder;
  const std::string file = (folder.path() / "run.yaml").string();
  std::ofstream(file) << "n_layer: 2\nbatch_size: 3\nseed: 1\n";
  const ProgramResult result = run_program({"train", "--config", file, "--seed", "3", "--print-config"},
                                           {.environment = {{"POWERTRAIN_BATCH_SIZE", "4"}, {"POWERTRAIN_SEED", "2"}}});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  const auto expect_line = [&](const std::string& value, const std::string& origin) {
    const size_t begin = result.out.find(value + " ");
    ASSERT_NE(begin, std::string::npos) << value << "\n" << result.out;
    const std::string line = result.out.substr(begin, result.out.find('\n', begin) - begin);
    EXPECT_PRED2(contains, line, "# " + origin);
  };
  expect_line("n_layer: 2", file + ":1");
  expect_line("batch_size: 4", "POWERTRAIN_BATCH_SIZE");
  expect_line("seed: 3", "--seed");
  expect_line("n_head: 12", "default");
  EXPECT_FALSE(fs::exists("runs/default"));
}

TEST(Program, ALineForTheOlderTrainerPastes) {
  const ProgramResult result = run_program({"train",
                                            "--batch_size=32",
                                            "--compile=False",
                                            "--attention_kernel=power",
                                            "--degree=2",
                                            "--chunk_size",
                                            "None",
                                            "--disable_gating=False",
                                            "--head_size=64",
                                            "--qhead_ratio=1",
                                            "--eval_slowdown_factor=1.2",
                                            "--log_space=True",
                                            "--run_name=x",
                                            "--disable_logging=True",
                                            "--wandb_project=None",
                                            "--backend=nccl",
                                            "--dtype=bfloat16",
                                            "--always_save_checkpoint=True",
                                            "--decay_lr=True",
                                            "--print-config"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_PRED2(contains, result.out, "batch_size: 32 ");
  EXPECT_PRED2(contains, result.out, "chunk_size: None ");
  EXPECT_EQ(result.err.rfind("warning: accepted without effect: compile", 0), 0u) << result.err;
  EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << "one line: " << result.err;
  for (const char* name :
       {"compile", "eval_slowdown_factor", "log_space", "run_name", "disable_logging", "wandb_project", "backend"}) {
    EXPECT_PRED2(contains, result.err, name);
  }
  EXPECT_FALSE(contains(result.err, "decay_lr"));
}

TEST(Program, HelpListsWhatIsThere) {
  for (const Words& words : {Words{"--help"}, Words{"-h"}, Words{"help"}}) {
    const ProgramResult result = run_program(words);
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.err, "");
    EXPECT_EQ(result.out, program_help());
  }
  for (const Command& command : commands()) {
    SCOPED_TRACE(command.name);
    Words words;
    std::istringstream name(command.name);
    for (std::string word; name >> word;) words.push_back(word);
    words.push_back("--help");
    const ProgramResult result = run_program(words);
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.out, command_help(command));
    EXPECT_PRED2(contains, result.out, "Examples:");
  }
  EXPECT_FALSE(contains(program_help(), " plan ")) << "is not there yet";
  expect_failure({"plan"}, 2, "unknown command 'plan'");
}

TEST(Program, VersionNamesWhatItWasBuiltWith) {
  const ProgramResult result = run_program({"--version"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out.rfind("powertrain " POWERTRAIN_VERSION " (", 0), 0u) << result.out;
  for (const char* part : {"LibTorch   " POWERTRAIN_LIBTORCH_VERSION, "CUDA       ", "NCCL       ", "archs      "}) {
    EXPECT_PRED2(contains, result.out, part);
  }
}

TEST(Program, DoctorReportsThisMachine) {
  const ProgramResult result = run_program({"doctor", "--json"});
  const nlohmann::json report = nlohmann::json::parse(result.out);
  EXPECT_EQ(result.exit_code, report.at("ok").get<bool>() ? 0 : 1);
  std::vector<std::string> names;
  for (const auto& check : report.at("checks")) {
    names.push_back(check.at("name"));
    EXPECT_NE(check.at("found").get<std::string>(), "");
    EXPECT_FALSE(check.at("state") == "problem" && check.at("advice") == "") << check;
  }
  for (const char* name : {"program", "libtorch", "cuda", "cpu", "memory", "disk"}) {
    EXPECT_NE(std::find(names.begin(), names.end(), name), names.end()) << name;
  }
  const ProgramResult text = run_program({"doctor"});
  EXPECT_PRED2(contains, text.out, POWERTRAIN_LIBTORCH_VERSION);
}

// A checkpoint copied away from its run, to a machine that has not the run's data.
TEST(Program, ACheckpointAloneIsEnough) {
  const test::TempFolder folder;
  const fs::path data = folder / "data/letters";
  std::ofstream(folder / "text.txt") << std::string(3000, 'a') + std::string(3000, 'b');
  const ProgramResult tokens = run_program(
      {"data", "tokenize", folder / "text.txt", "--tokenizer", "bytes", "--out", data, "--val_fraction", "0.01"});
  EXPECT_EQ(tokens.exit_code, 0) << tokens.err;
  EXPECT_PRED2(contains, tokens.err, "val.bin is too short to judge a model by; hold out more");
  ASSERT_EQ(run_program(test::tiny_train(folder / "run", {"--max_iters=1", "--dataset=letters",
                                                          "--data_root=" + (folder / "data").string()}))
                .exit_code,
            0);
  expect_failure({"plot", folder / "run", "--out", folder / "none/loss.svg"}, 1, "there is no folder");
  const fs::path copy = folder / "copy";
  fs::rename(folder / "run/ckpt/step-00000001", copy);
  fs::rename(data, folder / "letters");
  fs::remove_all(folder / "run");
  const ProgramResult result =
      run_program({"eval", "--checkpoint", copy, "--data", folder / "letters/val.bin", "--max_tokens", "50"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_PRED2(contains, result.out, "50 tokens, 50 bytes");
  expect_failure({"eval", "--checkpoint", copy}, 3, "or name token files with --data FILES");
  const ProgramResult text = run_program({"generate", "--checkpoint", copy, "--prompt", "a", "--max_new_tokens", "2"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_EQ(text.out.rfind("a", 0), 0u) << "the text and nothing else: " << text.out;
}

TEST(Program, OpenMpThreadsSpinBrieflyUnlessToldOtherwise) {
  const test::TempFolder folder;
  const auto spin_count = [&](const std::map<std::string, std::string>& environment) {
    const ProgramResult result =
        run_program(test::tiny_train(folder / "run", {"--max_iters=1", "--overwrite=True", test::shipped_data()}),
                    {.environment = environment});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return nlohmann::json::parse(read_file(folder / "run/env.json")).at("spin_count");
  };
  EXPECT_EQ(spin_count({{"OMP_NUM_THREADS", "2"}}), "1000");
  EXPECT_EQ(spin_count({{"OMP_NUM_THREADS", "2"}, {"GOMP_SPINCOUNT", "5"}}), "5");
  EXPECT_EQ(spin_count({{"OMP_NUM_THREADS", "2"}, {"OMP_WAIT_POLICY", "passive"}}), nullptr);
  EXPECT_EQ(spin_count({{"OMP_NUM_THREADS", "1"}}), nullptr);
}

TEST(Program, TheReferenceIsWhatDocsHolds) {
  const ProgramResult result = run_program({"train", "--print-reference"});
  EXPECT_EQ(result.out, read_file(test::source_dir() / "docs" / "configuration.md"))
      << "run: powertrain train --print-reference > docs/configuration.md";
}

TEST(Program, AClosedPipeIsQuietAndAFullDiskIsNot) {
  const ProgramResult closed = run_program({"train", "--help"}, {.closed_pipe = true});
  EXPECT_EQ(closed.exit_code, 0);
  EXPECT_EQ(closed.err, "");
  expect_failure({"train", "--help"}, 1, "stdout cannot be written: No space left", {.stdout_path = "/dev/full"});
}

// What the completion of each shell offers, asked of the shell itself.
class Completion : public testing::Test {
 protected:
  // Runs `code` in the shell; the variable `script` holds the path of its completion.
  std::string ask(const std::string& shell, const Words& options, const std::string& code) {
    const std::string script = (folder_.path() / shell).string();
    EXPECT_EQ(run_program({"completion", shell}, {.stdout_path = script}).exit_code, 0);
    Words words = options;
    words.push_back(code);
    const ProgramResult result = run_program(words, {.environment = {{"script", script}}, .program = path_of(shell)});
    EXPECT_EQ(result.err, "");
    return result.out;
  }
  static std::string path_of(const std::string& shell) {
    for (const char* folder : {"/bin/", "/usr/bin/"}) {
      if (fs::exists(folder + shell)) return folder + shell;
    }
    return "";
  }

  test::TempFolder folder_;
};

TEST_F(Completion, BashOffersCommandsKeysAndValues) {
  const auto complete = [&](const std::string& words, int index) {
    return ask("bash", {"-c"},
               "source $script; COMP_WORDS=(powertrain " + words + "); COMP_CWORD=" + std::to_string(index) +
                   "; _powertrain; echo \"${COMPREPLY[@]}\"");
  };
  EXPECT_EQ(complete("tr", 1), "train\n");
  EXPECT_EQ(complete("train --batch", 2), "--batch_size\n");
  EXPECT_EQ(complete("train --lr_schedule w", 3), "wsd\n");
  EXPECT_EQ(complete("train --lr_schedule = c", 4), "cosine\n");
  EXPECT_EQ(complete("train --bias ''", 3), "True False\n");
  EXPECT_EQ(complete("eval --check", 2), "--checkpoint\n");
}

// zsh completes only at a keyboard: a second one is typed into, by way of a pseudo-terminal.
TEST_F(Completion, ZshCompletesWhatIsTyped) {
  if (path_of("zsh").empty()) GTEST_SKIP() << "zsh is not installed";
  const std::string text = ask("zsh", {"-f", "-c"}, R"(
    folder=${script:h}/functions
    mkdir $folder && mv $script $folder/_powertrain
    zmodload zsh/zpty
    zpty typed zsh -f -i
    until_there() { local got= part; while [[ $got != *$1* ]] && zpty -r typed part; do got+=$part; done }
    zpty -w typed "fpath=($folder \$fpath); autoload -U compinit && compinit -u -D; powertrain() { print -r said: \$@ }; print rea''dy"
    until_there ready
    for line in "tr" "train --batch" "train --lr_schedule w" "train --lr_schedule=w" "data tok" "eval --check"; do
      zpty -w typed "powertrain $line"$'\t'
      zpty -r -m typed answer "*said: *"$'\n'
      print -r -- ${${answer##*said: }%%$'\r'*}
    done
    zpty -d typed)");
  EXPECT_EQ(text,
            "train\ntrain --batch_size\ntrain --lr_schedule wsd\ntrain --lr_schedule=wsd\ndata tokenize\n"
            "eval --checkpoint\n");
}

TEST_F(Completion, FishOffersCommandsKeysAndValues) {
  if (path_of("fish").empty()) GTEST_SKIP() << "fish is not installed";
  const auto complete = [&](const std::string& line) {
    // One candidate a line, with its description behind a tab.
    return ask("fish", {"--no-config", "-c"},
               "source $script; complete -C 'powertrain " + line + "' | string replace -r '\\t.*' ''");
  };
  EXPECT_EQ(complete("tr"), "train\n");
  EXPECT_EQ(complete("train --batch"), "--batch_size\n");
  EXPECT_EQ(complete("train --lr_schedule w"), "wsd\n");
  EXPECT_EQ(complete("train --lr_schedule=w"), "--lr_schedule=wsd\n");
  EXPECT_EQ(complete("data tok"), "tokenize\n");
  EXPECT_EQ(complete("eval --check"), "--checkpoint\n");
}

}  // namespace
}  // namespace power::cli
