#!/bin/sh
# make-deb.sh - the Debian packages, from what `make dist` would ship: ./bootstrap's tree in,
# build/deb/*.deb out.
#
#	tools/make-deb.sh DISTDIR OUT	DISTDIR: hearth-VERSION, as `make distdir` leaves it
#
# DEB_BUILD_PROFILES=pkg.hearth.cuda builds the CUDA back end (chosen by itself when nvcc is
# there and the variable is not set).  Tests do not run here: `make check` is theirs.
# Same source, same compiler: same bytes (tests/deb/reproducible.sh).
set -eu
distdir=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
version=$(basename "$distdir" | sed 's/^hearth-//')

if [ -z "${DEB_BUILD_PROFILES+set}" ]; then
	DEB_BUILD_PROFILES=
	if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then
		DEB_BUILD_PROFILES=pkg.hearth.cuda
	fi
fi
export DEB_BUILD_PROFILES="$DEB_BUILD_PROFILES nocheck"
export DEB_BUILD_OPTIONS="${DEB_BUILD_OPTIONS:-} nocheck parallel=$(nproc)"
SOURCE_DATE_EPOCH=$(cd "$distdir" && dpkg-parsechangelog -STimestamp)
export SOURCE_DATE_EPOCH

work=$(mktemp -d "${TMPDIR:-/tmp}/hearth-deb-XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cp -a "$distdir" "$work/hearth-$version"
chmod -R u+w "$work/hearth-$version"
# the original tarball is the source without debian/: same names, order, owner and time
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
	--mode=u+rw,go+r-w --exclude="hearth-$version/debian" -C "$work" \
	-I 'xz -1 -T1' -cf "$work/hearth_$version.orig.tar.xz" "hearth-$version"
# $MAKEFLAGS of the make that called us would reach dh's
(cd "$work/hearth-$version" && env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS \
	dpkg-buildpackage -us -uc -F --no-check-builddeps >"$work/log" 2>&1) ||
	{ tail -n 60 "$work/log" >&2; exit 1; }
rm -f "$out"/*.deb "$out"/hearth_*
mv "$work"/hearth_* "$work"/*.deb "$out"/
cp "$work/log" "$out/build.log"
ls "$out"/*.deb
