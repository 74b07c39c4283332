"""scripts/nvcc_check.sh judges ptxas' report and keeps what a file took; scripts/nvcc_budget.sh adds that up."""
import os
import pathlib
import subprocess
import tempfile
import unittest

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"

# A compiler that writes the object after -o and reports a kernel with so many bytes of spills, as nvcc does.
COMPILER = """#!/bin/sh
while [ "$1" != -o ]; do shift; done
echo object > "$2"
echo "ptxas info    : Compiling entry function 'kernel' for 'sm_80'" >&2
echo "    0 bytes stack frame, $SPILLS bytes spill stores, $SPILLS bytes spill loads" >&2
echo "$WORDS" >&2
exit $STATUS
"""


class NvccCheck(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        compiler = self.root / "nvcc"
        compiler.write_text(COMPILER)
        compiler.chmod(0o755)

    def compile(self, spills=0, words="", status=0):
        environment = dict(os.environ, SPILLS=str(spills), WORDS=words, STATUS=str(status))
        return subprocess.run(
            [SCRIPTS / "nvcc_check.sh", "256", SCRIPTS / "cpu_seconds.sh", self.root / "nvcc", "-c", "x.cu", "-o",
             self.root / "x.cu.o"], env=environment, capture_output=True, text=True)

    def test_a_good_file_is_quiet_and_its_seconds_are_kept(self):
        result = self.compile()
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))
        self.assertRegex((self.root / "x.cu.o.cpu_seconds").read_text(), r"^cpu_seconds \d+\.\d{3} \d+\.\d{3}\n$")

    def test_spills_and_serialised_loops_fail(self):
        result = self.compile(spills=300)
        self.assertEqual(result.returncode, 1)
        self.assertIn("kernel for sm_80 spills 300 bytes of registers, more than 256", result.stderr)
        result = self.compile(words="C7510: wgmma instructions are serialized due to ...")
        self.assertEqual(result.returncode, 1)
        self.assertIn("serialized", result.stderr)

    def test_an_error_passes_through(self):
        result = self.compile(words="x.cu(1): error: expected a declaration", status=3)
        self.assertEqual(result.returncode, 3)
        self.assertIn("expected a declaration", result.stderr)
        self.assertNotIn("cpu_seconds", result.stderr)


class NvccBudget(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.objects = pathlib.Path(self.folder.name) / "kernels/CMakeFiles/power_kernels.dir"
        self.objects.mkdir(parents=True)

    def budget(self, seconds, factor=None):
        for name, text in seconds.items():
            (self.objects / f"{name}.cu.o").touch()
            (self.objects / f"{name}.cu.o.cpu_seconds").write_text(text)
        environment = dict(os.environ)
        environment.pop("NVCC_BUDGET_FACTOR", None)
        if factor:
            environment["NVCC_BUDGET_FACTOR"] = factor
        return subprocess.run([SCRIPTS / "nvcc_budget.sh", self.folder.name], env=environment, capture_output=True,
                              text=True)

    def test_within(self):
        result = self.budget({"a": "cpu_seconds 40.5 2.5\n", "b": "cpu_seconds 50.0 1.0\n"})
        self.assertEqual(result.returncode, 0)
        self.assertEqual(result.stdout, "    51.0  b.cu.o\n    43.0  a.cu.o\n"
                         "    94.0  in all, 2 files; the budget is 240, and 60 a file\n")

    def test_above_is_a_warning_and_far_above_a_failure(self):
        seconds = {"a": "cpu_seconds 70.0 1.0\n"}
        result = self.budget(seconds)
        self.assertEqual(result.returncode, 0)
        self.assertIn("warning: a.cu.o takes 71 CPU seconds of nvcc, the budget is 60", result.stdout)
        result = self.budget(seconds, factor="1.1")
        self.assertEqual(result.returncode, 1)
        self.assertIn("FAILED: a.cu.o takes 71 CPU seconds", result.stdout)
        result = self.budget({f"f{i}": "cpu_seconds 50.0 3.0\n" for i in range(7)})
        self.assertEqual(result.returncode, 1)
        self.assertIn("FAILED: the whole takes 442 CPU seconds of nvcc, the budget is 240", result.stdout)

    def test_what_was_not_timed_is_no_zero(self):
        result = self.budget({"a": "cpu_seconds 1.0 1.0\n", "b": ""})
        self.assertEqual(result.returncode, 2)
        self.assertIn("b.cu.o: what it took is not known; remove it and build again", result.stderr)

    def test_no_kernels(self):
        result = self.budget({})
        self.assertEqual(result.returncode, 2)
        self.assertIn("has no compiled kernels", result.stderr)


if __name__ == "__main__":
    unittest.main()
