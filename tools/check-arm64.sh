#!/bin/sh
# check-arm64.sh ROOT - cross-compiles for arm64 and runs the unit tests under qemu-user.
#
# ROOT is a Debian 12 root made by debootstrap (root needed); it gets the cross compiler, the arm64
# libraries and qemu-user-static.  What this shows: the code builds and the unit tests pass on
# arm64's memory and char rules; nothing about speed.  DGX Spark itself is arm64.
set -eu
root=${1:?usage: check-arm64.sh ROOT}
top=$(cd "$(dirname "$0")/.." && pwd)

cat >"$root/root/setup.sh" <<'END'
set -e
export DEBIAN_FRONTEND=noninteractive
dpkg --add-architecture arm64
apt-get update -qq
apt-get install -y -qq --no-install-recommends gcc-aarch64-linux-gnu g++-aarch64-linux-gnu make \
	autoconf automake pkg-config xz-utils protobuf-c-compiler qemu-user-static \
	libzmq3-dev:arm64 libprotobuf-c-dev:arm64 libevent-dev:arm64 libhttp-parser-dev:arm64 \
	libjansson-dev:arm64 libinih-dev:arm64 libcurl4-openssl-dev:arm64 libsystemd-dev:arm64 \
	libsmartcols-dev:arm64 libxxhash-dev:arm64 liburing-dev:arm64 libcmocka-dev:arm64 >/dev/null
END
chroot "$root" sh /root/setup.sh

rm -rf "$root/root/hearth"
mkdir -p "$root/root/hearth"
git -C "$top" archive HEAD | tar -x -C "$root/root/hearth"
cat >"$root/root/build.sh" <<'END'
set -e
cd /root/hearth
autoreconf -fi >/dev/null 2>&1
mkdir -p build && cd build
export PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig
../configure --host=aarch64-linux-gnu --without-cuda --enable-werror >configure.log
make -s -j"$(nproc)" all
# the unit tests, one after the other under qemu: binfmt_misc is not for us to set
make -s -j"$(nproc)" $(sed -n 's/^check_PROGRAMS += //p' ../tests/unit/*.mk | tr '\n' ' ')
status=0
for t in tests/unit/*_test; do
	[ -x "$t" ] || continue
	if top_srcdir=.. top_builddir=. qemu-aarch64-static "$t" >"$t.out" 2>&1; then
		echo "ok   $t: $(grep -c '^\[       OK' "$t.out")"
	else
		echo "FAIL $t"
		tail -n 20 "$t.out"
		status=1
	fi
done
exit $status
END
exec chroot "$root" sh /root/build.sh
