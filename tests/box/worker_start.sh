#!/bin/sh
# worker_start.sh - a worker that cannot work says so in one line, with the right status.
top=${top_srcdir:-.} worker=${top_builddir:-build}/bin/hearth-worker
[ -x "$worker" ] || { echo "$worker is not built"; exit 77; }
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
n=0 bad=0

# try STATUS WORDS ARGUMENTS...: the status, and words that the only line must contain
try() {
	want=$1 words=$2
	shift 2
	timeout 20 "$worker" serve "$@" >"$dir/out" 2>&1 </dev/null
	got=$?
	n=$((n + 1))
	if [ $got -ne "$want" ] || ! grep -q -- "$words" "$dir/out"; then
		echo "serve $*: status $got, wanted $want with '$words'; said:"
		cat "$dir/out"
		bad=$((bad + 1))
	elif [ "$want" = 78 ] && [ "$(wc -l <"$dir/out")" -ne 1 ]; then
		echo "serve $*: more than one line:"
		cat "$dir/out"
		bad=$((bad + 1))
	fi
}

to="--connect ipc://$dir/bus --alias a"
# shellcheck disable=SC2086
{
	try 0 kv-bytes --help
	try 64 folder
	try 64 bogus model --bogus
	try 64 connect model --alias a
	try 64 'head+dense' model $to --quantize all
	try 64 'bf16 or fp8' model $to --kv fp4
	try 78 'no such folder' "$dir/nothing" $to
	mkdir "$dir/empty"
	try 78 config.json "$dir/empty" $to
	echo '{' >"$dir/empty/config.json"
	try 78 config.json "$dir/empty" $to
	cp "$top"/models/tiny/*.json "$dir/empty/"
	rm -f "$dir/empty/model.safetensors.index.json"
	try 78 safetensors "$dir/empty" $to
}
if [ -f "$top/models/tiny/model.safetensors.index.json" ]; then
	m=$top/models/tiny
	# shellcheck disable=SC2086
	{
		try 78 'positions' "$m" $to --context 99999999
		try 78 'a block of 64 tokens' "$m" $to --kv-bytes 100
		try 78 'slots need' "$m" $to --rows 70
		try 78 'multiple of 64' "$m" $to --chunk 100
		try 1 'cuda:99' "$m" $to --device cuda:99
		cp "$m"/* "$dir/empty/"
		for f in "$dir"/empty/*-00002-of-*.safetensors; do truncate -s 100000 "$f"; done
		try 78 truncated "$dir/empty" $to
	}
else
	echo "models/tiny has no weights: the claims about options were not tried"
fi
echo "$((n - bad)) passed, $bad failed"
[ $bad -eq 0 ]
