#!/bin/sh
# units.sh - the unit files parse, and their sandboxes are as tight as was promised.
#
# Exposure by `systemd-analyze security`: router 1.5 at most, hearthd, worker and helper 4.0.
set -eu
units=$top_builddir/etc/systemd
command -v systemd-analyze >/dev/null || { echo "no systemd-analyze: skipped"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0

# limit UNIT EXPOSURE*10
limit() {
	cp "$units/$1" "$dir/"
	if ! systemd-analyze security --offline=yes --threshold="$2" "$dir/$1" \
		>"$dir/out" 2>&1; then
		bad=1
		grep '✗' "$dir/out" || cat "$dir/out"
	fi
	level=$(sed -n 's/.*Overall exposure level for [^:]*: \([0-9.]*\).*/\1/p' "$dir/out")
	echo "$1: $level, limit $2/10"
	# a word that this systemd does not know would be a lost line of the sandbox
	if grep -iE 'unknown (key|section)|failed to parse|invalid' "$dir/out"; then
		bad=1
	fi
}

limit hearth-router.service 15
limit hearthd.service 40
limit hearth-worker@.service 40
limit hearth-dropcaches.service 40

# What was left in a template would reach systemd as it is.
for f in "$units"/*.service; do
	if grep -n '@[a-z_]*@' "$f"; then
		echo "$f: not filled in"; bad=1
	fi
	# each option once: a second line would quietly win
	for key in Type User Group Slice WatchdogSec TimeoutStartSec Restart UMask; do
		[ "$(grep -c "^$key=" "$f")" -le 1 ] || { echo "$f: $key= twice"; bad=1; }
	done
done
for unit in hearth-router.service hearthd.service hearth-worker@.service; do
	for line in '^Type=notify' '^WatchdogSec=' '^Restart=on-failure' '^Slice=hearth.slice' \
		'^RestartPreventExitStatus=64 78'; do
		grep -q "$line" "$units/$unit" || { echo "$unit: no line $line"; bad=1; }
	done
done
exit $bad
