#include <gtest/gtest.h>

#include <fstream>

#include "checkpoint/checkpoint.h"
#include "tests/checkpoint/example.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace power::checkpoint {
namespace {

Difference diff_against(const std::function<void(Contents&)>& change) {
  const test::TempFolder run;
  Contents contents = example_contents(5);
  const auto a = save(run / "a", contents);
  change(contents);
  return diff(a, save(run / "b", contents, "changed"));
}

TEST(Diff, EqualCheckpointsAreEqualWhateverTheOrder) {
  const Difference same = diff_against([](Contents& contents) {
    std::swap(contents.tensor_files[0].tensors[0], contents.tensor_files[0].tensors[1]);
    contents.tensor_files[0].metadata["format"] = "other";
    contents.summary = {{"tokens", 0}};
  });
  EXPECT_TRUE(same.equal());
  EXPECT_EQ(same.tensors, 4);
  EXPECT_TRUE(same.configuration_differences.empty());
}

TEST(Diff, NamesTheFirstDifferenceAndTheLargest) {
  const Difference changed = diff_against([](Contents& contents) {
    torch::Tensor& weight = contents.tensor_files[0].tensors[0].tensor;  // (33,7), 5001 + index
    weight[2][3] += 0.5;
    weight[30][6] -= 4;
  });
  EXPECT_FALSE(changed.equal());
  ASSERT_EQ(changed.tensor_differences.size(), 1u);
  const TensorDifference& difference = changed.tensor_differences[0];
  EXPECT_EQ(difference.file, "model.safetensors");
  EXPECT_EQ(difference.tensor, "wte.weight");
  EXPECT_EQ(difference.what, "values");
  EXPECT_EQ(difference.elements, 231);
  EXPECT_EQ(difference.differing, 2);
  EXPECT_EQ(difference.first, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(difference.first_a, 5018.0);
  EXPECT_EQ(difference.first_b, 5018.5);
  EXPECT_EQ(difference.largest, 4.0);
}

TEST(Diff, ComparesBitsInEveryDtype) {
  for (const torch::Dtype dtype : {torch::kFloat32, torch::kFloat64, torch::kFloat16, torch::kBFloat16, torch::kInt64,
                                   torch::kInt32, torch::kInt16, torch::kInt8, torch::kUInt8, torch::kBool}) {
    SCOPED_TRACE(c10::toString(dtype));
    const auto set = [&](double value) {
      return [=](Contents& contents) {
        contents.tensor_files[0].tensors[1].tensor = torch::zeros({600'000}, dtype);
        contents.tensor_files[0].tensors[1].tensor[599'999] = value;
      };
    };
    const test::TempFolder run;
    Contents contents = example_contents(5);
    set(0)(contents);
    const auto a = save(run / "a", contents);
    set(1)(contents);
    const Difference changed = diff(a, save(run / "b", contents));
    ASSERT_EQ(changed.tensor_differences.size(), 1u);
    EXPECT_EQ(changed.tensor_differences[0].first, std::vector<int64_t>{599'999});
    EXPECT_EQ(changed.tensor_differences[0].largest, 1.0);
  }
  // The sign of a zero is a difference of bits, not of value.
  const Difference zero = diff_against([](Contents& contents) {
    contents.tensor_files[0].tensors.push_back({"zero", torch::zeros({2})});
  });
  ASSERT_EQ(zero.tensor_differences.size(), 1u);
  EXPECT_EQ(zero.tensor_differences[0].what, "only in B");
  const test::TempFolder run;
  Contents contents = example_contents(5);
  contents.tensor_files[0].tensors.push_back({"zero", torch::zeros({2})});
  const auto a = save(run / "a", contents);
  contents.tensor_files[0].tensors.back().tensor[1] = -0.0;
  const Difference sign = diff(a, save(run / "b", contents));
  ASSERT_EQ(sign.tensor_differences.size(), 1u);
  EXPECT_EQ(sign.tensor_differences[0].differing, 1);
  EXPECT_EQ(sign.tensor_differences[0].largest, 0.0);
}

TEST(Diff, SeesMissingReshapedAndRetypedTensors) {
  const auto what = [](const std::function<void(Contents&)>& change) {
    const Difference difference = diff_against(change);
    return difference.tensor_differences.size() == 1 ? difference.tensor_differences[0].what : "?";
  };
  EXPECT_EQ(what([](Contents& c) { c.tensor_files[0].tensors.pop_back(); }), "only in A");
  EXPECT_EQ(what([](Contents& c) {
              torch::Tensor& tensor = c.tensor_files[0].tensors[0].tensor;
              tensor = tensor.view({7, 33});
            }),
            "shape [33,7] against [7,33]");
  EXPECT_EQ(what([](Contents& c) {
              torch::Tensor& tensor = c.tensor_files[0].tensors[0].tensor;
              tensor = tensor.to(torch::kFloat64);
            }),
            "dtype F32 against F64");
}

TEST(Diff, StateCountsAndConfigurationIsOnlyNamed) {
  const Difference state = diff_against([](Contents& c) { c.text_files[0].content = "{\"step\": 5, \"samples\": 3}"; });
  EXPECT_FALSE(state.equal());
  EXPECT_EQ(state.state_differences, std::vector<std::string>{"state.json /samples: absent against 3"});
  const Difference list =
      diff_against([](Contents& c) { c.text_files[0].content = "{\"step\": 5, \"losses\": [1, 2]}"; });
  EXPECT_EQ(list.state_differences, std::vector<std::string>{"state.json /losses/0: absent against 1"});
  const Difference step = diff_against([](Contents& c) { c.step = 6; });
  EXPECT_EQ(step.state_differences, std::vector<std::string>{"step 5 against 6"});
  const Difference file = diff_against([](Contents& c) { c.text_files.pop_back(); });
  EXPECT_EQ(file.state_differences, std::vector<std::string>{"file config.yaml only in A"});
  const Difference configuration = diff_against([](Contents& c) { c.text_files[1].content = "out_dir: elsewhere\n"; });
  EXPECT_TRUE(configuration.equal());
  EXPECT_EQ(configuration.configuration_differences, std::vector<std::string>{"config.yaml differs"});
}

TEST(Diff, RefusesADamagedCheckpoint) {
  const test::TempFolder run;
  const auto a = save(run / "a", example_contents(5));
  const auto b = save(run / "b", example_contents(5));
  std::ofstream(b / "state.json") << "{\"step\": 6}\n";
  test::expect_error(ErrorKind::kData, "state.json", [&] { diff(a, b); });
}

}  // namespace
}  // namespace power::checkpoint
