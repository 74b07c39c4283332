#!/usr/bin/env bash
# From a fresh clone to a trained model: sets up, builds build/powertrain, trains a small power-attention GPT on the
# shipped text (on the GPU if there is one), evaluates it, writes a sample and the loss curve.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/quickstart.sh [--cpu | --cuda] [--fresh] [--KEY=VALUE ...]

  --fresh        train from the start; the earlier run is moved aside
  --KEY=VALUE    any configuration key, as in `powertrain train --help`

Run again, it goes on where the last one stopped: a finished model is evaluated and sampled again.

Examples:
  scripts/quickstart.sh
  scripts/quickstart.sh --fresh --max_iters=200
  scripts/quickstart.sh --out_dir=runs/degree-4 --degree=4
TEXT
}

wanted='' out_dir=runs/quickstart
train_arguments=()
start=--resume=auto
for argument in "$@"; do
  case $argument in
    --cpu | --cuda) wanted=${argument#--} ;;
    --fresh) start=--overwrite=true ;;
    --out_dir=*) out_dir=${argument#*=} ;;
    -h | --help) usage; exit 0 ;;
    --*=*) train_arguments+=("$argument") ;;
    *) usage >&2; die "unknown argument $argument" ;;
  esac
done
cd "$project_dir"

choose_preset "$wanted"
scripts/setup.sh "--$preset"
configure_and_build "$preset" build powertrain

config=configs/tiny_cpu.yaml
if [[ $preset == cuda ]] && has_gpu; then config=configs/tiny_gpu.yaml; fi
step "Train $config in $out_dir"
status=0
run build/powertrain train --config "$config" --out_dir="$out_dir" "$start" "${train_arguments[@]}" || status=$?
if ((status == 5)); then
  say "stopped and saved; to go on: scripts/quickstart.sh --out_dir=$out_dir ${train_arguments[*]}"
fi
((status == 0)) || exit "$status"

step "Evaluate on the held-out text"
run build/powertrain eval --checkpoint "$out_dir"

step "Write a sample"
run build/powertrain generate --checkpoint "$out_dir" --prompt 'ROMEO:' --max_new_tokens 400 --temperature 0.8 --seed 1
echo

step "Draw the loss curve"
run build/powertrain plot "$out_dir" --out "$out_dir/loss.svg"

step "Done"
say "program     build/powertrain (try build/powertrain --help)"
say "run folder  $out_dir (checkpoints, metrics.jsonl, loss.svg)"
