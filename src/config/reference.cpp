#include "config/reference.h"

#include "config/schema.h"
#include "core/str.h"

namespace power::config {
namespace {

constexpr const char* kIntroduction =
    R"(# Configuration

This file is the output of `powertrain train --print-reference`; a test keeps it current.

Every key can be set in four ways; later ones win:

1. the default in the tables below,
2. a YAML file, `--config FILE`: flat `key: value` lines, lists as `[a, b]`,
3. the environment, `POWERTRAIN_KEY` (upper case: `POWERTRAIN_BATCH_SIZE=8`),
4. the command line: `--key=value`, `--key value` or `--set key=value`.

`powertrain train --print-config` shows every value and where it comes from, and ends.

Nothing is guessed. A key that does not exist, a key that is set twice in one place, a number with anything after it
(`1e-3x`), with a leading zero (`010`, which YAML 1.1 takes for 8) or out of range ends the program with exit code 2 and a
message that names file and line, or the option, before anything is touched. Booleans are `True`, `False`, `true` or
`false`; `yes` and `1` are not. On the command line a boolean without a value means `True`. YAML anchors, aliases, tags,
nesting and files above 1 MB are refused.

The resolved configuration is stored as `config.yaml` in the run folder and in every checkpoint. When a run resumes, the
keys marked *model* must have the values they had; other keys may change, and the change is printed.
)";

std::string table_cell(const std::string& text) {
  std::string cell;
  for (const char c : text) {
    if (c == '|') cell += '\\';
    cell += c;
  }
  return cell;
}

}  // namespace

std::string reference_markdown() {
  std::string text = kIntroduction;
  std::string group;
  for (const Key& key : schema()) {
    if (key.group != group) {
      text += str("\n## ", key.group, "\n\n| key | default | values | meaning |\n|---|---|---|---|\n");
      group = key.group;
    }
    text += str("| `", key.name, "` | `", default_text(key), "` | ", table_cell(allowed_values(key)),
                key.unit.empty() ? "" : ", in " + key.unit, " | ", table_cell(key.help), key.model ? "; *model*" : "",
                " |\n");
  }
  text +=
      "\n## Accepted without effect\n\n"
      "Keys of the older PyTorch trainers, so that their command lines paste. One warning names those that are set.\n\n"
      "| key | why it has no effect |\n|---|---|\n";
  for (const IgnoredKey& key : ignored_keys()) text += str("| `", key.name, "` | ", key.reason, " |\n");
  return text;
}

}  // namespace power::config
