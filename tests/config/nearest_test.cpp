#include "config/nearest.h"

#include <gtest/gtest.h>

#include "config/schema.h"

namespace power::config {
namespace {

TEST(Nearest, CountsEdits) {
  EXPECT_EQ(edit_distance("train", "train"), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("trian", "train"), 1u);  // neighbours swapped
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("batchsize", "batch_size"), 1u);
}

TEST(Nearest, FindsTheKeyThatWasMeant) {
  const std::vector<std::string> keys = key_names();
  EXPECT_EQ(nearest("batchsize", keys), "batch_size");
  EXPECT_EQ(nearest("learning-rate", keys), "learning_rate");
  EXPECT_EQ(nearest("n_layers", keys), "n_layer");
  EXPECT_EQ(nearest("max_iter", keys), "max_iters");
  EXPECT_EQ(nearest("lr", keys), "min_lr");  // equally far: the one that contains it
  EXPECT_EQ(nearest("x", {}), "");
}

}  // namespace
}  // namespace power::config
