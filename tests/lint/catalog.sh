#!/bin/sh
# catalog.sh - every event has its text, every text its event, and journalctl reads them all.
set -eu
ids=$top_srcdir/lib/events.h
catalog=$top_srcdir/etc/catalog/hearth.catalog
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0

sed -n 's/^#define EVENT_[A-Z_]* *"\([0-9a-f]\{32\}\)"$/\1/p' "$ids" | sort >"$dir/ids"
sed -n 's/^-- \([0-9a-f]\{32\}\)$/\1/p' "$catalog" | sort >"$dir/texts"
[ "$(grep -c '^#define EVENT_' "$ids")" = "$(wc -l <"$dir/ids")" ] ||
	{ echo "$ids: a malformed id"; bad=1; }
for f in ids texts; do
	d=$(uniq -d "$dir/$f"); [ -z "$d" ] || { echo "twice in $f: $d"; bad=1; }
done
diff "$dir/ids" "$dir/texts" || { echo "< only in events.h  > only in the catalogue"; bad=1; }

# An event that nobody sends is a text that nobody reads.
for name in $(sed -n 's/^#define \(EVENT_[A-Z_]*\) .*/\1/p' "$ids"); do
	grep -rqw --include='*.c' "$name" "$top_srcdir/router" "$top_srcdir/worker" "$top_srcdir/lib" \
		$( [ -d "$top_srcdir/daemon" ] && echo "$top_srcdir/daemon" ) ||
		{ echo "$name is never sent"; bad=1; }
done

if command -v journalctl >/dev/null; then
	mkdir -p "$dir/root/usr/lib/systemd/catalog" "$dir/root/var/lib/systemd/catalog"
	cp "$catalog" "$dir/root/usr/lib/systemd/catalog/"
	journalctl --root="$dir/root" --update-catalog
	n=$(journalctl --root="$dir/root" --list-catalog | wc -l)
	[ "$n" = "$(wc -l <"$dir/texts")" ] || { echo "journalctl reads $n texts"; bad=1; }
fi
exit $bad
