#!/bin/bash
# session.sh - one part after the other on a machine with a GPU, each with its share of the time:
# see README.md.
#
#	tests/gpu/session.sh [-b FOLDER] [-d DEVICE] [-t MINUTES] [-s] PART...
#
#	-b	programs, as pack.sh leaves them (default: build-gpu/pack)
#	-d	cuda:0 if not given
#	-t	minutes for all of it (default: 9.5); a part that does not fit any more is skipped
#	-s	small shapes: the same commands, on a machine without a GPU with -d cpu
#
# Parts: tests sanitize weights exact kv hf8 hf40 hf27 soak step compare.  What each printed goes to
# $OUT/PART.txt ($OUT: here if not set), the verdicts to $OUT/session.txt.  Exit status 1 when a
# part failed or was skipped.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 99
pack=build-gpu/pack device=cuda:0 minutes=9.5 small=
while getopts b:d:t:s c; do
	case $c in
	b) pack=$OPTARG ;;
	d) device=$OPTARG ;;
	t) minutes=$OPTARG ;;
	s) small=small- ;;
	*) exit 64 ;;
	esac
done
shift $((OPTIND - 1))
out=${OUT:-.}
budget=$(awk "BEGIN { print int($minutes * 60) }")
if [ -f "$pack.tar.xz" ]; then
	rm -rf "$pack"
	tar -C "$(dirname "$pack")" -xf "$pack.tar.xz" || exit 99
fi
export LD_LIBRARY_PATH=$pack/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
bench=$pack/bin/hearth-bench
failed=0

say() { echo "$*" | tee -a "$out/session.txt"; }

# A folder with the small shape's config.json, or the shape's own name.
shape() {
	[ -n "$small" ] || { echo "$1"; return; }
	mkdir -p "$out/shape-$1"
	PYTHONPATH=tests/golden "$python" -c "import true_shapes as t
t.write_config(t.config_of('small-$1'), '$out/shape-$1')"
	echo "$out/shape-$1"
}

# Every command of a part, one after the other; the worst status.
all() {
	local worst=0
	for command in "$@"; do
		echo "\$ $command"
		eval "$command" || { echo "status $?"; worst=1; }
	done
	return $worst
}

part_tests() {
	local worst=0
	for t in "$pack"/tests/gpu/*_test; do
		timeout 120 "$t" >"$out/one" 2>&1
		code=$?
		echo "$(basename "$t"): status $code, $(grep -c '  OK' "$out/one") ok," \
			"$(grep -c FAILED "$out/one") failed"
		grep FAILED "$out/one"
		[ $code = 0 ] || worst=1
	done
	rm -f "$out/one"
	return $worst
}

# Kernels in which racecheck sees races that are none: README.md says why of each.
unraced="ring_kernel ring_choice_kernel wide_kernel"

# Reports in a log that README.md does not name: it names races inside gdn_scan, and between two lines of the
# square form's split kernel, whose kernels the tool cannot leave out; and what gdn_scan fetches for initcheck.
unknown() {
	awk 'function flush() { if (held && !known) print held; held = "" }
		/^========= (Error|Warning): Race reported/ {
			flush(); held = $0
			scan = /gdn_scan_(int|output|state)\.cuh/
			known = scan || / (ring_get|put_words)\(/
			next
		}
		held && /^=========     and / { known = known && (scan || / (ring_get|put_words)\(/); next }
		/^========= Uninitialized __global__ memory read/ { flush(); held = $0; known = 0; next }
		held && /^=========     at / { known = / in gdn_scan_int\.cuh:/; next }
		!/^========= [A-Z]/ || /COMPUTE-SANITIZER|SUMMARY|Maximum number of hazards/ { next }
		{ print }
		END { flush() }' "$1"
}

# One tool on one program.  Rings make their barriers in loops: more than the compiler counts.
sanitize_one() {
	local tool=$1 t=$2 log=$out/one-$1-$2 args=() code
	case $tool in
	racecheck)
		for kernel in $unraced; do
			args+=(--kernel-name-exclude "kernel_substring=$kernel")
		done
		;;
	initcheck) args+=(--show-backtrace no) ;;	# of thousands of known reports: minutes
	esac
	NV_COMPUTE_SANITIZER_MAX_RACECHECK_HAZARDS=200000 timeout 440 compute-sanitizer --tool "$tool" \
		--error-exitcode 9 --print-limit 100000 --num-cuda-barriers 256 "${args[@]}" \
		"$pack/tests/gpu/$t" --few >"$log" 2>&1
	code=$?
	case $tool-$code in
	racecheck-9 | initcheck-9)
		! grep -q FAILED "$log" && [ -z "$(unknown "$log")" ] && code=0
		;;
	esac
	echo "$tool $t: status $code, $(grep SUMMARY "$log" | tail -1)"
	if [ $code != 0 ]; then
		grep FAILED "$log"
		unknown "$log" | head -20
	fi
	rm -f "$log"
	return $code
}

# Every tool on every program, as many at once as a GPU has time for; first what takes longest.
part_sanitize() {
	for tool in racecheck initcheck memcheck synccheck; do
		for t in "$pack"/tests/gpu/device_*test "$pack"/tests/gpu/*_test; do
			echo "$tool $(basename "$t")"
		done
	done | awk '!seen[$0]++' | xargs -P 12 -n 2 bash -c 'sanitize_one "$@" || exit 1' sanitize_one
}

part_weights() { all "$python tests/golden/compare_dummy.py $pack"; }

part_exact() {
	local rows=1,3,8,17,33,64,200 size="--prompt 130 --output 12"
	[ -z "$small" ] || rows=1,3,8,17,33
	all "$bench exact --device $device --dummy bf16 --shape $(shape 35b) $size --rows $rows" \
		"$bench exact --device $device --dummy nvfp4-fp8 --shape $(shape 35b) $size \
			--rows 3,64"
}

# Keys and values in FP8: as exact; what they cost, and what they save at a long context.
part_kv() {
	local cells="--batch 1,16,64 --context 8192 --prompt 8192 --steps 128"
	[ -z "$small" ] || cells="--context 64 --prompt 64 --batch 1,8 --steps 8"
	local run="$bench step --device $device --dummy fp8 --shape $(shape 35b) $cells"
	all "$bench exact --device $device --dummy fp8 --kv fp8 --shape $(shape 35b) \
			--prompt 130 --output 12 --rows 3,17,64" \
		"$run --kv bf16" "$run --kv fp8"
}

hf() { all "$python tests/golden/compare_true.py $pack --device $device $*"; }
part_hf8() { hf "--shape ${small}35b --layers 8 --positions 576"; }
part_hf40() {	# of 576 positions a bar for the widest gap is one position's
	local n=2304
	[ -z "$small" ] || n=576
	hf "--shape ${small}35b --positions $n"
}
part_hf27() { hf "--shape ${small}27b --layers 8 --positions 576"; }

part_soak() {
	local time="--minutes 4"
	[ -z "$small" ] || time="--seconds 20 --slots 8 --prompt 150 --output 60"
	all "$bench soak --device $device --dummy fp8 --shape $(shape 35b) $time"
}

part_step() {
	local cells="--context 1024 --steps 512"
	[ -z "$small" ] || cells="--context 64 --prompt 64 --batch 1,8 --steps 8"
	for recipe in bf16 fp8 nvfp4 nvfp4-fp8; do
		all "$bench step --device $device --dummy $recipe --shape $(shape 35b) $cells" ||
			return 1
	done
}

# Held-out text, where the folder that pack.sh was told of has it: ids.txt, a sequence a line.
part_compare() {
	all "$bench compare --with-device $device --most-differ 0.5 models/tiny <$pack/ids.txt"
}

# Seconds that a part is given; less than it usually needs are not worth a start.
share() {
	case $1 in
	tests) echo 90 ;; sanitize) echo 420 ;; weights) echo 120 ;; exact) echo 360 ;; kv) echo 240 ;;
	hf8) echo 120 ;; hf40) echo 260 ;; hf27) echo 150 ;;
	soak) echo 280 ;; step) echo 330 ;; compare) echo 60 ;; *) echo 0 ;;
	esac
}

mkdir -p "$out"
commit=$(cat "$pack/commit" 2>/dev/null || echo unknown)
say "commit $commit, $device${small:+, small shapes}, $budget s"
for part in "$@"; do
	want=$(share "$part") left=$((budget - SECONDS))
	[ "$want" -gt 0 ] || { say "$part: no such part"; exit 64; }
	if [ "$left" -lt $((want / 2)) ]; then
		say "$part: skipped, $left s left and $want wanted"
		failed=1
		continue
	fi
	begin=$SECONDS
	export -f all hf shape sanitize_one unknown "part_$part"
	export out pack device small python bench unraced
	timeout $((left < 2 * want ? left : 2 * want)) bash -c "part_$part" >"$out/$part.txt" 2>&1
	code=$?
	verdict=passed
	[ $code = 0 ] || verdict="FAILED ($code)"
	say "$part: $verdict, $((SECONDS - begin)) s"
	[ $code = 0 ] || failed=1
	tail -4 "$out/$part.txt" | cut -c1-300
done
exit $failed
