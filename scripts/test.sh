#!/usr/bin/env bash
# Sets up, builds everything and runs the tests.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/test.sh [--cpu | --cuda] [CTEST ARGUMENT ...]

Tests that need a GPU say so and are skipped where there is none.

Examples:
  scripts/test.sh
  scripts/test.sh -R Safetensors        only tests whose name matches
  scripts/test.sh --cuda -L gpu         only the GPU tests
TEXT
}

wanted=''
ctest_arguments=()
for argument in "$@"; do
  case $argument in
    --cpu | --cuda) wanted=${argument#--} ;;
    -h | --help) usage; exit 0 ;;
    *) ctest_arguments+=("$argument") ;;
  esac
done
cd "$project_dir"

choose_preset "$wanted"
scripts/setup.sh "--$preset"
configure_and_build "$preset" build
step "Test"
# One thread a test: OpenMP barriers spin, and the tests run next to each other.
export OMP_NUM_THREADS=1
run ctest --test-dir build --output-on-failure --no-tests=error -j "$(core_count)" "${ctest_arguments[@]}"
