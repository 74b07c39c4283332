#include "config/diff.h"

#include <gtest/gtest.h>

namespace power::config {
namespace {

TEST(Diff, SeparatesModelKeysFromOthers) {
  RunConfig before, after;
  after.n_layer = 6;
  after.learning_rate = 1e-3;
  after.block_size = 2048;
  after.max_iters = 10;
  const Diff diff = config::diff(before, after);
  ASSERT_EQ(diff.model.size(), 2u);
  EXPECT_EQ(to_string(diff.model[0]), "n_layer: 12 -> 6");
  EXPECT_EQ(to_string(diff.model[1]), "block_size: 1024 -> 2048");
  ASSERT_EQ(diff.other.size(), 2u);
  EXPECT_EQ(to_string(diff.other[0]), "max_iters: 600000 -> 10");
  EXPECT_EQ(to_string(diff.other[1]), "learning_rate: 6e-04 -> 0.001");
}

TEST(Diff, EqualConfigurationsHaveNone) {
  RunConfig before, after;
  before.n_layer = after.n_layer = 3;
  after.attention_kernel = {"power", "power", "power"};  // the same as {"power"}
  const Diff diff = config::diff(before, after);
  EXPECT_TRUE(diff.model.empty());
  EXPECT_TRUE(diff.other.empty());
  after.attention_kernel = {"power", "sdpa", "power"};
  EXPECT_EQ(config::diff(before, after).model.size(), 1u);
}

// What only changes how the same function is computed may change on resume.
TEST(Diff, FormAndMachineAreNoModelKeys) {
  RunConfig before, after;
  after.chunk_size = "None";
  after.recompute = true;
  after.dtype = "float32";
  after.device = "cpu";
  after.dropout = 0.1;
  EXPECT_TRUE(config::diff(before, after).model.empty());
  EXPECT_EQ(config::diff(before, after).other.size(), 5u);
}

}  // namespace
}  // namespace power::config
