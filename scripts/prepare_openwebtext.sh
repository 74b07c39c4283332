#!/usr/bin/env bash
# Fetches OpenWebText (8,013,769 documents, about 13 GB packed) and makes DIR/train.bin (17 GB) and DIR/val.bin.
set -euo pipefail

usage() {
  cat <<'END'
Usage: scripts/prepare_openwebtext.sh [DIR]

Fetches the 21 subsets of OpenWebText into DIR/download (default DIR: data/openwebtext) and tokenizes them with the
GPT-2 vocabulary: 0.0005 of the documents are held out, end of text follows every document. Needs curl, 13 GB for the
download and 18 GB for the token files. Run it again after an interruption: complete files are not fetched again.

  POWERTRAIN=build/powertrain   the program
  OPENWEBTEXT_URL=...           folder of the subsets, where a mirror is nearer
END
}

if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
  usage
  exit 0
fi
if (( $# > 1 )); then
  usage >&2
  exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=${1:-$root/data/openwebtext}
program=${POWERTRAIN:-$root/build/powertrain}
url=${OPENWEBTEXT_URL:-https://huggingface.co/datasets/Skylion007/openwebtext/resolve/main/subsets}

if ! command -v "$program" > /dev/null; then
  echo "$program: not found; build it first (see README.md) or set POWERTRAIN" >&2
  exit 1
fi
mkdir -p "$folder/download"
for number in $(seq -w 0 20); do
  name=urlsf_subset$number.tar
  if [[ -f "$folder/download/$name" ]]; then
    echo "have $name"
    continue
  fi
  echo "fetch $name"
  # Under another name until complete; -C - goes on where an interrupted run stopped.
  curl --fail --location --retry 5 -C - --output "$folder/download/$name.part" "$url/$name"
  mv "$folder/download/$name.part" "$folder/download/$name"
done
"$program" data tokenize "$folder"/download/urlsf_subset*.tar --out "$folder" --tokenizer gpt2 --val_fraction 0.0005 \
  --seed 2357
"$program" data verify "$folder"
echo "train with: $program train --dataset=$(basename "$folder") --data_root=$(dirname "$folder")"
