"""scripts/prepare_openwebtext.sh on 21 small subsets in a local folder: fetches, goes on, refuses what is no archive."""
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "prepare_openwebtext.sh"
PROGRAM = sys.argv.pop() if len(sys.argv) > 1 else "powertrain"


def subset(documents):
    """A tar of one .xz tar of texts, as the subsets are."""
    inner, outer = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:xz") as tar:
        for name, text in documents:
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    with tarfile.open(fileobj=outer, mode="w") as tar:
        info = tarfile.TarInfo("part.xz")
        info.size = len(inner.getvalue())
        tar.addfile(info, io.BytesIO(inner.getvalue()))
    return outer.getvalue()


@unittest.skipUnless(shutil.which("curl"), "curl is not installed")
class PrepareOpenWebText(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.source = pathlib.Path(folder.name) / "source"
        self.out = pathlib.Path(folder.name) / "set"
        self.source.mkdir()
        for number in range(21):
            documents = [(f"{i}.txt", f"document {i} of subset {number}\n".encode()) for i in range(10)]
            (self.source / f"urlsf_subset{number:02}.tar").write_bytes(subset(documents))

    def run_script(self, *arguments):
        environment = dict(os.environ, POWERTRAIN=PROGRAM, OPENWEBTEXT_URL=f"file://{self.source}/")
        return subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, text=True)

    def test_every_document_arrives_and_nothing_is_fetched_twice(self):
        # What an interrupted run left: the beginning of a file.
        (self.out / "download").mkdir(parents=True)
        whole = (self.source / "urlsf_subset03.tar").read_bytes()
        (self.out / "download/urlsf_subset03.tar.part").write_bytes(whole[:3000])
        result = self.run_script(self.out)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual((self.out / "download/urlsf_subset03.tar").read_bytes(), whole)
        self.assertIn("train with:", result.stdout)
        texts = b""
        for name in ("train.bin", "val.bin"):
            texts += subprocess.run([PROGRAM, "data", "tokenize", "--decode", self.out / name], capture_output=True,
                                    check=True).stdout + b"\n"
        for number in range(21):
            for i in range(10):
                self.assertIn(f"document {i} of subset {number}\n".encode(), texts)
        again = self.run_script(self.out)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(again.stdout.count("have urlsf_subset"), 21)
        self.assertNotIn("fetch", again.stdout)

    def test_a_part_that_is_complete_is_taken(self):
        (self.out / "download").mkdir(parents=True)
        whole = (self.source / "urlsf_subset00.tar").read_bytes()
        (self.out / "download/urlsf_subset00.tar.part").write_bytes(whole)
        result = self.run_script(self.out)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual((self.out / "download/urlsf_subset00.tar").read_bytes(), whole)

    def test_what_is_missing_or_no_archive_is_said(self):
        (self.source / "urlsf_subset05.tar").write_bytes(b"<html>too many requests</html>")
        result = self.run_script(self.out)
        self.assertEqual(result.returncode, 1)
        self.assertIn("urlsf_subset05.tar is no complete tar archive; what came was removed", result.stderr)
        self.assertFalse((self.out / "download/urlsf_subset05.tar.part").exists())
        self.assertTrue((self.out / "download/urlsf_subset04.tar").exists())
        self.assertFalse((self.out / "train.bin").exists())
        (self.source / "urlsf_subset05.tar").unlink()
        result = self.run_script(self.out)
        self.assertEqual(result.returncode, 1)
        self.assertIn("urlsf_subset05.tar could not be fetched (curl ended with 37)", result.stderr)

    def test_usage(self):
        self.assertEqual(self.run_script("--help").returncode, 0)
        self.assertEqual(self.run_script("a", "b").returncode, 2)
        self.assertEqual(self.run_script("--fast").returncode, 2)


if __name__ == "__main__":
    unittest.main()
