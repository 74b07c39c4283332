#!/bin/sh
# usage: nvcc_check.sh MAX_SPILL_BYTES COMMAND...
# Runs an nvcc command with ptxas' report on, and fails where a kernel spills more than MAX_SPILL_BYTES of registers or
# ptxas says that it serialised a tensor-core loop (C7510 to C7516). Other output passes through. The command's
# "cpu_seconds USER SYSTEM" (cpu_seconds.sh) goes into OBJECT.cpu_seconds, for nvcc_budget.sh.
limit=$1
shift
report=$(mktemp)
trap 'rm -f "$report"' EXIT
case " $* " in
  *" -c "*) "$@" -Xptxas -v >"$report" 2>&1 ;;
  *) exec "$@" ;;
esac
status=$?
grep -v -e '^ptxas info' -e 'bytes stack frame' -e '^cpu_seconds ' -e '^$' "$report" >&2
[ "$status" -eq 0 ] || exit "$status"
object=
previous=
for word in "$@"; do
  [ "$previous" = -o ] && object=$word
  previous=$word
done
grep '^cpu_seconds ' "$report" >"$object.cpu_seconds"
awk -v limit="$limit" '
  /Compiling entry function/ { split($0, part, "\047"); kernel = part[2]; arch = part[4] }
  /bytes spill stores/ {
    for (i = 1; i < NF; ++i) if ($(i + 1) == "bytes" && $(i + 2) == "spill" && $(i + 3) ~ /^stores/) spill = $i
    if (spill + 0 > limit) {
      printf "%s for %s spills %d bytes of registers, more than %d: use smaller tiles (config.h) or fewer values at once\n", kernel, arch, spill, limit
      bad = 1
    }
  }
  /C751[0-6]|[Ss]erialized/ { print; bad = 1 }
  END { exit bad }' "$report" >&2
