"""scripts/lint_includes.py finds each kind of violation, and nothing in a tree without any."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "lint_includes.py"

# A tree that obeys every rule: file -> text.
GOOD = {
    "kernels/CMakeLists.txt":
        "foreach(d 32)\n list(APPEND s scan/fwd_d${d}.cu)\nendforeach()\nadd_library(k scan/scan.cu)",
    "kernels/scan/fwd_d32.cu": "",
    "kernels/scan/scan.h": "#include <cstdint>\n",
    "kernels/scan/scan.cu": '#include "kernels/scan/scan.h"\n#include <cuda_bf16.h>\n',
    "src/core/CMakeLists.txt": "add_library(c log.cpp)",
    "src/core/log.h": "#include <string>\n",
    "src/core/log.cpp": '#include "core/log.h"\n#include <spdlog/spdlog.h>\n',
    "src/ops/ops.h": '#include <torch/torch.h>\n#include "kernels/scan/scan.h"\n#include "core/log.h"\n',
    "src/model/gpt.h": '#include "ops/ops.h"\n',
    "src/config/run_config.h": '#include <yaml-cpp/yaml.h>\n#include "model/gpt.h"\n',
    "src/cli/main.h": '#include <cxxopts.hpp>\n#include "config/run_config.h"\n',
    "tests/core/CMakeLists.txt": "power_test(core_test SOURCES log_test.cpp)",
    "tests/core/log_test.cpp": '#include "core/log.h"\n',
}


def lint(files):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return subprocess.run([sys.executable, SCRIPT, root], capture_output=True, text=True)


class LintIncludes(unittest.TestCase):
    def test_a_clean_tree_passes(self):
        result = lint(GOOD)
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))

    def test_each_violation_is_found(self):
        cases = [
            ("src/model/gpt.h", '#include "data/loader.h"\n', "model may not include data"),
            ("src/ops/ops.h", '#include "model/gpt.h"\n', "ops may not include model"),
            ("src/core/log.h", '\n#include "config/run_config.h"\n', "src/core/log.h:2: core may not include config"),
            ("src/train/trainer.h", '#include "bench/timer.h"\n', "train may not include bench"),
            ("src/train/trainer.h", '#include "kernels/scan/scan.h"\n', "train may not include kernels"),
            ("kernels/scan/scan.h", '#include "core/log.h"\n', "kernels may not include core"),
            ("kernels/scan/scan.h", "#include <torch/torch.h>\n", "LibTorch belongs to"),
            ("src/config/run_config.h", "#  include <ATen/ATen.h>\n", "LibTorch belongs to"),
            ("src/model/gpt.h", "#include <yaml-cpp/yaml.h>\n", "yaml-cpp belongs to config"),
            ("src/train/trainer.h", "#include <cxxopts.hpp>\n", "cxxopts belongs to cli"),
            ("src/core/log.h", "#include <spdlog/spdlog.h>\n", "spdlog belongs to core/log.cpp"),
            ("src/model/gpt.h", "#include <cuda_runtime.h>\n", "CUDA belongs to kernels, ops"),
            ("src/train/trainer.h", "#include <torch/csrc/distributed/c10d/TCPStore.hpp>\n", "c10d belongs to dist"),
            ("src/cli/main.h", '#include "../ops/ops.h"\n', "write the path from the repository root"),
            ("src/novel/thing.h", "", "folder 'novel' has no layer"),
            ("kernels/scan/extra.cu", "", "kernels/scan/extra.cu:1: not listed"),
            ("tests/core/file_test.cpp", "", "tests/core/file_test.cpp:1: not listed"),
            ("tests/core/CMakeLists.txt", "# log_test.cpp is gone", "log_test.cpp:1: not listed"),
            # A name that only ends like a listed one is not listed.
            ("tests/core/CMakeLists.txt", "power_test(c SOURCES catalog_test.cpp)", "log_test.cpp:1: not listed"),
        ]
        for name, text, message in cases:
            with self.subTest(name=name, text=text):
                result = lint({**GOOD, name: text})
                self.assertEqual(result.returncode, 1)
                self.assertIn(message, result.stdout)

    def test_names_that_clash_where_sources_are_compiled_together(self):
        unnamed = "namespace power {\nnamespace {\n%s\n}  // namespace\n}  // namespace power\n"
        tree = {**GOOD, "tests/model/CMakeLists.txt": "power_test(m TORCH SOURCES a.cpp b.cpp)\npower_test(n TORCH SOURCES c.cpp)"}
        for first, second, clash in [("int f(int x) { return x; }", "double f(double x) { return x; }", True),
                                     ("struct Pass {\n  int x;\n};", "struct Pass {\n};", True),
                                     ("constexpr int kN = 1;", "constexpr int kN = 2;", True),
                                     ("int f() { return 1; }", "int g() { return f(1); }", False),
                                     ("using std::vector;\nnamespace fs = std::filesystem;",
                                      "using std::vector;\nnamespace fs = std::filesystem;", False)]:
            with self.subTest(first=first):
                sources = {"tests/model/a.cpp": unnamed % first, "tests/model/b.cpp": unnamed % second,
                           "tests/model/c.cpp": unnamed % first}  # of another target
                result = lint({**tree, **sources})
                self.assertEqual(result.stdout.count("of the same target"), int(clash), result.stdout)
                self.assertEqual(result.returncode, int(clash))
                added_later = "power_test(m TORCH SOURCES a.cpp)\ntarget_sources(m PRIVATE b.cpp)\npower_test(n TORCH SOURCES c.cpp)"
                result = lint({**tree, **sources, "tests/model/CMakeLists.txt": added_later})
                self.assertEqual(result.stdout.count("of the same target"), int(clash), result.stdout)
                result = lint({**tree, **sources, "tests/model/CMakeLists.txt": added_later + "\npower_cuda_sources(b.cpp)"})
                self.assertEqual(result.returncode, 0, result.stdout)


if __name__ == "__main__":
    unittest.main()
