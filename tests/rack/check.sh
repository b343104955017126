#!/bin/sh
# check.sh - the rack's short form where this machine can boot one; 77 and why where it cannot.
#
#	tests/rack/check.sh BUILD-DIR	(`make rack-check`; six minutes, three of them packages)
#
# Whether it can is asked before the packages are built.  HEARTH_RACK_SECONDS bounds the rack.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "$1" && pwd)
python=${HEARTH_PYTHON:-python3}
seconds=${HEARTH_RACK_SECONDS:-300}
"$python" "$top/tests/rack/run.py" --can
for tool in dpkg-buildpackage dh; do
	command -v $tool >/dev/null || { echo "skipped: no $tool"; exit 77; }
done
# what boots here computes on the CPU: no CUDA in these packages
export DEB_BUILD_PROFILES="${DEB_BUILD_PROFILES-}"
"${MAKE:-make}" -C "$build" -s deb
# Three machines on a busy one can be too slow for a scenario's patience: a failure counts when it
# happens twice, and a machine that has no time for it skips, visibly.
for try in first second; do
	rc=0
	timeout "$seconds" "$python" "$top/tests/rack/run.py" --short --debs "$build/deb" || rc=$?
	[ $rc != 124 ] || { echo "skipped: the rack took more than $seconds s"; exit 77; }
	[ $rc != 0 ] || exit 0
	echo "rack: the $try try failed ($rc)"
done
exit $rc
