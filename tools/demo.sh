#!/bin/sh
# demo.sh BUILD PORT ONCE - router and worker on the tiny model, two questions over HTTP; then it
# serves.
#
# Called by ./bootstrap demo.  Everything it starts ends with it.
set -eu
build=$1 port=$2 once=$3
top=$(cd "$(dirname "$0")/.." && pwd)
url=http://127.0.0.1:$port
dir=$(mktemp -d "${TMPDIR:-/tmp}/hearth-demo.XXXXXX")
pids=

finish() {
	# shellcheck disable=SC2086
	[ -z "$pids" ] || kill $pids 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

fail() {
	echo "demo: $1" >&2
	tail -n 20 "$dir"/*.log >&2
	exit 1
}

cat >"$dir/hearth.conf" <<END
[http]
listen = 127.0.0.1:$port
[bus]
listen = ipc://$dir/bus
END
"$build/bin/hearth-router" -c "$dir/hearth.conf" >"$dir/router.log" 2>&1 &
pids=$!
"$build/bin/hearth-worker" serve "$top/models/tiny" --connect "ipc://$dir/bus" --alias tiny \
	--context 16384 >"$dir/worker.log" 2>&1 &
pids="$pids $!"

n=0
until curl -sf "$url/v1/models" 2>/dev/null | grep -q '"tiny"'; do
	# shellcheck disable=SC2086
	for p in $pids; do kill -0 "$p" 2>/dev/null || fail "a program ended"; done
	n=$((n + 1))
	[ $n -lt 600 ] || fail "no model after 60 s"
	sleep 0.1
done

# Prints the text of a stream as it comes; reasoning in brackets, calls as name(arguments).
show='
function unescape(s) {
	gsub(/\\\\/, "\001", s); gsub(/\\n/, "\n", s); gsub(/\\t/, "\t", s); gsub(/\\"/, "\"", s)
	gsub(/\\\//, "/", s); gsub("\001", "\\", s); return s
}
function field(name,   at, rest) {
	at = index($0, "\"" name "\":\""); if (!at) return ""
	rest = substr($0, at + length(name) + 4)
	match(rest, /^([^"\\]|\\.)*/); return unescape(substr(rest, 1, RLENGTH))
}
/^data: \{/ {
	r = field("reasoning_content")
	if (r != "") { if (!thinking) printf "["; thinking = 1; printf "%s", r }
	name = field("name"); text = field("content") ; args = field("arguments")
	if ((name text args) != "" && thinking == 1) { printf "]\n"; thinking = 2 }
	if (name != "") { printf "%s(", name; called = 1 }
	printf "%s", text args
	if (match($0, /"completion_tokens":[0-9]+/)) tokens = substr($0, RSTART + 20, RLENGTH - 20)
	fflush()
}
END { if (called) printf ")"; print ""; print tokens > tokens_file }'

ask() {	# body, as JSON
	began=$(date +%s%N)
	curl -sSN "$url/v1/chat/completions" -H 'Content-Type: application/json' -d "$1" |
		awk -v tokens_file="$dir/tokens" "$show"
	took=$((($(date +%s%N) - began) / 1000000))
	tokens=$(cat "$dir/tokens")
	[ "${tokens:-0}" -gt 0 ] || fail "no answer"
	rate=$((tokens * 1000 / (took > 0 ? took : 1)))
	echo "    ($tokens tokens in $took ms, $rate tok/s, prompt included)"
	echo
}

echo "> What is 47 + 385?"
ask '{"model":"tiny","stream":true,"stream_options":{"include_usage":true},"temperature":0,
	"messages":[{"role":"user","content":"What is 47 + 385?"}]}'

echo "> What is the weather in Rome?   (offered: get_weather, send_mail)"
ask '{"model":"tiny","stream":true,"stream_options":{"include_usage":true},"temperature":0,
	"messages":[{"role":"user","content":"What is the weather in Rome?"}],
	"tools":[{"type":"function","function":{"name":"get_weather","description":"Get the weather in a city",
		"parameters":{"type":"object","properties":{"city":{"type":"string","description":"The city"}},"required":["city"]}}},
	{"type":"function","function":{"name":"send_mail","description":"Send a mail to a person",
		"parameters":{"type":"object","properties":{"to":{"type":"string","description":"The person"},
		"text":{"type":"string","description":"The text"}},"required":["to","text"]}}}]}'

[ "$once" = yes ] && exit 0
cat <<END
Serving at $url/v1 until you press Ctrl-C.

    curl -N $url/v1/chat/completions -H 'Content-Type: application/json' \\
         -d '{"model":"tiny","stream":true,"messages":[{"role":"user","content":"What is 47 + 385?"}]}'
    $build/bin/hearthctl -u $url chat

END
wait
