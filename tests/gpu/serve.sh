#!/bin/bash
# serve.sh - the real router and real workers on a GPU, over HTTP: see README.md.
#
#	tests/gpu/serve.sh [-b FOLDER] [-d DEVICE] [-x] [PART...]
#
#	-b	programs and libraries, as pack_serve.sh leaves them (default: build-gpu-serve/pack), or
#		any build folder
#	-d	cuda:0 if not given; cpu runs all of it here, and is the test of this script
#	-x	this machine is thrown away afterwards: where the manual's examples cannot have
#		namespaces of their own, they may have its /etc/hearth and /run/hearth
#
# Parts, in this order if none is named: tiny workers crowd examples big.  What each printed goes to
# $OUT/serve-PART.txt ($OUT: here if not set), the verdicts to $OUT/serve.txt.  Exit status 1 when a
# part failed.
# shellcheck disable=SC2317	# parts are called by name
set -uo pipefail
here=$PWD
root=$(cd "$(dirname "$0")/../.." && pwd) || exit 99
pack=$root/build-gpu-serve/pack device=cuda:0 bare=
while getopts b:d:x c; do
	case $c in
	b) pack=$(cd "$OPTARG" && pwd) || exit 64 ;;
	d) device=$OPTARG ;;
	x) bare=1 ;;
	*) exit 64 ;;
	esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || set -- tiny workers crowd examples big
out=${OUT:-.} failed=0
python=${PYTHON:-python3}
# a pack has these scripts too, and takes the model from the tree it is run in
if [ ! -e "$root/models/tiny" ]; then
	mkdir -p "$root/models"
	ln -sfn "$here/models/tiny" "$root/models/tiny"
fi
export top_builddir=$pack top_srcdir=$root HEARTH_DEVICE=$device PYTHONUNBUFFERED=1

part_tiny() { "$python" "$root/tests/gpu/serve.py"; }

# Killed and started again, continued bit for bit, cancelled, many at once.
part_workers() { "$python" "$root/tests/box/real_worker.py"; }

part_crowd() { "$python" "$root/tests/box/same_answer.py" --build "$pack" --device "$device"; }

# The examples of the manual that need a GPU, by the test that runs the others; $PAGES: of these only.
part_examples() {
	export HEARTH_EXAMPLES_NEED=gpu
	# shellcheck disable=SC2086
	"$python" "$root/tests/box/man_examples.py" ${PAGES:-}
	local code=$?
	if [ "$code" = 77 ] && [ -n "$bare" ]; then
		# shellcheck disable=SC2086
		HEARTH_EXAMPLES_BARE=1 "$python" "$root/tests/box/man_examples.py" ${PAGES:-}
		code=$?
	fi
	return "$code"
}

part_big() { "$python" "$root/tests/gpu/serve_big.py"; }

say() { echo "$*" | tee -a "$out/serve.txt"; }

mkdir -p "$out"
for p in "$pack"/bin/hearth* "$pack"/tests/tools/dummy_checkpoint; do
	missing=$(ldd "$p" 2>&1 | grep 'not found')
	[ -z "$missing" ] || { say "$p lacks: $missing"; exit 1; }
done
say "commit $(cat "$pack/commit" 2>/dev/null || echo unknown), $device"
for part in "$@"; do
	declare -F "part_$part" >/dev/null || { say "$part: no such part"; exit 64; }
	begin=$SECONDS
	"part_$part" >"$out/serve-$part.txt" 2>&1
	code=$?
	case $code in
	0) verdict=passed ;;
	77) verdict=skipped ;;
	*) verdict="FAILED ($code)" failed=1 ;;
	esac
	say "$part: $verdict, $((SECONDS - begin)) s"
	sed 's/^/    /' "$out/serve-$part.txt" | tail -60 | cut -c1-400
done
exit $failed
