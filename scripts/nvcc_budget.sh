#!/bin/sh
# usage: scripts/nvcc_budget.sh [BUILD_FOLDER]
# What the kernels of a build took of nvcc, in CPU seconds (user and system) of the machine that compiled them: a table,
# and exit code 1 above the budget. An object that came out of ccache counts what it took when it was compiled.
#
# The budget is 240 seconds in all and 60 a file. Machines differ, and a busy one makes a CPU second worth less: above the
# budget this only warns, above NVCC_BUDGET_FACTOR (1.5) times the budget it fails.
set -u
build=${1:-build}
folder=$build/kernels/CMakeFiles/power_kernels.dir
factor=${NVCC_BUDGET_FACTOR:-1.5}
objects=$(find "$folder" -name '*.cu.o' 2>/dev/null | sort)
if [ -z "$objects" ]; then
  echo "$build has no compiled kernels: cmake --preset cuda -B $build && cmake --build $build --target power_kernels" >&2
  exit 2
fi
times=$(mktemp)
trap 'rm -f "$times"' EXIT
for object in $objects; do
  if ! grep -qs '^cpu_seconds ' "$object.cpu_seconds"; then
    echo "$object: what it took is not known; remove it and build again" >&2
    exit 2
  fi
  sed "s|^cpu_seconds|${object#"$folder/"}|" "$object.cpu_seconds" >>"$times"
done
awk '{ printf "%8.1f  %s\n", $2 + $3, $1 }' "$times" | sort -rn
awk -v all=240 -v one=60 -v factor="$factor" '
  function judge(what, found, budget) {
    if (found <= budget) return
    over = found > factor * budget
    if (over) bad = 1
    printf("%s %s takes %.0f CPU seconds of nvcc, the budget is %d: instantiate less, or split the file\n",
      over ? "FAILED:" : "warning:", what, found, budget)
  }
  { sum += $2 + $3 }
  END {
    printf("%8.1f  in all, %d files; the budget is %d, and %d a file\n", sum, NR, all, one)
    while ((getline < FILENAME) > 0) judge($1, $2 + $3, one)
    judge("the whole", sum, all)
    exit bad
  }' "$times"
