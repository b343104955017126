#!/bin/sh
# run.sh [SECONDS] [NAME...] - each fuzz target for SECONDS (default 60), two at a time.
#
# Builds with clang in build-fuzz/ under address and undefined-behaviour sanitizers.  Fails on the
# first crash and leaves the input in build-fuzz/crashes/.  Corpora grow in build-fuzz/corpus/NAME.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
command -v clang >/dev/null || { echo "fuzz: clang not found (apt install clang libclang-rt-14-dev)" >&2; exit 77; }
mkdir -p build-fuzz/crashes
[ -x configure ] || autoreconf -fi >/dev/null 2>&1
[ -f build-fuzz/Makefile ] || (cd build-fuzz && ../configure CC=clang CFLAGS='-O1 -g' \
	--enable-fuzzers --without-cuda \
	--enable-sanitizers=address,undefined,fuzzer-no-link >configure.log 2>&1)
names=${*:-$(sed -n 's/^noinst_PROGRAMS += tests\/fuzz\///p' tests/fuzz/*.mk)}
# shellcheck disable=SC2086
make -C build-fuzz -s -j2 $(printf 'tests/fuzz/%s ' $names)
status=0
for name in $names; do
	mkdir -p "build-fuzz/corpus/$name"
	seeds=
	[ -d "tests/fuzz/seeds/$name" ] && seeds=tests/fuzz/seeds/$name
	# shellcheck disable=SC2086
	if build-fuzz/tests/fuzz/"$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=3000 \
		-artifact_prefix="build-fuzz/crashes/$name-" "build-fuzz/corpus/$name" $seeds \
		>"build-fuzz/$name.log" 2>&1; then
		echo "ok   $name: $(grep -oE 'Done [0-9]+ runs in [0-9]+ second' "build-fuzz/$name.log")"
	else
		echo "FAIL $name: see build-fuzz/$name.log"
		status=1
	fi
done
exit $status
