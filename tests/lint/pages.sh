#!/bin/sh
# pages.sh - mandoc has no word about the pages, and every long option they name exists.
set -eu
command -v mandoc >/dev/null || { echo "no mandoc: skipped"; exit 77; }
bad=0
for page in "$top_srcdir"/man/*.[1578]; do
	mandoc -T lint -W warning "$page" || bad=1
	program=$top_builddir/bin/$(basename "$page" | sed 's/\.[0-9]$//')
	[ -x "$program" ] || continue
	case $program in
	*hearth-worker) help=$("$program" serve --help 2>&1 || true) ;;
	*hearth-bench) help=$("$program" step 2>&1; "$program" load 2>&1 || true) ;;
	*) help=$("$program" --help 2>&1 || true) ;;
	esac
	for o in $(grep -o 'Fl .*' "$page" | grep -oE '(^Fl| ,|Fl) -[a-z][a-z-]+' | sed 's/.* -//' | sort -u); do
		printf '%s' "$help" | grep -q -- "--$o" || { echo "$page: no option --$o"; bad=1; }
	done
done
exit $bad
