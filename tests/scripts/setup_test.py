"""The decisions of scripts/common.sh and scripts/setup.sh, with stand-ins for the commands of a machine."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).parents[2]


class Machine:
    """A copy of the scripts in a folder of its own, and a PATH with stand-ins in front of the real commands."""

    def __init__(self, folder):
        self.root = pathlib.Path(folder) / "project"
        self.bin = pathlib.Path(folder) / "bin"
        self.bin.mkdir()
        shutil.copytree(ROOT / "scripts", self.root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))

    def command(self, name, text):
        path = self.bin / name
        path.write_text("#!/bin/bash\n" + text + "\n")
        path.chmod(0o755)

    def configured(self, cuda):
        (self.root / "build").mkdir()
        (self.root / "build" / "CMakeCache.txt").write_text(f"POWERTRAIN_CUDA:BOOL={cuda}\n")

    def bash(self, script, **environment):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("POWERTRAIN_") and k != "CUDACXX"}
        kept.update(environment, PATH=f"{self.bin}:{os.environ['PATH']}")
        return subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=self.root, env=kept, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)

    def preset(self, wanted=""):
        result = self.bash(f'source scripts/common.sh; choose_preset "{wanted}"; echo "=$preset"')
        return result.stdout.rsplit("=", 1)[-1].strip()


class Presets(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.machine = Machine(folder.name)

    def test_follows_the_gpu(self):
        for capability, expected in [("9.0", "cuda"), ("8.0", "cuda"), ("12.0", "cuda"), ("7.5", "cpu"),
                                     ("7.5\n9.0", "cuda"), ("", "cpu"), ("[N/A]", "cpu")]:
            with self.subTest(capability=capability):
                self.machine.command("nvidia-smi", f"echo '{capability}'")
                self.assertEqual(self.machine.preset(), expected)

    def test_a_failing_driver_is_no_gpu(self):
        self.machine.command("nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
        self.assertEqual(self.machine.preset(), "cpu")

    def test_keeps_what_build_is_and_obeys_the_flag(self):
        self.machine.command("nvidia-smi", "echo 9.0")
        self.machine.configured("OFF")
        self.assertEqual(self.machine.preset(), "cpu")
        self.assertEqual(self.machine.preset("cuda"), "cuda")


class Setup(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.machine = Machine(folder.name)
        self.libtorch = pathlib.Path(folder.name) / "libtorch"
        (self.libtorch / "lib").mkdir(parents=True)
        (self.libtorch / "lib" / "libtorch_cpu.so").touch()
        for installer in ("apt-get", "sudo"):
            self.machine.command(installer, 'echo "installer called: $0 $*"; exit 1')

    def setup(self, arguments, **environment):
        return self.machine.bash(f"scripts/setup.sh {arguments}", **environment)

    def test_nothing_is_installed_where_nothing_is_missing(self):
        if "missing" in self.setup("--cpu --check", POWERTRAIN_LIBTORCH=str(self.libtorch)).stdout:
            self.skipTest("this machine lacks a package that scripts/setup.sh would install")
        result = self.setup("--cpu", POWERTRAIN_LIBTORCH=str(self.libtorch))
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertIn(f"in {self.libtorch}", result.stdout)
        self.assertNotIn("installer called", result.stdout)
        self.assertFalse((self.machine.root / ".venv").exists())

    def test_an_old_cmake_counts_as_missing(self):
        self.machine.command("cmake", "echo cmake version 3.22.1")
        result = self.setup("--cpu --check", POWERTRAIN_LIBTORCH=str(self.libtorch))
        self.assertEqual(result.returncode, 1)
        self.assertIn("missing: cmake", result.stdout)
        self.assertNotIn("installer called", result.stdout)

    def test_a_failing_installer_ends_it_with_what_is_missing(self):
        self.machine.command("cmake", "echo cmake version 3.22.1")
        result = self.setup("--cpu", POWERTRAIN_LIBTORCH=str(self.libtorch))
        self.assertEqual(result.returncode, 1)
        self.assertIn("installer called", result.stdout)
        self.assertIn("error: apt-get could not install cmake", result.stdout)

    def test_a_folder_that_is_no_libtorch_is_refused(self):
        result = self.setup("--cpu", POWERTRAIN_LIBTORCH="/nowhere")
        self.assertEqual(result.returncode, 1)
        self.assertIn("POWERTRAIN_LIBTORCH=/nowhere has no lib/libtorch_cpu.so", result.stdout)

    def test_an_nvcc_of_another_cuda_does_not_count(self):
        self.machine.command("nvcc", "echo 'Cuda compilation tools, release 12.4, V12.4.131'")
        result = self.setup("--cuda --check", POWERTRAIN_LIBTORCH=str(self.libtorch), CUDA_HOME="/nowhere")
        self.assertEqual(result.returncode, 1)
        self.assertIn("nvidia-cuda-nvcc==13", result.stdout)
        self.machine.command("nvcc", "echo 'Cuda compilation tools, release 13.0, V13.0.88'")
        result = self.setup("--cuda --check", POWERTRAIN_LIBTORCH=str(self.libtorch), CUDA_HOME="/nowhere")
        self.assertEqual(result.returncode, 0, result.stdout)

    def test_an_unknown_argument_is_refused(self):
        result = self.setup("--gpu")
        self.assertEqual(result.returncode, 1)
        self.assertIn("unknown argument --gpu", result.stdout)


if __name__ == "__main__":
    unittest.main()
