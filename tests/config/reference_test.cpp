#include "config/reference.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "config/load.h"
#include "config/schema.h"
#include "core/file.h"
#include "tests/support/paths.h"

namespace power::config {
namespace {

namespace fs = std::filesystem;
const fs::path kSource = test::source_dir();

TEST(Reference, TheDocumentIsCurrent) {
  EXPECT_EQ(read_file(kSource / "docs" / "configuration.md"), reference_markdown())
      << "run: powertrain train --print-reference > docs/configuration.md";
}

TEST(Reference, EveryKeyIsInIt) {
  const std::string text = reference_markdown();
  for (const Key& key : schema()) EXPECT_NE(text.find("| `" + key.name + "` |"), std::string::npos) << key.name;
}

TEST(Configs, AllAreValidAndInTheTable) {
  const std::string table = read_file(kSource / "configs" / "README.md");
  int files = 0;
  for (const auto& entry : fs::directory_iterator(kSource / "configs")) {
    if (entry.path().extension() != ".yaml") continue;
    ++files;
    SCOPED_TRACE(entry.path().filename().string());
    Resolved resolved;
    ASSERT_NO_THROW(resolved = resolve(read_file_assignments(entry.path().string())));
    EXPECT_TRUE(resolved.warnings.empty());
    EXPECT_EQ(resolved.config.lr_decay_iters, resolved.config.max_iters) << "the decay ends with the training";
    EXPECT_EQ(resolved.config.out_dir, "runs/" + entry.path().stem().string()) << "no two share a run folder";
    EXPECT_NE(table.find("`" + entry.path().filename().string() + "`"), std::string::npos) << "not in README.md";
  }
  EXPECT_GE(files, 6);
}

// Their loss curves are compared with each other.
TEST(Configs, Gpt2ConfigurationsDifferInAttentionAndShapeOfTheBatchOnly) {
  const auto load = [](const std::string& name) {
    return resolve(read_file_assignments((kSource / "configs" / (name + ".yaml")).string())).config;
  };
  const RunConfig base = load("gpt2_124m_softmax");
  for (const char* name : {"gpt2_124m_power", "gpt2_124m_power_16k", "gpt2_124m_power_64k"}) {
    SCOPED_TRACE(name);
    const RunConfig config = load(name);
    const auto step = [](const RunConfig& c) { return c.batch_size * c.gradient_accumulation_steps * c.block_size; };
    const auto validation = [](const RunConfig& c) { return c.eval_iters * c.batch_size * c.block_size; };
    EXPECT_EQ(step(config), step(base));
    EXPECT_EQ(validation(config), validation(base));
    EXPECT_EQ(config.learning_rate, base.learning_rate);
    EXPECT_EQ(config.max_iters, base.max_iters);
    EXPECT_EQ(config.attention_kernel, std::vector<std::string>{"power"});
    EXPECT_EQ(config.degree, 2);
  }
}

}  // namespace
}  // namespace power::config
