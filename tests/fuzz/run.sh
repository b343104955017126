#!/bin/sh
# run.sh [SECONDS|--smoke] [NAME...] - each fuzz target for SECONDS (default 60), two at a time.
#
# Builds with clang in build-fuzz/ under address and undefined-behaviour sanitizers.  Fails when
# a target crashed, leaves the input in build-fuzz/crashes/, and ends with a table of what ran.
# Corpora grow in build-fuzz/corpus/NAME.  --smoke: for CI, a few seconds each from the
# committed seeds alone, with fixed random numbers.
set -eu
cd "$(dirname "$0")/../.."

# what a fragment builds; a target that no fragment knows is a mistake, not a choice
targets() {
	sed -n 's/.*tests\/fuzz\/\([a-z0-9_]*\)\.c.*/\1/p' tests/fuzz/*.mk | sort -u
}

# run_one NAME: a line of the table
run_one() {
	corpus=build-fuzz/corpus/$1
	limits="-max_total_time=$FUZZ_SECONDS"
	if [ "$FUZZ_SECONDS" = smoke ]; then
		corpus=build-fuzz/smoke/$1
		rm -rf "$corpus"
		limits='-seed=1 -runs=50000 -max_total_time=5'
	fi
	mkdir -p "$corpus"
	seeds=tests/fuzz/seeds/$1
	[ -d "$seeds" ] || seeds=
	verdict=ok
	# shellcheck disable=SC2086
	build-fuzz/tests/fuzz/"$1" $limits -timeout=10 -rss_limit_mb=3000 -print_final_stats=1 \
		-artifact_prefix="build-fuzz/crashes/$1-" "$corpus" $seeds \
		>"build-fuzz/$1.log" 2>&1 || verdict=FAIL
	awk -v name="$1" -v verdict=$verdict '
		/^stat::number_of_executed_units/ { runs = $2 }
		/^Done/ { seconds = $5 }
		/ cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1)
			if ($i == "corp:") corp = $(i + 1) } }
		END { printf "| %-20s | %-4s | %9d | %7s | %6d | %-12s |\n", name, verdict, runs,
			seconds == "" ? "-" : seconds, cov, corp }' "build-fuzz/$1.log"
	if [ $verdict = FAIL ]; then
		grep -E 'ERROR: |SUMMARY: |runtime error: ' "build-fuzz/$1.log" >&2 || true
		echo "$1: see build-fuzz/$1.log" >&2
		return 1
	fi
}

if [ "${1:-}" = --one ]; then
	run_one "$2"
	exit
fi
FUZZ_SECONDS=${1:-60}
[ "$FUZZ_SECONDS" != --smoke ] || FUZZ_SECONDS=smoke
export FUZZ_SECONDS
[ $# -gt 0 ] && shift
command -v clang >/dev/null ||
	{ echo "fuzz: clang not found (apt install clang libclang-rt-14-dev)" >&2; exit 77; }
for f in tests/fuzz/*_fuzz.c; do
	name=$(basename "$f" .c)
	targets | grep -qx "$name" ||
		{ echo "fuzz: $f is in no fragment of tests/fuzz" >&2; exit 1; }
done
mkdir -p build-fuzz/crashes
[ -x configure ] || autoreconf -fi >/dev/null 2>&1
[ -f build-fuzz/Makefile ] || (cd build-fuzz && ../configure CC=clang CFLAGS='-O1 -g' \
	--enable-fuzzers --without-cuda \
	--enable-sanitizers=address,undefined,fuzzer-no-link >configure.log 2>&1)
names=${*:-$(targets)}
# shellcheck disable=SC2086
{ make -C build-fuzz -s generated &&
	make -C build-fuzz -s -j2 $(printf 'tests/fuzz/%s ' $names); } >build-fuzz/make.log 2>&1 ||
	{ tail -n 30 build-fuzz/make.log >&2; exit 1; }
echo "| target               |      |      runs | seconds |  edges | corpus       |"
echo "|---|---|---|---|---|---|"
# shellcheck disable=SC2086
printf '%s\n' $names | xargs -P 2 -n 1 "$0" --one
