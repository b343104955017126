#!/bin/sh
# layers.sh - fails on any include that layers.txt does not allow, and on an
# outside header that comes in by another door than its own.
cd "${top_srcdir:-.}" || exit 99
files=$(find lib proto kernels router daemon worker ctl bench quantize \
	\( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' \) 2>/dev/null)

# The longest prefix of the including file that layers.txt names decides.
grep -n '^#include "' $files /dev/null | awk '
	FNR == NR { if (/^[^#]/) { k = $1; $1 = ""; may[k] = $0 " " } next }
	{
		split($0, f, ":"); split($0, q, "\""); split(q[2], to, "/"); split(f[1], from, "/")
		if (q[2] == "config.h" || to[1] == "lib" || to[1] == from[1]) next
		at = f[1] ":" f[2]
		if (to[2] == "") { print at ": write the path from the root: " q[2]; bad = 1; next }
		ok = ""; best = 0
		for (k in may)
			if (index(f[1], k) == 1 && length(k) > best) { best = length(k); ok = may[k] }
		if (!index(ok, " " to[1] " ")) { print at ": may not include " q[2]; bad = 1 }
	}
	END { exit bad }' tests/lint/layers.txt - || exit 1

# header pattern, then the only files (regex) that may include it
while read -r header door; do
	bad=$(grep -lE "^#include <($header)" $files /dev/null | grep -vE "^($door)")
	if [ -n "$bad" ]; then
		echo "<$header> may only be included by $door, not by:"
		echo "$bad"
		exit 1
	fi
done <<'DOORS'
jansson\.h lib/json
zmq\.h proto/
cuda|cublas|nccl|mma kernels/cuda/|bench/cuda/
systemd/ lib/svc\.|lib/log\.|daemon/|ctl/journal\.
ini\.h lib/conf
curl/ router/cloud|ctl/|bench/
event2?/|event router/|daemon/|ctl/|worker/serve
http_parser router/http
curses ctl/top_screen
libsmartcols ctl/table|ctl/memory
DOORS
exit 0
