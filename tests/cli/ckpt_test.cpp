#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint.h"
#include "tests/checkpoint/example.h"
#include "tests/cli/run_program.h"
#include "tests/support/temp_folder.h"

namespace power::cli {
namespace {

using checkpoint::example_contents;
using checkpoint::save;
using nlohmann::json;
using test::ProgramResult;
using test::run_program;

void damage(const std::filesystem::path& file) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekp(-1, std::ios::end);
  stream.put('\x7f');
}

TEST(Ckpt, LsListsTheGoodAndTheBroken) {
  const test::TempFolder run;
  EXPECT_EQ(run_program({"ckpt", "ls", run.path()}).out, "");
  for (const int64_t step : {5, 10}) save(run.path(), example_contents(step));
  std::filesystem::remove(run / "ckpt/step-00000005/manifest.json");
  const ProgramResult result = run_program({"ckpt", "ls", run.path()});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.out.find("step-00000005  BROKEN  "), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("step-00000010  step 10  "), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("tokens 10000"), std::string::npos) << result.out;
  const json rows = json::parse(run_program({"ckpt", "ls", run.path(), "--json"}).out);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_FALSE(rows[0]["valid"]);
  EXPECT_NE(rows[0]["problem"].get<std::string>().find("manifest.json: missing"), std::string::npos);
  EXPECT_TRUE(rows[1]["valid"]);
  EXPECT_EQ(rows[1]["step"], 10);
  EXPECT_EQ(rows[1]["summary"]["tokens"], 10000);
  EXPECT_EQ(run_program({"ckpt", "ls", run / "absent"}).exit_code, 3);
}

TEST(Ckpt, VerifyExitsWith3WhereOneIsBroken) {
  const test::TempFolder run;
  for (const int64_t step : {5, 10}) save(run.path(), example_contents(step));
  const std::string first = run / "ckpt/step-00000005";
  const std::string second = run / "ckpt/step-00000010";
  ProgramResult result = run_program({"ckpt", "verify", run.path()});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "ok      " + first + "\nok      " + second + "\n");
  damage(run / "ckpt/step-00000010/model.safetensors");
  result = run_program({"ckpt", "verify", run.path()});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.out.find("ok      " + first + "\nBROKEN  " + second + "/model.safetensors: its content was changed"),
            0u)
      << result.out;
  EXPECT_EQ(run_program({"ckpt", "verify", first}).exit_code, 0);
  EXPECT_EQ(run_program({"ckpt", "verify", first, second}).exit_code, 3);
  const json rows = json::parse(run_program({"ckpt", "verify", "--json", run.path()}).out);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_TRUE(rows[0]["valid"]);
  EXPECT_FALSE(rows[1]["valid"]);
  // Nothing to verify is not success.
  EXPECT_EQ(run_program({"ckpt", "verify", run / "absent"}).exit_code, 3);
  EXPECT_EQ(run_program({"ckpt", "verify", first + "/.."}).exit_code, 3);
  EXPECT_EQ(run_program({"ckpt", "verify"}).exit_code, 2);
}

TEST(Ckpt, DiffExits0OnlyWhereBitwiseEqual) {
  const test::TempFolder folder;
  checkpoint::Contents contents = example_contents(5);
  const std::string a = save(folder / "a", contents);
  const std::string same = save(folder / "b", contents);
  ProgramResult result = run_program({"ckpt", "diff", a, same});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "A  " + a + "\nB  " + same + "\n4 tensors compared: bitwise equal\n");
  contents.tensor_files[0].tensors[0].tensor[2][3] += 0.5;
  const std::string other = save(folder / "c", contents);
  result = run_program({"ckpt", "diff", folder / "a", folder / "c"});  // run folders
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(
      result.out.find("model.safetensors  wte.weight: 1 of 231 elements differ, first at [2,3]: 5018 against "
                      "5018.5; largest difference 0.5\n4 tensors compared: differing tensors 1, other values 0\n"),
      std::string::npos)
      << result.out;
  const json report = json::parse(run_program({"ckpt", "diff", a, other, "--json"}).out);
  EXPECT_FALSE(report["equal"]);
  EXPECT_EQ(report["tensor_differences"][0]["first"], (json{2, 3}));
  damage(folder / "c/ckpt/step-00000005/state.json");
  result = run_program({"ckpt", "diff", a, other});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_NE(result.err.find("its content was changed"), std::string::npos) << result.err;
  EXPECT_EQ(run_program({"ckpt", "diff", a}).exit_code, 2);
}

}  // namespace
}  // namespace power::cli
