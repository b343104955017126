#!/bin/sh
# build.sh [DIR] - compiles the CUDA probe (kernels, test, bench) with nvcc, without the build
# system.  From the root of the tree; the programs land in DIR (default build-probe).  ARCHS="90a"
# builds for one target only.
set -e
out=${1:-build-probe}
NVCC=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
flags="-std=c++17 -O3 -lineinfo -fmad=false -I. -Xcompiler=-ffp-contract=off,-Wall"
cflags="-std=gnu11 -O2 -Wall -Wextra -Wconversion -Werror -I."
for a in ${ARCHS:-90a 120a 121a}; do
	flags="$flags -gencode=arch=compute_$a,code=sm_$a"
done
mkdir -p "$out"
for f in pack; do
	gcc $cflags -c kernels/cuda/$f.c -o "$out/$f.o"
done
gcc $cflags -ffp-contract=off -c kernels/cpu/ref_matmul.c -o "$out/ref_matmul.o"
for f in kernels/cuda/decode_matmul kernels/cuda/decode_ring kernels/cuda/decode_wide \
	kernels/cuda/expert_list kernels/cuda/launch \
	tests/gpu/decode_matmul_test bench/cuda/decode_matmul_probe; do
	$NVCC $flags -Xptxas -v -c $f.cu -o "$out/$(basename $f).o" 2>"$out/$(basename $f).log" &
	pids="$pids $!"
done
for p in $pids; do wait $p || { cat "$out"/*.log; exit 1; }; done
lib="$out/decode_matmul.o $out/decode_ring.o $out/decode_wide.o $out/expert_list.o $out/launch.o
	$out/pack.o $out/ref_matmul.o"
$NVCC -o "$out/decode_matmul_test" "$out/decode_matmul_test.o" $lib
$NVCC -o "$out/decode_matmul_probe" "$out/decode_matmul_probe.o" $lib
if grep -hE '[1-9][0-9]* bytes spill' "$out"/*.log; then
	echo "build.sh: registers spilled" >&2
	exit 1
fi
