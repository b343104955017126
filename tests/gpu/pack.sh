#!/bin/bash
# pack.sh - builds, here and without a GPU, what tests/gpu/session.sh runs on a machine that has one
# and little else.
#
#	[IDS=FILE] tests/gpu/pack.sh [ARCH]	90a if not given: an H200
#
# The engine alone (no router, no wire), CUDA for one chip.  Leaves build-gpu/pack: programs without
# symbols, and the libraries that such a machine may not have; and build-gpu/pack.tar.xz, the same
# to send.  A second run builds what changed.
set -euo pipefail
cd "$(dirname "$0")/../.."
arch=${1:-90a}
jobs=${JOBS:-$(nproc)}
pack=build-gpu/pack

[ -x configure ] || autoreconf -fi
mkdir -p build-gpu
[ -f build-gpu/Makefile ] ||
	(cd build-gpu && ../configure --enable-werror --disable-serving --with-cuda >configure.out)
flags=$(sed -n 's/^NVCCFLAGS = //p' build-gpu/Makefile | sed 's/-gencode=[^ ]*//g')
tests=$(cd tests/gpu && ls ./*_test.cu | sed 's|^\./\(.*\)\.cu$|tests/gpu/\1|')
programs="bin/hearth-bench tests/tools/logits_driver tests/tools/dummy_driver
	bench/cuda/decode_forms $tests"
# shellcheck disable=SC2086
make -C build-gpu -s -j"$jobs" NVCCFLAGS="$flags -gencode=arch=compute_$arch,code=sm_$arch" \
	HEARTH_COMMIT="$(git describe --always --dirty --abbrev=12)" $programs

rm -rf $pack
for p in $programs; do
	mkdir -p "$pack/$(dirname "$p")"
	strip -o "$pack/$p" "build-gpu/$p"
done
mkdir -p $pack/lib
# shellcheck disable=SC2086
(cd build-gpu && ldd $programs) |
	awk '$2 == "=>" && $3 ~ /jansson|xxhash|uring|pcre|utf8/ { print $3 }' | sort -u |
	xargs -r cp -L -t $pack/lib
git rev-parse HEAD >$pack/commit
[ -z "${IDS:-}" ] || cp "$IDS" $pack/ids.txt	# for the part `compare`
tar -C build-gpu -I "xz -T0 -3" -cf $pack.tar.xz pack
du -sh $pack $pack.tar.xz
