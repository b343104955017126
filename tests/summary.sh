#!/bin/sh
# summary.sh BUILD - one line over every test program and script: N passed, N failed, N skipped.
#
# A cmocka program counts with each of its claims, a script with its own line of that
# form if it prints one, else as one test.  What was skipped is named, so that a skip is
# never silent; what failed is shown with what its log says of it, last, where it is read.
build=${1:?usage: summary.sh BUILD}
find "$build/tests" -name '*.trs' | sort | while read -r trs; do
	log=${trs%.trs}.log
	name=${log#"$build"/}
	result=$(sed -n 's/^:test-result: //p' "$trs" | head -n 1)
	p=$(grep -c '^\[       OK \]' "$log")
	f=$(grep -c '^\[  FAILED  \] [a-z]' "$log")
	s=$(grep -c '^\[  SKIPPED \] [a-z]' "$log")
	f=$((f / 2)) s=$((s / 2))
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)
	if [ -n "$line" ]; then
		# shellcheck disable=SC2086
		set -- $line
		p=$1 f=$3 s=${5:-0}
	fi
	case $result in
	PASS*) [ $((p + f + s)) -gt 0 ] || p=1 ;;
	SKIP*) s=1 p=0 f=0 ;;
	*) [ "$f" -gt 0 ] || f=1 ;;
	esac
	echo "$p $f $s $name"
done | awk -v build="$build" '
	{ p += $1; f += $2; s += $3
	  if ($2) print "failed:  " $4
	  if ($2) bad[++n] = build "/" $4
	  if ($3) print "skipped: " $4 " (" $3 ")" }
	END {
		for (i = 1; i <= n; i++) {
			print "-- " bad[i]
			fflush()
			system("grep -vE \"^.( RUN|  *OK|  PASSED)\" \"" bad[i] \
			       "\" | grep -iE \"fail|error|expected|line\" | tail -n 8 | cut -c1-600")
		}
		printf "%d passed, %d failed, %d skipped\n", p, f, s
	}'
