#!/bin/sh
# lint.sh - lintian has no word about the packages in build/deb.
set -eu
command -v lintian >/dev/null || { echo "no lintian: skipped"; exit 77; }
changes=$(ls "${1:-deb}"/hearth_*.changes)
user=
[ "$(id -u)" != 0 ] || user=--allow-root
# shellcheck disable=SC2086
out=$(lintian $user --fail-on error,warning --tag-display-limit 0 $changes 2>&1) ||
	{ echo "$out"; exit 1; }
echo "lintian: ${out:-nothing to say}"
