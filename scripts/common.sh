# Sourced by setup.sh, quickstart.sh, test.sh and .ci/run: messages, the choice of a preset, configure and build.
# shellcheck shell=bash

project_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

step() { printf '\n==> %s\n' "$*"; }
say() { printf '    %s\n' "$*"; }
die() {
  printf '\nerror: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '       %s\n' "$line" >&2; done
  exit 1
}

# Prints a command as it can be pasted, then runs it.
run() {
  local shown='' word
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=,+@%-]+$ ]] || word=$(printf "'%s'" "${word//\'/\'\\\'\'}")
    shown+=" $word"
  done
  printf '    $%s\n' "$shown"
  "$@"
}

# The kernels need compute capability 8.0 (Ampere) or newer.
has_gpu() {
  local capability
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sort -g | tail -n 1) || return 1
  [[ $capability =~ ^[0-9]+\.[0-9]+$ ]] && ((${capability%%.*} >= 8))
}

# choose_preset WANTED: sets `preset`. WANTED is cpu, cuda or empty: then what build/ already is, else cuda where there
# is a GPU.
choose_preset() {
  local cache=$project_dir/build/CMakeCache.txt
  if [[ -n $1 ]]; then
    preset=$1
    say "preset $preset: as asked for"
  elif [[ -f $cache ]] && grep -q '^POWERTRAIN_CUDA:BOOL=' "$cache"; then
    preset=cpu
    grep -q '^POWERTRAIN_CUDA:BOOL=ON' "$cache" && preset=cuda
    say "preset $preset: build/ is configured so (--cpu or --cuda changes it)"
  elif has_gpu; then
    preset=cuda
    say "preset cuda: this machine has a GPU (--cpu builds without CUDA)"
  else
    preset=cpu
    say "preset cpu: no NVIDIA GPU of compute capability 8.0 or newer here (--cuda builds the kernels all the same)"
  fi
}

# nproc itself answers OMP_NUM_THREADS where that is set.
core_count() { env -u OMP_NUM_THREADS nproc; }

# Compilers of LibTorch's headers take up to 2 GiB each.
build_jobs() {
  local cores gib
  cores=$(core_count)
  gib=$(awk '/^MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo)
  local jobs=$((gib / 2 < cores ? gib / 2 : cores))
  echo $((jobs > 1 ? jobs : 1))
}

# configure_and_build PRESET FOLDER [-DOPTION=VALUE ...] [TARGET ...]
configure_and_build() {
  local preset=$1 folder=$2 began=$SECONDS options=()
  shift 2
  while [[ ${1:-} == -D* ]]; do
    options+=("$1")
    shift
  done
  step "Configure $folder (preset $preset)"
  run cmake --preset "$preset" -B "$folder" "${options[@]}"
  step "Build $folder ($(build_jobs) at a time)"
  run cmake --build "$folder" -j "$(build_jobs)" ${1:+--target "$@"}
  say "configured and built in $((SECONDS - began)) s"
}
