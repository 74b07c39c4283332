#!/usr/bin/env bash
# Fetches OpenWebText (8,013,769 documents, about 13 GB packed) and makes DIR/train.bin (17 GB) and DIR/val.bin.
set -euo pipefail

usage() {
  cat <<'END'
Usage: scripts/prepare_openwebtext.sh [DIR]

Fetches the 21 subsets of OpenWebText into DIR/download (default DIR: data/openwebtext) and tokenizes them with the
GPT-2 vocabulary: 0.0005 of the documents are held out, end of text follows every document. Needs curl, 13 GB for the
download and 18 GB for the token files. Run it again after an interruption: complete files are not fetched again, and a
file that broke off goes on where it stopped.

  POWERTRAIN=build/powertrain   the program
  OPENWEBTEXT_URL=...           folder of the subsets, where a mirror is nearer; file:///some/folder for files at hand

Examples:
  scripts/prepare_openwebtext.sh
  OPENWEBTEXT_URL=file:///mnt/subsets scripts/prepare_openwebtext.sh /data/openwebtext
END
}

die() {
  printf 'error: %s\n' "$@" >&2
  exit 1
}

if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
  usage
  exit 0
fi
if (($# > 1)) || [[ "${1:-}" == -* ]]; then
  usage >&2
  exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=${1:-$root/data/openwebtext}
program=${POWERTRAIN:-$root/build/powertrain}
url=${OPENWEBTEXT_URL:-https://huggingface.co/datasets/Skylion007/openwebtext/resolve/main/subsets}
url=${url%/}

command -v "$program" >/dev/null || die "$program: not found; build it first (see README.md) or set POWERTRAIN"
command -v curl >/dev/null || die "curl: not found; install it (apt-get install curl)"
mkdir -p "$folder/download"
subsets=()
for number in $(seq -w 0 20); do subsets+=("urlsf_subset$number.tar"); done

for name in "${subsets[@]}"; do
  file=$folder/download/$name
  if [[ -f $file ]]; then
    echo "have $name"
    continue
  fi
  echo "fetch $name"
  # Under another name until complete; -C - goes on where an interrupted run stopped. A part that is complete already
  # makes servers answer 416 (curl 22 or 33): tar judges it below.
  status=0
  curl --fail --location --retry 5 --retry-delay 2 -C - --output "$file.part" "$url/$name" || status=$?
  if ((status != 0)); then
    if [[ ! -s $file.part ]] || ! tar -tf "$file.part" >/dev/null 2>&1; then
      die "$url/$name could not be fetched (curl ended with $status)" \
        "run this again to go on, or name a mirror with OPENWEBTEXT_URL"
    fi
  fi
  # An error page or a file cut short by a proxy is no archive.
  if ! tar -tf "$file.part" >/dev/null 2>&1; then
    rm -f "$file.part"
    die "$url/$name is no complete tar archive; what came was removed" "run this again, or name a mirror with OPENWEBTEXT_URL"
  fi
  mv "$file.part" "$file"
done
"$program" data tokenize "${subsets[@]/#/$folder/download/}" --out "$folder" --tokenizer gpt2 --val_fraction 0.0005 \
  --seed 2357
"$program" data verify "$folder"
echo "train with: $program train --dataset=$(basename "$folder") --data_root=$(dirname "$folder")"
