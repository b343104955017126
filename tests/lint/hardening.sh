#!/bin/sh
# hardening.sh - looks at the programs that were built, not at the flags that were asked for.
#
# Each program in bin/ must be a PIE with full RELRO, immediate binding, a stack that is not
# executable, and stack protectors; with _FORTIFY_SOURCE it must call at least one checked
# libc function.  Sanitized builds are another kind of program and are skipped.
cd "${top_builddir:-.}" || exit 99
programs=$(find bin -maxdepth 1 -type f -perm -u+x 2>/dev/null)
[ -n "$programs" ] || { echo "no programs in $(pwd)/bin"; exit 77; }
grep -q '^HARDEN_CPPFLAGS = .*FORTIFY' Makefile ||
	{ echo "sanitized or unoptimised build"; exit 77; }
bad=0
want() {	# program, what, grep pattern, readelf options
	readelf -W $4 "$1" 2>/dev/null | grep -qE "$3" || { echo "$1: $2 is missing"; bad=1; }
}
for p in $programs; do
	want "$p" "position independence" 'Type: *DYN' -h
	want "$p" "RELRO" 'GNU_RELRO' -l
	want "$p" "immediate binding" 'BIND_NOW|FLAGS.* NOW' -d
	want "$p" "a stack protector" '__stack_chk_fail' --dyn-syms
	want "$p" "a fortified call" '_chk@' --dyn-syms
	if readelf -W -l "$p" | grep -E 'GNU_STACK' | grep -q 'RWE'; then
		echo "$p: the stack is executable"
		bad=1
	fi
done
exit $bad
