#!/usr/bin/env bash
# Layers and source lists, the format of C++ and CUDA files, and the shell scripts. Exits 1 where something is to mend.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
status=0

echo "layers and source lists (scripts/lint_includes.py)"
python3 scripts/lint_includes.py || status=1

mapfile -t sources < <(git ls-files --cached --others --exclude-standard '*.h' '*.cpp' '*.cu' '*.cuh')
# Versions of clang-format disagree on details; .clang-format is kept with Debian 12's.
if clang-format --version | grep -q 'version 14\.'; then
  echo "format of ${#sources[@]} files (clang-format 14)"
  unformatted=$(for file in "${sources[@]}"; do
    [[ -e $file ]] && ! clang-format --dry-run -Werror "$file" 2>/dev/null && echo "$file"
  done)
  if [[ -n $unformatted ]]; then
    printf '%s\n' "$unformatted"
    echo "fix: clang-format -i $(tr '\n' ' ' <<<"$unformatted")"
    status=1
  fi
else
  echo "format: skipped, it is kept with clang-format 14 and this is $(clang-format --version)"
fi

mapfile -t scripts < <(git ls-files --cached --others --exclude-standard '*.sh' .ci/run)
echo "${#scripts[@]} shell scripts (shellcheck)"
shellcheck -x -P . "${scripts[@]}" || status=1
exit "$status"
