#!/usr/bin/env bash
# Installs what building and running powertrain needs on Debian 12 or Ubuntu 24.04: system packages, LibTorch, and for
# the CUDA build a compiler. Only what is missing is installed; where nothing is, no network is used.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/setup.sh [--cpu | --cuda] [--fuzz] [--lint] [--check]

  --cpu      no CUDA compiler (default where there is no GPU)
  --cuda     the CUDA compiler too: the system's CUDA 13, else nvcc from PyPI (default where there is a GPU)
  --fuzz     also clang and its sanitizer run-time, for the fuzz targets
  --lint     also clang-format and shellcheck
  --check    install nothing: say what is missing and exit 1 if something is

Environment:
  POWERTRAIN_LIBTORCH   folder of a LibTorch to use (holds include/ and lib/): none is installed then
  POWERTRAIN_VENV       where the virtual environment lives (default .venv); .venv becomes a link to it

Examples:
  scripts/setup.sh
  scripts/setup.sh --cuda --fuzz --lint
TEXT
}

readonly torch_version=2.11.0
# The CUDA 13.0 compiler as wheels. The run-time headers and libraries come with the torch wheel.
readonly cuda_major=13
readonly cuda_wheels=(nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-cccl==13.0.85
  nvidia-cuda-runtime==13.0.96 nvidia-nvtx==13.0.85)
# Package and what it is here for: a command (with the oldest version that will do), a header or a path.
readonly base_packages=(
  git:git python3:python3 g++:g++ cmake:cmake:3.25 ninja-build:ninja ca-certificates:/etc/ssl/certs/ca-certificates.crt
  libyaml-cpp-dev:yaml-cpp/yaml.h libspdlog-dev:spdlog/spdlog.h libcxxopts-dev:cxxopts.hpp
  nlohmann-json3-dev:nlohmann/json.hpp libarchive-dev:archive.h libxxhash-dev:xxhash.h libgtest-dev:gtest/gtest.h
)
# The build goes without these: a compiler cache, a fast linker, the headers of the CPU process group.
readonly optional_packages=(ccache:ccache mold:mold libgloo-dev:gloo/context.h)

wanted='' fuzz=false lint=false check=false
for argument in "$@"; do
  case $argument in
    --cpu | --cuda) wanted=${argument#--} ;;
    --fuzz) fuzz=true ;;
    --lint) lint=true ;;
    --check) check=true ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; die "unknown argument $argument" ;;
  esac
done
cd "$project_dir"
venv_link=$project_dir/.venv
venv=${POWERTRAIN_VENV:-$venv_link}
missing=()

command_is_there() {  # NAME [MINIMUM]
  command -v "$1" >/dev/null || return 1
  [[ -z ${2:-} ]] && return 0
  local found
  found=$("$1" --version | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1)
  [[ $(printf '%s\n' "$2" "$found" | sort -V | head -n 1) == "$2" ]]
}

header_is_there() {
  local folder
  for folder in /usr/include /usr/local/include "/usr/include/$(uname -m)-linux-gnu"; do
    [[ -e $folder/$1 ]] && return 0
  done
  return 1
}

# Prints those of PACKAGE:PROBE[:MINIMUM] that are missing.
missing_packages() {
  local entry package probe minimum
  for entry in "$@"; do
    IFS=: read -r package probe minimum <<<"$entry"
    case $probe in
      /*) compgen -G "$probe" >/dev/null || echo "$package" ;;
      */* | *.h | *.hpp) header_is_there "$probe" || echo "$package" ;;
      *) command_is_there "$probe" "$minimum" || echo "$package" ;;
    esac
  done
}

apt_install() {
  local as_root=()
  command -v apt-get >/dev/null || die "missing: $*" \
    "this system has no apt-get: install the equivalents by hand, then run scripts/setup.sh again"
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "missing packages, and neither root nor sudo to install them" \
      "have an administrator run: apt-get install --no-install-recommends $*"
    as_root=(sudo)
  fi
  run "${as_root[@]}" apt-get update -q || return 1
  run "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# The interpreter for the virtual environment: one the torch wheel exists for, with venv and pip.
find_python() {
  local candidate
  for candidate in python3 /usr/bin/python3 python3.13 python3.12 python3.11 python3.10; do
    "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
      2>/dev/null && command -v "$candidate" && return 0
  done
  return 1
}

# Prints the folder of the torch that interpreter $1 would import, if it is the pinned version.
libtorch_of() {
  "$1" - "$torch_version" 2>/dev/null <<'PYTHON'
import importlib.metadata, importlib.util, os, sys
if importlib.metadata.version("torch").split("+")[0] != sys.argv[1]:
    sys.exit(1)
folder = os.path.dirname(importlib.util.find_spec("torch").origin)
if not os.path.exists(os.path.join(folder, "lib", "libtorch_cpu.so")):
    sys.exit(1)
print(folder)
PYTHON
}

# Prints a CUDA 13 nvcc, in the order scripts/cmake/Toolchain.cmake looks. Distributions' own older toolkits do not
# match LibTorch's CUDA and refuse their newer g++.
find_nvcc() {
  local candidate
  for candidate in "${CUDACXX:-}" "$venv"/lib/python3.*/site-packages/nvidia/cu"$cuda_major"/bin/nvcc \
    "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" nvcc; do
    [[ -n $candidate ]] && "$candidate" --version 2>/dev/null | grep -q "release $cuda_major\." &&
      command -v "$candidate" && return 0
  done
  return 1
}

# With POWERTRAIN_VENV the virtual environment is elsewhere and .venv, where CMake looks, links to it.
link_venv() {
  [[ $venv == "$venv_link" || $venv -ef $venv_link ]] && return 0
  $check && return 0
  [[ -e $venv_link && ! -L $venv_link ]] && die "POWERTRAIN_VENV is set, but .venv is a folder" "remove one of them"
  mkdir -p "$venv"
  run ln -sfn "$venv" "$venv_link"
}

make_venv() {
  local python
  python=$(find_python) || die "no Python of 3.10 to 3.13 with venv and pip: LibTorch comes as a wheel for these" \
    "install one, or set POWERTRAIN_LIBTORCH to the folder of a LibTorch $torch_version"
  if [[ ! -x $venv/bin/python ]] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    run "$python" -m venv --clear "$venv"
  fi
}

pip_install() {
  run "$venv/bin/python" -m pip install --no-input --disable-pip-version-check "$@" ||
    die "pip could not install $*" "see its message above: is the package index reachable? is the disk full?" \
      "(LibTorch with its CUDA libraries takes 5 GB)"
}

# The wheels hold libX.so.N only, in lib/; nvcc and the linker look for libX.so, and for lib64/.
link_cuda_wheels() {
  local root library name
  root=$(echo "$venv"/lib/python3.*/site-packages/nvidia/cu$cuda_major)
  [[ -e $root/lib64 ]] || ln -s lib "$root/lib64"
  for library in "$root"/lib/lib*.so.*; do
    name=${library##*/}
    name=${name%%.so.*}.so
    [[ -e $root/lib/$name ]] || ln -s "${library##*/}" "$root/lib/$name"
  done
}

step "What this machine is"
# shellcheck source=/dev/null
system=$(. /etc/os-release 2>/dev/null && echo "${PRETTY_NAME:-unknown}") || system=unknown
say "$system, $(uname -m), $(core_count) cores, $(awk '/^MemTotal/ {printf "%.0f GiB", $2 / 1048576}' /proc/meminfo)"
[[ $(uname -m) == x86_64 ]] || say "note: only x86_64 has been tried"
choose_preset "$wanted"

# The virtual environment is needed only for what is not there already.
if [[ -n ${POWERTRAIN_LIBTORCH:-} ]]; then
  [[ -e $POWERTRAIN_LIBTORCH/lib/libtorch_cpu.so ]] || die \
    "POWERTRAIN_LIBTORCH=$POWERTRAIN_LIBTORCH has no lib/libtorch_cpu.so" "it must be the folder with include/ and lib/"
  libtorch=$POWERTRAIN_LIBTORCH
else
  link_venv
  libtorch=$(libtorch_of "$venv/bin/python" || libtorch_of python3 || true)
fi
nvcc=''
[[ $preset == cpu ]] || nvcc=$(find_nvcc || true)
needs_venv=false
[[ -n $libtorch && ($preset == cpu || -n $nvcc) ]] || needs_venv=true

step "System packages"
packages=("${base_packages[@]}")
if $fuzz; then
  packages+=(clang:clang++ "libclang-rt-dev:/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a")
fi
if $lint; then packages+=(clang-format:clang-format shellcheck:shellcheck); fi
if $needs_venv; then find_python >/dev/null || packages+=(python3-venv:/nowhere); fi
mapfile -t required < <(missing_packages "${packages[@]}")
mapfile -t optional < <(missing_packages "${optional_packages[@]}")
if ((${#required[@]} + ${#optional[@]} == 0)); then
  say "all there"
else
  say "missing: ${required[*]} ${optional[*]}"
  missing+=("${required[@]}")
  if $check; then
    :
  elif ((${#required[@]})); then
    apt_install "${required[@]}" "${optional[@]}" || die "apt-get could not install ${required[*]} ${optional[*]}" \
      "see its message above; powertrain is made for Debian 12, Ubuntu 24.04 and newer"
  else
    # In a subshell: nothing that is missing here stops the build.
    (apt_install "${optional[@]}") || say "going on without ${optional[*]}"
  fi
fi
if ! $check; then
  command_is_there cmake 3.25 || die "cmake 3.25 or newer is needed, found $(cmake --version | head -n 1)" \
    "powertrain is made for Debian 12, Ubuntu 24.04 and newer"
fi

step "LibTorch $torch_version"
if [[ -n $libtorch ]]; then
  say "in $libtorch"
elif $check; then
  say "missing"
  missing+=("torch==$torch_version")
else
  say "not there: installing the wheel torch==$torch_version into $venv (0.5 GB, and 2 GB of CUDA libraries)"
  make_venv
  pip_install "torch==$torch_version"
  libtorch_of "$venv/bin/python" >/dev/null || die "torch==$torch_version was installed but cannot be found" \
    "remove $venv and run scripts/setup.sh again"
fi

if [[ $preset == cuda ]]; then
  step "CUDA $cuda_major compiler"
  if [[ -n $nvcc ]]; then
    say "$nvcc, $("$nvcc" --version | grep -o 'release [0-9.]*')"
  elif $check; then
    say "missing"
    missing+=("${cuda_wheels[@]}")
  else
    say "not there: installing nvcc from PyPI into $venv"
    make_venv
    pip_install "${cuda_wheels[@]}"
    link_cuda_wheels
    nvcc=$(find_nvcc) || die "nvcc was installed from PyPI but does not run" "remove $venv and try again"
    say "$nvcc, $("$nvcc" --version | grep -o 'release [0-9.]*')"
  fi
fi

if $check && ((${#missing[@]})); then
  die "missing: ${missing[*]}" "run scripts/setup.sh without --check to install them"
fi
step "Setup is complete"
