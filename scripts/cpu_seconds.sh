#!/usr/bin/env bash
# usage: cpu_seconds.sh COMMAND...
# Runs a command; its last line on stderr says what it and its children took: "cpu_seconds USER SYSTEM".
LC_ALL=C  # a point in the numbers
TIMEFORMAT='cpu_seconds %3U %3S'
time "$@"
