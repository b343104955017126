#!/bin/sh
# pages.sh - mandoc has no word about the pages as they are installed; what they refer to exists.
#
# That a page of somebody else's (systemd.exec(5)) is not installed here is no fault of ours.
set -eu
command -v mandoc >/dev/null || { echo "no mandoc: skipped"; exit 77; }
cd "$top_builddir/man"
bad=0 n=0
for page in *.[1-8]; do
	n=$((n + 1))
	out=$(mandoc -T lint "$page" 2>&1 | grep -vE \
		'referenced manual not found: Xr (curl|sd_notify|systemd|man)|mandoc.db' || true)
	# our own pages refer to each other by files that lie here
	while read -r line; do
		case $line in
		*"referenced manual not found"*)
			name=$(printf '%s' "$line" | sed 's/.*Xr \([^ ]*\) \([0-9]\).*/\1.\2/')
			[ -f "$name" ] && continue ;;
		'') continue ;;
		esac
		echo "$line"
		bad=1
	done <<-OUT
	$out
	OUT
done
[ $n -ge 8 ] || { echo "$n pages: where are the others?"; bad=1; }
[ $bad != 0 ] || echo "$n pages, no word from mandoc"
exit $bad
