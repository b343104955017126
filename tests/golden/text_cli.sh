#!/bin/sh
# text_cli.sh - hearth-worker text: an answer for every line, in order; errors do not end it.
cd "${top_builddir:-.}" || exit 99
worker=$PWD/bin/hearth-worker
model=${top_srcdir:-.}/tests/golden/tokenizer
passed=0 failed=0

# claim, verb, model, lines in, lines out
same() {
	got=$(printf "$4" | "$worker" text "$2" "$3" 2>&1 | sed 's/call_[0-9a-f]\{24\}/ID/g')
	want=$(printf "$5")
	if [ "$got" = "$want" ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		printf 'FAILED: %s\nwant: %s\ngot:  %s\n' "$1" "$want" "$got"
	fi
}

# claim, exit status, arguments
status() {
	claim=$1 want=$2
	shift 2
	"$worker" "$@" </dev/null >/dev/null 2>&1
	got=$?
	if [ $got = "$want" ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAILED: $claim: exit status $got, not $want"
	fi
}

same 'parse needs no model' parse /nowhere '{"text":"a</think>b"}\n' \
	'{"message": {"reasoning_content": "a", "content": "b"}, "deltas": 2}'
same 'no final newline is needed' parse /nowhere '{"text":"a","enable_thinking":false}' \
	'{"message": {"reasoning_content": null, "content": "a"}, "deltas": 1}'
same 'every line is answered, wrong ones too' parse /nowhere '{"text":1}\n\n[]\n{"text":""}\n' \
	'{"error": {"message": "text must be a string"}}
{"error": {"message": "line 1: unexpected token near end of file"}}
{"error": {"message": "the line must be a JSON object"}}
{"message": {"reasoning_content": null, "content": null}, "deltas": 0}'
same 'calls have ids' parse /nowhere \
	'{"text":"<tool_call><function=f>","tools":[{}],"enable_thinking":false}\n' \
	'{"message": {"reasoning_content": null, "content": null, "tool_calls": [{"id": "ID", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, "deltas": 3}'
same 'a cut tag is dropped' parse /nowhere '{"text":"a</thi"}\n' \
	'{"message": {"reasoning_content": "a", "content": null}, "deltas": 1}'
same 'but not when the model ended there' parse /nowhere '{"text":"a</thi","finish_reason":"stop"}\n' \
	'{"message": {"reasoning_content": "a</thi", "content": null}, "deltas": 2}'
same 'pieces may cut a character' parse /nowhere '{"text":"é","pieces":[0,1,1,2]}\n' \
	'{"message": {"reasoning_content": "é", "content": null}, "deltas": 1}'
same 'pieces must lie inside the text' parse /nowhere '{"text":"ab","pieces":[1,3]}\n{"text":"ab","pieces":[2,1]}\n' \
	'{"error": {"message": "pieces[1] must be an offset from 1 to 2"}}
{"error": {"message": "pieces[1] must be an offset from 2 to 2"}}'
same 'tools must be a list' parse /nowhere '{"text":"","tools":{}}\n' '{"error": {"message": "tools must be a list"}}'
same 'encode and decode are inverse' decode "$model" \
	"$(printf '{"text":"<think>Hé 🙂"}\n' | "$worker" text encode "$model")\n" '{"text": "<think>Hé 🙂"}'
same 'a stream has a delta for each id' decode "$model" \
	"$(printf '{"text":"🙂"}\n' | "$worker" text encode "$model" | sed 's/}/, "stream": true}/')\n" \
	"$(printf '{"text":"🙂"}\n' | "$worker" text encode "$model" |
		sed 's/"ids": //; s/[0-9]*, /"", /g; s/[0-9][0-9]*]/"🙂"]/; s/{/{"deltas": /')"
same 'encode wants a string' encode "$model" '{"text":5}\n' '{"error": {"message": "text must be a string"}}'
same 'decode wants ids' decode "$model" '{"ids":[-1]}\n{"ids":5}\n' \
	'{"error": {"message": "ids[0] is not a token id"}}
{"error": {"message": "ids must be a list of integers"}}'
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
printf '{%%- for m in messages %%}[{{ m.role }}:{{ m.content }}]{%%- if m.content == "bad" %%}{{- raise_exception("no") }}{%%- endif %%}{%%- endfor %%}' \
	>"$dir/chat_template.jinja"
same 'render fills the template' render "$dir" '{"messages":[{"role":"user","content":"Hi"}]}\n' \
	'{"prompt": "[user:Hi]"}'
same 'its errors are answers' render "$dir" \
	'{"messages":[{"role":"user","content":"bad"}]}\n{"messages":5}\n{"messages":[{"role":"user","content":"Hi"}]}\n' \
	'{"error": {"message": "no"}}
{"error": {"message": "messages: must be a list"}}
{"prompt": "[user:Hi]"}'
same 'the request is made fit for it' render "$dir" '{"messages":[{"role":"developer","content":"Hi"}]}\n' \
	'{"prompt": "[system:Hi]"}'
same 'or not' render "$dir" '{"messages":[{"role":"developer","content":"Hi"}],"raw":true}\n' \
	'{"prompt": "[developer:Hi]"}'
status 'no verb is wrong usage' 64 text
status 'an unknown verb too' 64 text sing /nowhere
status 'no subcommand too' 64
status 'a model that is not there is a configuration error' 78 text encode /nowhere
status 'parse takes any folder' 0 text parse /nowhere
echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
