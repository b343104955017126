#!/bin/sh
# reproducible.sh - two package builds of one source, in folders of different names, give the same
# bytes.
#
#	cd build && ../tests/deb/reproducible.sh	(twice the time of `make deb`)
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
dist=$(ls -d hearth-*/ 2>/dev/null | head -n 1 || true)
command -v dpkg-buildpackage >/dev/null || { echo "no dpkg-buildpackage: skipped"; exit 77; }
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
if [ -z "$dist" ]; then
	make -s distdir >/dev/null
	dist=$(ls -d hearth-*/ | head -n 1)
	mine=yes
fi
cp -a "$dist" "$work/"
[ -z "${mine-}" ] || { chmod -R u+w "$dist"; rm -rf "$dist"; }
for i in one a-second-and-longer-name; do
	mkdir -p "$work/tmp-$i"
	TMPDIR=$work/tmp-$i TZ=$([ $i = one ] && echo UTC || echo Asia/Tokyo) \
		"$top/tools/make-deb.sh" "$work/$(basename "$dist")" "$work/$i" >/dev/null
done
bad=0
for f in "$work"/one/*.deb "$work"/one/*.orig.tar.xz; do
	if cmp "$f" "$work/a-second-and-longer-name/$(basename "$f")"; then
		echo "same: $(basename "$f") $(sha256sum <"$f" | cut -c1-16)"
	else
		bad=1
		! command -v diffoscope >/dev/null || diffoscope "$f" \
			"$work/a-second-and-longer-name/$(basename "$f")" | head -n 40 || true
	fi
done
exit $bad
