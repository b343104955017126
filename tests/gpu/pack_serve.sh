#!/bin/bash
# pack_serve.sh - builds, here and without a GPU, what tests/gpu/serve.sh runs on a machine that has
# one and little else: router, worker, hearthd, tools, CUDA for one chip, and the libraries that
# Debian's programs need beyond glibc.
#
#	tests/gpu/pack_serve.sh [ARCH]		90a if not given: an H200
#
# Leaves build-gpu-serve/pack and build-gpu-serve/pack.tar.xz.  The scripts are in it, the model is
# not (40 MB): serve.sh finds it in the tree.  A second run builds what changed.
set -euo pipefail
cd "$(dirname "$0")/../.."
arch=${1:-90a}
jobs=${JOBS:-$(nproc)}
build="build-gpu-serve"
pack=$build/pack

[ -x configure ] || autoreconf -fi
mkdir -p $build
[ -f $build/Makefile ] ||
	(cd $build && ../configure --enable-werror --with-cuda >configure.out)
flags=$(sed -n 's/^NVCCFLAGS = //p' $build/Makefile | sed 's/-gencode=[^ ]*//g')
programs="bin/hearth-router bin/hearth-worker bin/hearthd bin/hearthctl bin/hearth-bench
	tests/tools/dummy_checkpoint"
# they find their libraries by themselves: LD_LIBRARY_PATH would be every other program's, too
# shellcheck disable=SC2016
rpath='-Wl,--disable-new-dtags,-rpath,\$$ORIGIN/../lib:\$$ORIGIN/../../lib'
# shellcheck disable=SC2086
(cd $build && rm -f $programs)		# what was linked without it is not linked again
for target in all tests/tools/dummy_checkpoint; do
	make -C $build -s -j"$jobs" NVCCFLAGS="$flags -gencode=arch=compute_$arch,code=sm_$arch" LDFLAGS="$rpath" \
		HEARTH_COMMIT="$(git describe --always --dirty --abbrev=12)" $target
done

rm -rf $pack
mkdir -p $pack/lib $pack/bin $pack/tests/tools
for p in $programs; do
	strip -o $pack/"$p" $build/"$p"
done
# not what the C library and the compiler brought: the machine's own driver must find its own
# shellcheck disable=SC2086
(cd $build && ldd $programs) | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
	grep -Ev '/(libc|libm|libdl|librt|libpthread|libresolv|libgcc_s|libstdc\+\+)\.so' |
	xargs cp -L -t $pack/lib
cp --parents man/*.in etc/worker.conf tests/gpu/serve*.py tests/gpu/serve.sh tests/box/box.py tests/box/rack.py \
	tests/box/real_worker.py tests/box/same_answer.py tests/box/man_examples.py \
	tests/tools/synthetic_checkpoint.py $pack
git rev-parse HEAD >$pack/commit
tar -C $build -I "xz -T0 -6" -cf $pack.tar.xz pack
du -sh $pack $pack.tar.xz
