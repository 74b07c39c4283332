#include "checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "core/file.h"
#include "tests/checkpoint/example.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace power::checkpoint {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

void flip_byte(const fs::path& path, int64_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(at);
  const char byte = static_cast<char>(file.get() ^ 1);
  file.seekp(at);
  file.put(byte);
  ASSERT_TRUE(file.good());
}

void append_byte(const fs::path& path) { std::ofstream(path, std::ios::app | std::ios::binary) << 'x'; }

TEST(Checkpoint, EveryDtypeAndShapeComesBackBitwise) {
  const test::TempFolder run;
  Contents contents;
  contents.step = 7;
  TensorFile file{"model.safetensors", {}, {{"format", "pt"}, {"note", "caf\xc3\xa9 \"x\""}}};
  const auto add = [&](const std::string& name, const torch::Tensor& tensor) {
    file.tensors.push_back({name, tensor});
  };
  for (const torch::Dtype dtype : {torch::kFloat32, torch::kFloat64, torch::kFloat16, torch::kBFloat16, torch::kInt64,
                                   torch::kInt32, torch::kInt16, torch::kInt8, torch::kUInt8, torch::kBool}) {
    const std::string name = c10::toString(dtype);
    add(name + ".odd", torch::arange(-3, 18).view({3, 7}).to(dtype));
    add(name + ".scalar", torch::ones({}, dtype));
    add(name + ".empty", torch::zeros({0, 4}, dtype));
  }
  add("strided", torch::arange(40, torch::kFloat32).view({5, 8}).t().slice(0, 1, 8, 2));
  add("denormal and minus zero", torch::tensor({-0.0f, 1e-45f, -3.4028235e38f}));
  add("needs grad", torch::ones({2}, torch::requires_grad()));
  add("longer than one piece", torch::arange(700'001, torch::kFloat32));
  contents.tensor_files = {file};
  int64_t last = 0;
  int64_t total = 0;
  contents.progress = [&](int64_t done, int64_t all) {
    EXPECT_GE(done, last);
    last = done;
    total = all;
  };
  const fs::path path = save(run.path(), contents);
  EXPECT_EQ(path, run / "ckpt/step-00000007");
  EXPECT_EQ(last, total);
  EXPECT_GT(total, 700'001 * 4);

  const Reader reader(path);
  const std::vector<NamedTensor> read = reader.read_tensors("model.safetensors");
  ASSERT_EQ(read.size(), file.tensors.size());
  for (const NamedTensor& saved : file.tensors) {
    SCOPED_TRACE(saved.name);
    const auto found = std::find_if(read.begin(), read.end(), [&](const auto& n) { return n.name == saved.name; });
    ASSERT_NE(found, read.end());
    EXPECT_EQ(found->tensor.dtype(), saved.tensor.dtype());
    EXPECT_EQ(found->tensor.sizes(), saved.tensor.sizes());
    const torch::Tensor expected = saved.tensor.detach().contiguous();
    EXPECT_EQ(std::memcmp(found->tensor.const_data_ptr(), expected.const_data_ptr(), expected.nbytes()), 0);
  }
}

TEST(Checkpoint, SaveListsReadsAndLeavesNothingElse) {
  const test::TempFolder run;
  save(run.path(), example_contents(5));
  save(run.path(), example_contents(10));
  save(run.path(), example_contents(5), "best");
  EXPECT_EQ(names_in(run / "ckpt"), (std::vector<std::string>{"best", "step-00000005", "step-00000010"}));
  const Reader reader(run / "ckpt/step-00000010");
  EXPECT_TRUE(is_example(reader));
  EXPECT_EQ(reader.step(), 10);
  EXPECT_EQ(reader.summary()["tokens"], 10000);
  EXPECT_EQ(reader.read_text("config.yaml"), "n_layer: 2\n");
  EXPECT_TRUE(reader.has("state.json"));
  EXPECT_FALSE(reader.has("manifest.json"));
  test::expect_error(ErrorKind::kData, "holds no file ../x", [&] { reader.read_text("../x"); });
  test::expect_error(ErrorKind::kData, "holds no file absent", [&] { reader.read_tensors("absent"); });

  const std::vector<Found> found = list(run.path(), true);
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].path.filename(), "best");
  EXPECT_EQ(found[1].step, 5);
  EXPECT_EQ(found[2].step, 10);
  EXPECT_EQ(found[2].summary["tokens"], 10000);
  for (const Found& f : found) {
    EXPECT_EQ(f.problem, "");
    int64_t bytes = 0;
    for (const auto& entry : fs::directory_iterator(f.path)) bytes += static_cast<int64_t>(entry.file_size());
    EXPECT_EQ(f.bytes + static_cast<int64_t>(fs::file_size(f.path / "manifest.json")), bytes);
  }
}

TEST(Checkpoint, SavingAgainReplacesAndRemovesLeftovers) {
  const test::TempFolder run;
  Contents old = example_contents(5);
  old.text_files.push_back({"extra.json", "{}"});
  save(run.path(), old, "best");
  fs::create_directories(run / "ckpt/step-00000003.tmp/sub");
  save(run.path(), example_contents(9), "best");
  EXPECT_EQ(names_in(run / "ckpt"), std::vector<std::string>{"best"});
  const Reader reader(run / "ckpt/best");
  EXPECT_EQ(reader.step(), 9);
  EXPECT_TRUE(is_example(reader));
  EXPECT_FALSE(fs::exists(run / "ckpt/best/extra.json"));
}

TEST(Checkpoint, NonFiniteWeightsAreNotSavedAndNothingIsTouched) {
  const test::TempFolder run;
  save(run.path(), example_contents(5));
  for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    for (const torch::Dtype dtype : {torch::kFloat32, torch::kFloat64, torch::kFloat16, torch::kBFloat16}) {
      Contents contents = example_contents(6);
      torch::Tensor& tensor = contents.tensor_files[0].tensors[0].tensor;
      tensor = torch::zeros({300'000}, dtype);
      tensor[299'999] = bad;
      test::expect_error(ErrorKind::kNonFinite, "'wte.weight' of model.safetensors: element 299999 is not finite",
                         [&] { save(run.path(), contents); });
      EXPECT_EQ(names_in(run / "ckpt"), std::vector<std::string>{"step-00000005"});
    }
  }
  // Also the first save of a run, and one over a checkpoint of the same name.
  Contents contents = example_contents(5);
  contents.tensor_files[1].tensors[0].tensor.fill_(INFINITY);
  test::expect_error(ErrorKind::kNonFinite, "not finite", [&] { save(run.path(), contents); });
  EXPECT_TRUE(is_example(Reader(run / "ckpt/step-00000005")));
  test::expect_error(ErrorKind::kNonFinite, "not finite", [&] { save(run / "other", contents); });
  EXPECT_FALSE(fs::exists(run / "other/ckpt"));
}

TEST(Checkpoint, RefusesNamesThatAreNotPlain) {
  const test::TempFolder run;
  for (const char* name : {"../x", "a/b", ".hidden", "x.tmp", "x.replaced"}) {
    SCOPED_TRACE(name);
    test::expect_error(ErrorKind::kRuntime, "cannot be the name", [&] { save(run.path(), example_contents(1), name); });
  }
  for (const char* name : {"../x", "manifest.json", "model.safetensors", ""}) {
    SCOPED_TRACE(name);
    Contents contents = example_contents(1);
    contents.text_files.push_back({name, ""});
    test::expect_error(ErrorKind::kRuntime, "cannot be the name", [&] { save(run.path(), contents); });
  }
  Contents twice = example_contents(1);
  twice.tensor_files[0].tensors.push_back(twice.tensor_files[0].tensors[0]);
  test::expect_error(ErrorKind::kRuntime, "'wte.weight' cannot be stored", [&] { save(run.path(), twice); });
  EXPECT_TRUE(fs::is_empty(run.path()));
}

TEST(Checkpoint, EveryDamageIsFound) {
  const test::TempFolder run;
  const fs::path good = save(run.path(), example_contents(5));
  const fs::path path = run / "copy/step-00000005";
  const auto damaged = [&](const std::string& message, const std::function<void()>& damage) {
    SCOPED_TRACE(message);
    fs::remove_all(run / "copy");
    fs::create_directories(run / "copy");
    fs::copy(good, path, fs::copy_options::recursive);
    ASSERT_EQ(verify(path), "");
    damage();
    EXPECT_NE(verify(path).find(message), std::string::npos) << verify(path);
    test::expect_error(ErrorKind::kData, message, [&] { Reader reader(path); });
    test::expect_error(ErrorKind::kData, message, [&] { resolve(path); });
  };
  for (const char* name : {"model.safetensors", "optimizer.safetensors", "state.json", "config.yaml"}) {
    const auto size = static_cast<int64_t>(fs::file_size(good / name));
    for (const int64_t at : {int64_t{0}, size / 3, size - 1}) {
      damaged("its content was changed", [&] { flip_byte(path / name, at); });
    }
    damaged("truncated", [&] { fs::resize_file(path / name, static_cast<uintmax_t>(size - 1)); });
    damaged("truncated", [&] { fs::resize_file(path / name, 0); });
    damaged("the manifest says", [&] { append_byte(path / name); });
    damaged("missing", [&] { fs::remove(path / name); });
    damaged("not a regular file", [&] {
      fs::remove(path / name);
      fs::create_symlink(good / name, path / name);
    });
  }
  damaged("manifest.json: missing", [&] { fs::remove(path / "manifest.json"); });
  damaged("manifest.json", [&] { flip_byte(path / "manifest.json", 40); });
  damaged("manifest.json", [&] { fs::resize_file(path / "manifest.json", 100); });
  damaged("the folder was renamed", [&] {
    fs::remove_all(path);
    fs::copy(save(run / "six", example_contents(6)), path, fs::copy_options::recursive);
  });
  test::expect_error(ErrorKind::kData, "no such folder", [&] { resolve(run / "absent"); });
  test::expect_error(ErrorKind::kData, "no such checkpoint folder", [&] { Reader reader(run / "absent"); });
}

// A checkpoint with a right manifest around hostile tensors: hashes cannot help there.
TEST(Checkpoint, RightHashesDoNotExcuseBadTensors) {
  const test::TempFolder run;
  const fs::path path = save(run.path(), example_contents(5));
  const auto replace = [&](const std::string& content) {
    write_file_atomic(path / "model.safetensors", content);
    Manifest manifest = parse_manifest(read_file(path / "manifest.json"), "m");
    manifest.files["model.safetensors"] = {static_cast<int64_t>(content.size()),
                                           hash_bytes(content.data(), content.size())};
    write_file_atomic(path / "manifest.json", manifest_text(manifest));
  };
  const std::string original = read_file(path / "model.safetensors");
  std::string content = original;
  const float nan = std::nanf("");
  std::memcpy(content.data() + content.size() - 4, &nan, 4);
  replace(content);
  EXPECT_NE(verify(path).find("is not finite"), std::string::npos) << verify(path);
  content = original;
  content.replace(content.find("F32"), 3, "F64");
  replace(content);
  EXPECT_NE(verify(path).find("its data_offsets span"), std::string::npos) << verify(path);
  replace(original);
  EXPECT_EQ(verify(path), "");
}

TEST(Resolve, TakesTheNewestValidAndSaysWhatItSkipped) {
  const test::TempFolder run;
  EXPECT_EQ(resolve(run.path()), std::nullopt);
  fs::create_directories(run / "ckpt/step-00000001.tmp");
  EXPECT_EQ(resolve(run.path()), std::nullopt);
  for (const int64_t step : {8, 9, 10, 11}) save(run.path(), example_contents(step));
  save(run.path(), example_contents(20), "best");
  const auto resolved = [&](const fs::path& path) {
    std::vector<std::string> skipped;
    const auto found =
        resolve(path, [&](const Found& f) { skipped.push_back(str(f.path.filename().string(), ": ", f.problem)); });
    return std::pair(found.value_or("nothing").filename().string(), skipped);
  };
  EXPECT_EQ(resolved(run.path()).first, "step-00000011");
  EXPECT_EQ(resolved(run / "").first, "step-00000011");
  EXPECT_EQ(resolved(run / "ckpt").first, "step-00000011");
  EXPECT_EQ(resolved(run / "ckpt/step-00000008").first, "step-00000008");
  EXPECT_EQ(resolved(run / "ckpt/best").first, "best");

  flip_byte(run / "ckpt/step-00000011/model.safetensors", 300);  // right size, wrong content
  fs::remove(run / "ckpt/step-00000010/manifest.json");          // never committed
  fs::resize_file(run / "ckpt/step-00000009/optimizer.safetensors", 9);
  const auto [name, skipped] = resolved(run.path());
  EXPECT_EQ(name, "step-00000008");
  ASSERT_EQ(skipped.size(), 3u);
  EXPECT_NE(skipped[0].find("model.safetensors: its content was changed"), std::string::npos) << skipped[0];
  EXPECT_NE(skipped[1].find("manifest.json: missing"), std::string::npos) << skipped[1];
  EXPECT_NE(skipped[2].find("9 bytes, the manifest says"), std::string::npos) << skipped[2];

  // A named one only where no step checkpoint is left; never silently nothing.
  flip_byte(run / "ckpt/step-00000008/state.json", 0);
  EXPECT_EQ(resolved(run.path()).first, "best");
  fs::remove(run / "ckpt/best/config.yaml");
  test::expect_error(ErrorKind::kData,
                     "none of its 5 checkpoints can be used; the newest: ", [&] { resolve(run.path()); });
}

TEST(Rotate, KeepsTheNewestValidOnes) {
  const test::TempFolder run;
  for (const int64_t step : {1, 2, 3, 4, 5, 123456789}) save(run.path(), example_contents(step));
  save(run.path(), example_contents(2), "best");
  flip_byte(run / "ckpt/step-123456789/model.safetensors", 300);
  fs::remove(run / "ckpt/step-00000004/manifest.json");
  fs::create_directory(run / "ckpt/notes");
  rotate(run.path(), 2);
  // The damaged ones among the newest neither count nor go; older ones go, broken or not.
  EXPECT_EQ(names_in(run / "ckpt"), (std::vector<std::string>{"best", "notes", "step-00000003", "step-00000004",
                                                              "step-00000005", "step-123456789"}));
  rotate(run.path(), 1);
  EXPECT_EQ(names_in(run / "ckpt"), (std::vector<std::string>{"best", "notes", "step-00000005", "step-123456789"}));
}

TEST(Rotate, NeverDeletesTheLastGoodOne) {
  const test::TempFolder run;
  rotate(run.path(), 1);  // nothing there
  for (const int64_t step : {1, 2, 3}) save(run.path(), example_contents(step));
  flip_byte(run / "ckpt/step-00000003/model.safetensors", 300);
  flip_byte(run / "ckpt/step-00000002/state.json", 0);
  for (const int64_t keep_last : {2, 1, 0}) {
    rotate(run.path(), keep_last);
    ASSERT_EQ(resolve(run.path()), run / "ckpt/step-00000001") << "keep_last " << keep_last;
  }
}

}  // namespace
}  // namespace power::checkpoint
