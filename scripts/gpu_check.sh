#!/bin/sh
# usage: scripts/gpu_check.sh [BUILD_FOLDER]
# On a machine with a GPU: runs the kernels' tests, compute-sanitizer (memory, races, initialisation) on a reduced grid
# where it is installed, the operator's selftest, and prints a short table of times. BUILD_FOLDER [build] is a build of the
# preset `cuda`; the test and bench programs of the kernels need nothing but a driver, so a folder copied from another
# machine works too.
set -u
build=${1:-build}
tests=$build/tests/kernels
failed=0
run() {
  echo "== $*"
  "$@" || { failed=1; echo "FAILED: $*"; }
}

for program in "$tests/kernels_gpu_test" "$tests/power_kernels_bench" "$tests/power_decode_bench"; do
  if [ ! -x "$program" ]; then
    echo "$program is not there: cmake --preset cuda && cmake --build build --target kernels_gpu_test power_kernels_bench power_decode_bench" >&2
    exit 2
  fi
done

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
run "$tests/kernels_gpu_test" --gtest_brief=1
if command -v compute-sanitizer >/dev/null; then
  # Lengths, groups, head dims and strides on sequences short enough for the checker.
  export POWER_TEST_REDUCED=1
  grid='*FewerQueries*:*SlicesOf*:*HeadDimsBetween*:DecodeGpu.SeveralTokens*:DecodeGpu.StatesOut*'
  for tool in memcheck racecheck initcheck; do
    run compute-sanitizer --tool "$tool" --error-exitcode 9 "$tests/kernels_gpu_test" --gtest_brief=1 --gtest_filter="$grid"
  done
  unset POWER_TEST_REDUCED
else
  echo "compute-sanitizer is not installed: memory, race and initialisation checks left out"
fi
[ -x "$build/powertrain" ] && run "$build/powertrain" selftest
run "$tests/power_kernels_bench"
run "$tests/power_kernels_bench" fp32 64 1024 12 1 64 2 0 1 16384 12 1 64 2 1024 1 16384 12 1 16 4 1024
run "$tests/power_decode_bench"
if [ -x "$build/powertrain" ]; then
  run "$build/powertrain" bench operator
  run "$build/powertrain" bench operator --shape 1,65536,8 --breakdown
  run "$build/powertrain" bench operator --contexts 1024,4096,16384,65536
fi
[ "$failed" -eq 0 ] && echo "all checks passed"
exit "$failed"
