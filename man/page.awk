# page.awk - a manual page from its source: what programs and protocol files say themselves is put in.
#
#	awk -v bin=bin -v proto=../proto -f man/page.awk man/hearthd.8.in
#
#	.\" @options PROGRAM [WORD]	PROGRAM --dump-options, as a list
#	.\" @commands PROGRAM		the same for its commands
#	.\" @key PROGRAM: SECTION.KEY	what --dump-keys says about a key, as a list's head
#	.\" @keys PROGRAM: SECTION	all keys of a section
#	.\" @metrics PROGRAM		--dump-metrics, as a list
#	.\" @message FILE NAME		the fields of a message, with their comments
#	.\" @values FILE NAME		the names of an enum
#
# What a page names and nobody has is an error: the page is not made.

function fail(what) { print FILENAME ":" FNR ": " what | "cat >&2"; failed = 1; exit 1 }

# A text line as roff wants it: no escapes, no request.
function plain(s) {
	gsub(/\\/, "\\e", s)
	return s
}

# A name or an address stays as it is written.
function sentence(s) {
	if (s ~ /^[a-z]+('s|,|;)?( |$)/)
		s = toupper(substr(s, 1, 1)) substr(s, 2)
	return plain(s) "."
}

# Text of ours at 80 columns: it has no macro in it.
function put(s,	word, n, i, line) {
	n = split(s, word, " ")
	for (i = 1; i <= n; i++) {
		if (line != "" && length(line) + 1 + length(word[i]) > 78) {
			print plain_start(line)
			line = ""
		}
		line = line (line != "" ? " " : "") word[i]
	}
	print plain_start(line)
}

function plain_start(s) { return s ~ /^[.']/ ? "\\&" s : s }

# "-c, --config" with FILE -> "Fl c , Fl -config Ar FILE"
function flags(names, arg,	part, n, i, out) {
	n = split(names, part, ", ")
	for (i = 1; i <= n; i++)
		out = out (i > 1 ? " , " : "") "Fl " substr(part[i], 2)
	return out (arg != "" ? " Ar " arg : "")
}

function program(words) { return bin "/" words " " }

function list(words, want_flags,	cmd, row, n, is_flag) {
	cmd = program(words) "--dump-options"
	print ".Bl -tag -width Ds"
	while ((cmd | getline row) > 0) {
		split(row, part, "\t")
		is_flag = part[1] ~ /^-/
		if (is_flag != want_flags)
			continue
		n++
		print ".It " (is_flag ? flags(part[1], part[2]) : \
			"Cm " part[1] (part[2] != "" ? " Ar " part[2] : ""))
		put(sentence(part[3]))
	}
	if (close(cmd) || !n)
		fail(cmd ": no such list")
	print ".El"
}

function metrics(words,	cmd, row, n) {
	cmd = program(words) "--dump-metrics"
	print ".Bl -tag -width Ds"
	while ((cmd | getline row) > 0) {
		n++
		split(row, part, "\t")
		print ".It Li " part[1]
		put("(" part[2] ")")
		put(sentence(part[3]))
	}
	if (close(cmd) || !n)
		fail(cmd ": no metrics")
	print ".El"
}

function read_keys(words,	cmd, row, n) {
	cmd = program(words) "--dump-keys"
	while ((cmd | getline row) > 0) {
		split(row, part, "\t")
		rows[words "\t" part[1] "." part[2]] = row
		order[words, ++n] = part[1] "." part[2]
	}
	if (close(cmd) || !n)
		fail(cmd ": no keys")
	count[words] = n
	known[words] = 1
}

function unit(key) {
	return key ~ /_mib$/ ? " MiB" : key ~ /_kib$/ ? " KiB" : key ~ /_ms$/ ? " ms" : key ~ /_s$/ ? " s" : \
		key ~ /_pressure$/ ? " %" : ""
}

# The head of a list's item: name, type, range with unit, default, when it takes effect.
# All keys of a section at once.
function keys_of(words, section,	i) {
	if (!(words in known))
		read_keys(words)
	for (i = 1; i <= count[words]; i++)
		if (index(order[words, i], section ".") == 1)
			key(words, order[words, i])
}

function key(words, name,	at, text, range) {
	if (!(words in known))
		read_keys(words)
	at = words "\t" name
	if (!(at in rows))
		fail(name ": " words " has no such key")
	split(rows[at], part, "\t")
	range = part[3] == "text" ? "" : part[3] == "choice" ? " of " part[4] : part[3] == "bool" ? "" : \
		" " part[4] unit(part[2])
	gsub(/\|/, ", ", range)
	print ".It Ic " part[2]
	put("(" (part[3] == "bool" ? "yes or no" : part[3] == "choice" ? "one" range : part[3] range) \
		(part[5] != "" ? "; default " plain(part[5]) : part[3] == "text" ? "; not set by default" : "") "; " \
		(part[6] == "reload" ? "taken over by a reload" : "needs a restart") ")")
	put(sentence(part[7]))
}

# From "message NAME {" to "}": a row a field, its comment with it, also where that goes on.
function message(file, name, word,	row, path, in_it, field, n, c) {
	path = proto "/" file
	while ((getline row < path) > 0) {
		if (row ~ "^" word " " name " \\{") { in_it = 1; continue }
		if (!in_it)
			continue
		if (row ~ /^\}/)
			break
		c = row
		if (!sub(/^[^\/]*\/\/ */, "", c))
			c = ""
		sub(/ *\/\/.*/, "", row)
		if (row ~ /;/) {
			if (n++ == 0)
				print ".Bl -tag -width Ds -compact"
			match(row, /= *[0-9]+/)
			field = substr(row, 1, RSTART - 1)
			gsub(/^ +| +$/, "", field)
			print ".It Li \"" substr(row, RSTART + 2, RLENGTH - 2) "  " field "\""
		}
		if (c != "")
			put(plain(c))
	}
	close(path)
	if (!n)
		fail(path ": no " word " " name)
	print ".El"
}

/^\.\\" @options / { sub(/^[^@]*@options /, ""); list($0, 1); next }
/^\.\\" @commands / { sub(/^[^@]*@commands /, ""); list($0, 0); next }
/^\.\\" @key / {
	sub(/^[^@]*@key /, "")
	n = index($0, ": ")
	key(substr($0, 1, n - 1), substr($0, n + 2))
	next
}
/^\.\\" @keys / {
	sub(/^[^@]*@keys /, "")
	n = index($0, ": ")
	keys_of(substr($0, 1, n - 1), substr($0, n + 2))
	next
}
/^\.\\" @metrics / { sub(/^[^@]*@metrics /, ""); metrics($0); next }
/^\.\\" @message / { message($3, $4, "message"); next }
/^\.\\" @values / { message($3, $4, "enum"); next }
/^\.\\" @/ { fail("no such directive: " $0) }
{ print }
END { if (failed) exit 1 }
