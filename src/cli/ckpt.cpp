#include <algorithm>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "checkpoint/inspect.h"
#include "cli/command.h"
#include "core/error.h"
#include "core/format.h"
#include "core/log.h"
#include "core/progress.h"

namespace power::cli {
namespace {

namespace fs = std::filesystem;
using checkpoint::Found;
using nlohmann::json;

constexpr int kSame = 0;
constexpr int kDifferent = 1;
constexpr int kInvalid = 3;
constexpr const char* kNoCheckpoint = ": holds no checkpoint; a run folder has them under ckpt/";

void print_json(const json& value) { std::cout << value.dump(2, ' ', false, json::error_handler_t::replace) << "\n"; }

json to_json(const Found& found) {
  return {{"path", found.path.string()},    {"step", found.step},
          {"bytes", found.bytes},           {"summary", found.summary},
          {"valid", found.problem.empty()}, {"problem", found.problem}};
}

std::string summary_text(const json& summary) {
  std::string text;
  if (!summary.is_object()) return text;
  for (const auto& [key, value] : summary.items()) {
    if (key == "step") continue;  // has its own column
    const std::string shown = value.is_number_float() ? format_number("%.5g", value.get<double>())
                                                      : value.dump(-1, ' ', true, json::error_handler_t::replace);
    text += (text.empty() ? "" : "  ") + key + " " + shown;
  }
  return text;
}

// Checkpoints of a run folder, or the one that `path` is.
std::vector<Found> find(const fs::path& path, bool full) {
  require(fs::is_directory(path), ErrorKind::kData, path.string(),
          ": no such folder; give a run folder or one checkpoint of it");
  if (!fs::exists(path / "manifest.json")) {
    std::vector<Found> found = checkpoint::list(path, /*full=*/false);
    for (Found& one : found) {
      if (!full || !one.problem.empty()) continue;
      ProgressBar bar("verify " + one.path.filename().string(), one.bytes, "B");
      one.problem = checkpoint::verify(one.path, [&](int64_t done, int64_t) { bar.update(done); });
    }
    return found;
  }
  Found one;
  one.path = path;
  ProgressBar bar("verify " + path.filename().string(), 0, "B");
  one.problem = checkpoint::verify(path, [&](int64_t done, int64_t total) {
    bar.set_total(total);
    bar.update(done);
  });
  return {one};
}

int run_ls(const Arguments& arguments) {
  const fs::path run = arguments.operands().front();
  require(fs::is_directory(run), ErrorKind::kData, run.string(), ": no such run folder");
  const std::vector<Found> all = checkpoint::list(run, /*full=*/false);
  if (arguments.has("json")) {
    json rows = json::array();
    for (const Found& found : all) rows.push_back(to_json(found));
    print_json(rows);
    return 0;
  }
  if (all.empty()) log_info(run.string(), kNoCheckpoint);
  size_t width = 0;
  for (const Found& found : all) width = std::max(width, found.path.filename().string().size());
  for (const Found& found : all) {
    const std::string name = found.path.filename().string();
    std::cout << name << std::string(width - name.size(), ' ') << "  ";
    if (found.problem.empty()) {
      std::cout << "step " << found.step << "  " << format_bytes(static_cast<double>(found.bytes)) << "  "
                << summary_text(found.summary) << "\n";
    } else {
      std::cout << "BROKEN  " << found.problem << "\n";
    }
  }
  return 0;
}

int run_verify(const Arguments& arguments) {
  json rows = json::array();
  bool valid = true;
  for (const std::string& path : arguments.operands()) {
    const std::vector<Found> all = find(path, /*full=*/true);
    require(!all.empty(), ErrorKind::kData, path, kNoCheckpoint);
    for (const Found& found : all) {
      valid = valid && found.problem.empty();
      rows.push_back({{"path", found.path.string()}, {"valid", found.problem.empty()}, {"problem", found.problem}});
      if (!arguments.has("json")) {
        std::cout << (found.problem.empty() ? "ok      " + found.path.string() : "BROKEN  " + found.problem) << "\n";
      }
    }
  }
  if (arguments.has("json")) print_json(rows);
  return valid ? 0 : kInvalid;
}

fs::path newest(const std::string& path) {
  const auto found = checkpoint::resolve(
      path, [](const Found& skipped) { log_warning("skipped ", skipped.path.string(), ": ", skipped.problem); });
  require(found.has_value(), ErrorKind::kData, path, kNoCheckpoint);
  return *found;
}

std::string describe(const checkpoint::TensorDifference& difference) {
  std::string text = difference.file + "  " + difference.tensor + ": ";
  if (difference.what != "values") return text + difference.what;
  return text + str(difference.differing, " of ", difference.elements, " elements differ, first at ",
                    json(difference.first).dump(), ": ", format_number("%.9g", difference.first_a), " against ",
                    format_number("%.9g", difference.first_b), "; largest difference ",
                    format_number("%.3g", difference.largest));
}

int run_diff(const Arguments& arguments) {
  const fs::path a = newest(arguments.operands()[0]);
  const fs::path b = newest(arguments.operands()[1]);
  const checkpoint::Difference difference = checkpoint::diff(a, b);
  if (arguments.has("json")) {
    json tensors = json::array();
    for (const auto& d : difference.tensor_differences) {
      json row = {{"file", d.file}, {"tensor", d.tensor}, {"what", d.what}};
      if (d.what == "values") {
        row.update({{"elements", d.elements},
                    {"differing", d.differing},
                    {"first", d.first},
                    {"first_a", d.first_a},
                    {"first_b", d.first_b},
                    {"largest", d.largest}});
      }
      tensors.push_back(row);
    }
    print_json({{"a", a.string()},
                {"b", b.string()},
                {"equal", difference.equal()},
                {"tensors", difference.tensors},
                {"tensor_differences", tensors},
                {"state_differences", difference.state_differences},
                {"configuration_differences", difference.configuration_differences}});
    return difference.equal() ? kSame : kDifferent;
  }
  std::cout << "A  " << a.string() << "\nB  " << b.string() << "\n";
  for (const auto& d : difference.tensor_differences) std::cout << describe(d) << "\n";
  for (const std::string& text : difference.state_differences) std::cout << text << "\n";
  for (const std::string& text : difference.configuration_differences) std::cout << text << " (does not count)\n";
  std::cout << difference.tensors << " tensors compared: ";
  if (difference.equal()) {
    std::cout << "bitwise equal\n";
  } else {
    std::cout << "differing tensors " << difference.tensor_differences.size() << ", other values "
              << difference.state_differences.size() << "\n";
  }
  return difference.equal() ? kSame : kDifferent;
}

}  // namespace

Command ckpt_ls_command() {
  return {.name = "ckpt ls",
          .summary = "the checkpoints of a run",
          .operands = "RUN",
          .min_operands = 1,
          .max_operands = 1,
          .options = {json_option()},
          .examples = {"powertrain ckpt ls runs/a"},
          .run = run_ls};
}

Command ckpt_verify_command() {
  return {.name = "ckpt verify",
          .summary = "hash every file, check every tensor; exits 3 where one is broken",
          .operands = "RUN|CHECKPOINT...",
          .min_operands = 1,
          .max_operands = 1024,
          .options = {json_option()},
          .examples = {"powertrain ckpt verify runs/a", "powertrain ckpt verify runs/a/ckpt/step-00001000"},
          .run = run_verify};
}

Command ckpt_diff_command() {
  return {.name = "ckpt diff",
          .summary = "compare two checkpoints tensor by tensor; exits 0 only where bitwise equal",
          .operands = "A B",
          .min_operands = 2,
          .max_operands = 2,
          .options = {json_option()},
          .examples = {"powertrain ckpt diff runs/a/ckpt/step-00001000 runs/b/ckpt/step-00001000",
                       "powertrain ckpt diff runs/a runs/b"},
          .run = run_diff};
}

}  // namespace power::cli
