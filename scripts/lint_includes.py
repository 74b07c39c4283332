#!/usr/bin/env python3
"""Checks the #include lines of the source tree against the layers of docs/architecture.md.

Usage: lint_includes.py [ROOT]

Prints one line per violation (file:line: what, why) and exits 1 if there is any. It also finds source files and tests
that no CMakeLists.txt lists: code that is never compiled, tests that never run. And names that two sources of one target
define in unnamed namespaces: such sources may be compiled together (power_batch_sources in scripts/cmake).
"""
import pathlib
import re
import sys

# Module -> the modules whose headers it may include. `core` may be included by every module under src/.
LAYERS = {
    "kernels": set(),
    "core": set(),
    "plot": set(),
    "ops": {"kernels"},
    "model": {"ops"},
    "data": {"ops"},
    "dist": {"ops"},
    "optim": {"ops"},
    "checkpoint": {"ops"},
    "config": {"model", "data", "dist", "optim", "checkpoint", "ops"},
    "train": {"config", "plot", "model", "data", "dist", "optim", "checkpoint", "ops"},
    "bench": {"config", "plot", "model", "data", "dist", "optim", "checkpoint", "ops"},
    "cli": {"train", "bench", "config", "plot", "model", "data", "dist", "optim", "checkpoint", "ops"},
}

# Third-party headers and who may include them: a module, or one file.
PACKAGES = [
    (re.compile(r"cxxopts"), "cxxopts", {"cli"}),
    (re.compile(r"yaml-cpp/"), "yaml-cpp", {"config"}),
    (re.compile(r"spdlog/|fmt/"), "spdlog", {"core/log.cpp"}),
    (re.compile(r"archive(_entry)?\.h$"), "libarchive", {"data"}),
    (re.compile(r"nccl\.h$|gloo/|.*c10d/"), "NCCL, Gloo and c10d", {"dist"}),
    (re.compile(r"(cuda|cuda_.*|cooperative_groups.*|mma)\.(h|hpp)$|cute/|cutlass/"), "CUDA", {"kernels", "ops"}),
    (re.compile(r"torch/|ATen/|c10/"), "LibTorch",
     {"ops", "model", "data", "dist", "optim", "checkpoint", "train", "bench", "cli"}),
]

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]')
SOURCES = {".h", ".hpp", ".cuh", ".cpp", ".cc", ".cu"}
COMPILED = {".cpp", ".cc", ".cu"}


def module_of(path):
    """'kernels', or the folder under src/, of a path relative to the root; None for anything else."""
    parts = pathlib.PurePosixPath(path).parts
    if parts[0] == "kernels":
        return "kernels"
    return parts[1] if parts[0] == "src" and len(parts) > 2 else None


def check_includes(root, path):
    relative = path.relative_to(root).as_posix()
    module = module_of(relative)
    if module not in LAYERS:
        yield f"{relative}:1: folder '{module}' has no layer; add it to LAYERS in scripts/lint_includes.py"
        return
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        header = match.group(1)
        if header.startswith("."):
            yield f"{relative}:{number}: write the path from the repository root or src/ ({header})"
        target = header.split("/")[0] if "/" in header else None
        allowed = LAYERS[module] | {module} | ({"core"} if module != "kernels" else set())
        if target in LAYERS and target not in allowed:
            yield f"{relative}:{number}: {module} may not include {target} ({header})"
        for pattern, name, owners in PACKAGES:
            if pattern.match(header) and not owners & {module, relative.removeprefix("src/")}:
                yield f"{relative}:{number}: {name} belongs to {', '.join(sorted(owners))}, not to {module} ({header})"


TARGET = re.compile(r"(?:power_library|power_test|add_library|target_sources)\((\w+)\s+(?:TORCH|SHARED|PRIVATE)\b([^()]*(?:\([^()]*\)[^()]*)*)\)")
ALONE = re.compile(r"power_cuda_sources\(([^()]*)\)")  # with options of their own
DEFINITION = re.compile(r"^(?:struct|class|enum(?: class)?)\s+(\w+)[^;]*$|^[A-Za-z][\w:<>,&* ]*?[ &*](\w+)(?:\(|\s*=|\[|\{)")


def unnamed_definitions(path):
    """(enclosing namespace, name, line) of what a source defines in unnamed namespaces at file scope."""
    enclosing, inside = "", False
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        named = re.match(r"namespace ([\w:]+) \{", line)
        if named:
            enclosing = named.group(1)
        elif line == "namespace {":
            inside = True
        elif line == "}  // namespace":
            inside = False
        elif inside and not line.startswith(("using ", "namespace ", "TEST", "template", "//", "#", "}")):
            match = DEFINITION.match(line)
            if match:
                yield enclosing, match.group(1) or match.group(2), number


def check_batches(root):
    for listing in sorted([*root.glob("src/*/CMakeLists.txt"), *root.glob("tests/*/CMakeLists.txt")]):
        text = listing.read_text()
        alone = " ".join(ALONE.findall(text)).split()
        seen = {}
        for target in TARGET.finditer(text):
            for word in target.group(2).split():
                path = listing.parent / word
                if not word.endswith(".cpp") or word in alone or not path.is_file():
                    continue
                for enclosing, name, number in unnamed_definitions(path):
                    first = seen.setdefault((target.group(1), enclosing, name), path)
                    if first != path:
                        yield (f"{path.relative_to(root).as_posix()}:{number}: {name} is also in the unnamed namespace of "
                               f"{first.relative_to(root).as_posix()}, of the same target; share it or rename one")


def lists_file(cmake_text, name):
    """Whether a word of the CMake text is `name`; a variable in it stands for any part of a name."""
    for word in re.split(r'[\s()";]+', re.sub(r"#.*", "", cmake_text)):
        parts = re.split(r"\$\{\w+\}", word)
        if any(parts) and re.fullmatch(r"[\w-]+".join(map(re.escape, parts)), name):
            return True
    return False


def check_listed(root, path):
    """A compiled file must be named in a CMakeLists.txt of its own folder or of one above it."""
    folder = path.parent
    while True:
        lists = folder / "CMakeLists.txt"
        if lists.exists() and lists_file(lists.read_text(), path.relative_to(folder).as_posix()):
            return
        if folder == root:
            break
        folder = folder.parent
    yield f"{path.relative_to(root).as_posix()}:1: not listed in any CMakeLists.txt: never compiled"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    problems = []
    for top in ("kernels", "src", "tests"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix not in SOURCES:
                continue
            if top != "tests":
                problems += check_includes(root, path)
            if path.suffix in COMPILED:
                problems += check_listed(root, path)
    problems += check_batches(root)
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
