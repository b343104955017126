/* completion.c - hearthctl --completion bash | zsh: a shell's completion, from the tables of
 * --help. */
#include <stdio.h>
#include <string.h>

#include "ctl/ctl.h"
#include "lib/own.h"

/* What an argument is, by how the table writes it. */
static const char *kind(const char *arg)
{
	if (!arg)
		return "";
	if (strstr(arg, "ALIAS"))
		return "alias";
	if (strstr(arg, "BOX"))
		return "box";
	if (!strcmp(arg, "ROLE"))
		return "role";
	if (strstr(arg, "FILE") || !strcmp(arg, "PATH"))
		return "file";
	if (strstr(arg, "FOLDER"))
		return "folder";
	return "";
}

/* The first or only words of all commands; those of two words come in a row. */
static void put_first_words(struct buf *out, const char *between)
{
	const char *last = "";
	size_t n_last = 0;

	for (const struct ctl_command *m = ctl_commands; m->name; m++) {
		size_t n = strcspn(m->name, " ");

		if (n == n_last && !strncmp(m->name, last, n))
			continue;
		buf_puts(out, *last ? between : "");
		buf_put(out, m->name, n);
		last = m->name;
		n_last = n;
	}
}

static void put_seconds(struct buf *out, const char *first, size_t n)
{
	for (const struct ctl_command *m = ctl_commands; m->name; m++)
		if (!strncmp(m->name, first, n) && m->name[n] == ' ')
			buf_printf(out, "%s ", m->name + n + 1);
}

/* Options that say which router there is to ask, and with what: as one word, or before another. */
static void put_asking(struct buf *out, const char *alone, const char *joined)
{
	const char *between = "";

	for (const struct opts_row *o = ctl_options; o->name; o++) {
		if (strcmp(o->name, "url") != 0 && strcmp(o->name, "key-file") != 0)
			continue;
		buf_printf(out, "%s-%c%s|--%s%s", between, o->key, alone, o->name, joined);
		between = "|";
	}
}

/* ---- bash ------------------------------------------------------------------------------- */

static void put_bash_options(struct buf *out)
{
	buf_puts(out, "\tcase $prev in\n");
	for (const struct opts_row *o = ctl_options; o->name; o++) {
		if (!o->arg)
			continue;
		buf_puts(out, "\t");
		if (o->key < OPTS_LONG_ONLY)
			buf_printf(out, "-%c|", o->key);
		buf_printf(out, "--%s) _hearthctl_values '%s'; return ;;\n", o->name,
			   !strcmp(o->name, "model") ? "alias" :
			   !strcmp(o->name, "box") ? "box" : kind(o->arg));
	}
	buf_puts(out, "\tesac\n\tif [[ $cur == -* ]]; then\n\t\tCOMPREPLY=($(compgen -W '");
	for (const struct opts_row *o = ctl_options; o->name; o++) {
		if (o->key < OPTS_LONG_ONLY)
			buf_printf(out, "-%c ", o->key);
		buf_printf(out, "--%s ", o->name);
	}
	buf_puts(out, "' -- \"$cur\"))\n\t\treturn\n\tfi\n");
}

/* The line is cut at blanks here, since COMP_WORDS is cut at the colons of an address too.  Options
 * that take a word are jumped over, so that the command's own words are counted. */
static void put_bash_words(struct buf *out)
{
	buf_puts(out, "\tread -ra all <<<\"$line\"\n"
		      "\t[[ $line == *[[:blank:]] ]] && all+=('')\n"
		      "\tn=$((${#all[@]} - 1))\n\tcur=${all[n]} prev=${all[n - 1]}\n"
		      "\tfor ((i = 1; i < n; i++)); do\n\t\tcase ${all[i]} in\n\t\t");
	put_asking(out, "", "");
	buf_puts(out, ") ask+=(\"${all[i]}\" \"${all[i + 1]/#\\~\\//$HOME/}\"); ((i++)) ;;\n\t\t");
	put_asking(out, "?*", "=*");
	buf_puts(out, ") ask+=(\"${all[i]}\") ;;\n\t\t");
	for (const struct opts_row *o = ctl_options, *first = NULL; o->name; o++) {
		if (!o->arg)
			continue;
		buf_puts(out, first ? "|" : "");
		first = o;
		if (o->key < OPTS_LONG_ONLY)
			buf_printf(out, "-%c|", o->key);
		buf_printf(out, "--%s", o->name);
	}
	buf_puts(out, ") ((i++)) ;;\n\t\t-*) ;;\n\t\t*) words+=(\"${all[i]}\") ;;\n"
		      "\t\tesac\n\tdone\n");
}

static void put_bash_commands(struct buf *out)
{
	const char *last = "";

	buf_puts(out, "\tcase \"${words[*]}\" in\n\t'') COMPREPLY=($(compgen -W '");
	put_first_words(out, " ");
	buf_puts(out, "' -- \"$cur\")) ;;\n");
	for (const struct ctl_command *m = ctl_commands; m->name; m++) {
		size_t n = strcspn(m->name, " ");

		if (m->name[n] && strncmp(m->name, last, n + 1) != 0) {
			buf_printf(out, "\t%.*s) COMPREPLY=($(compgen -W '", (int)n, m->name);
			put_seconds(out, m->name, n);
			buf_puts(out, "' -- \"$cur\")) ;;\n");
		}
		last = m->name;
		if (m->arg)
			buf_printf(out, "\t'%s') _hearthctl_values '%s' ;;\n", m->name,
				   kind(m->arg));
	}
	buf_puts(out, "\tesac\n");
}

static void put_bash(struct buf *out)
{
	buf_puts(out, "# bash completion of hearthctl; made by hearthctl --completion bash\n"
		      "_hearthctl_values() {\n"
		      "\tcase $1 in\n"
		      "\talias|box) COMPREPLY=($(compgen -W \"$(hearthctl "
		      "\"${ask[@]}\" --completion \"$1\" 2>/dev/null)\" "
		      "-- \"$cur\")) ;;\n"
		      "\trole) COMPREPLY=($(compgen -W 'client admin' -- \"$cur\")) ;;\n"
		      "\tfile) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
		      "\tfolder) COMPREPLY=($(compgen -d -- \"$cur\")) ;;\n"
		      "\tesac\n}\n\n"
		      "_hearthctl_all() {\n"
		      "\tlocal line=${COMP_LINE:0:COMP_POINT} cur prev n i\n"
		      "\tlocal all=() ask=() words=()\n\tCOMPREPLY=()\n");
	put_bash_words(out);
	put_bash_options(out);
	put_bash_commands(out);
	buf_puts(out, "}\n\n"
		      "# readline replaces what stands behind the last colon\n"
		      "_hearthctl() {\n"
		      "\tlocal word=${COMP_LINE:0:COMP_POINT}\n"
		      "\tword=${word##*[[:blank:]]}\n"
		      "\t_hearthctl_all\n"
		      "\tif [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then\n"
		      "\t\tword=${word%\"${word##*:}\"}\n"
		      "\t\tCOMPREPLY=(\"${COMPREPLY[@]#\"$word\"}\")\n"
		      "\tfi\n}\ncomplete -F _hearthctl hearthctl\n");
}

/* ---- zsh --------------------------------------------------------------------------------- */

/* Between single quotes, inside a spec of _arguments or _describe: quotes, colons and brackets. */
static void put_zsh_text(struct buf *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '\'')
			buf_puts(out, "'\\''");
		else if (strchr(":[]", *s))
			buf_printf(out, "\\%c", *s);
		else
			buf_putc(out, *s);
	}
}

static const char *zsh_action(const char *what)
{
	if (!strcmp(what, "alias") || !strcmp(what, "box"))
		return !strcmp(what, "box") ? "_hearthctl_values box" : "_hearthctl_values alias";
	if (!strcmp(what, "role"))
		return "(client admin)";
	return !strcmp(what, "file") ? "_files" : !strcmp(what, "folder") ? "_files -/" : "";
}

static void put_zsh_options(struct buf *out)
{
	for (const struct opts_row *o = ctl_options; o->name; o++) {
		const char *what = !strcmp(o->name, "model") ? "alias" :
				   !strcmp(o->name, "box") ? "box" : kind(o->arg);

		for (int is_short = o->key < OPTS_LONG_ONLY; is_short >= 0; is_short--) {
			if (is_short)
				buf_printf(out, "\t\t'-%c[", o->key);
			else
				buf_printf(out, "\t\t'--%s[", o->name);
			put_zsh_text(out, o->text);
			buf_putc(out, ']');
			if (o->arg)
				buf_printf(out, ":%s:%s", o->arg, zsh_action(what));
			buf_puts(out, "' \\\n");
		}
	}
}

static void put_zsh_list(struct buf *out, const char *first, size_t n)
{
	for (const struct ctl_command *m = ctl_commands; m->name; m++) {
		size_t len = strcspn(m->name, " ");

		if (first && (strncmp(m->name, first, n) != 0 || m->name[n] != ' '))
			continue;
		if (!first && m != ctl_commands && m->name[len] &&
		    !strncmp(m->name, m[-1].name, len + 1))
			continue;
		buf_puts(out, " '");
		if (first)
			buf_puts(out, m->name + n + 1);
		else
			buf_put(out, m->name, len);
		buf_putc(out, ':');
		put_zsh_text(out, !first && m->name[len] ? "..." : m->text);
		buf_putc(out, '\'');
	}
}

static void put_zsh_commands(struct buf *out)
{
	const char *last = "";

	for (const struct ctl_command *m = ctl_commands; m->name; m++) {
		size_t n = strcspn(m->name, " ");

		if (m->name[n] && strncmp(m->name, last, n + 1) != 0) {
			buf_printf(out, "\t%.*s) _hearthctl_words", (int)n, m->name);
			put_zsh_list(out, m->name, n);
			buf_puts(out, " ;;\n");
		}
		last = m->name;
		if (*zsh_action(kind(m->arg)))
			buf_printf(out, "\t'%s') %s ;;\n", m->name, zsh_action(kind(m->arg)));
	}
}

static void put_zsh(struct buf *out)
{
	buf_puts(out,
		 "#compdef hearthctl\n"
		 "# zsh completion of hearthctl; made by hearthctl --completion zsh\n"
		 "_hearthctl_values() {\n"
		 "\tlocal -a values=(${(f)\"$(hearthctl $ask --completion $1 2>/dev/null)\"})\n"
		 "\tcompadd -a values\n}\n\n"
		 "_hearthctl_words() {\n\tlocal -a list=(\"$@\")\n\t_describe command list\n}\n\n"
		 "_hearthctl_rest() {\n\tcase \"${(j: :)words[1,CURRENT-1]}\" in\n\t'') "
		 "_hearthctl_words");
	put_zsh_list(out, NULL, 0);
	buf_puts(out, " ;;\n");
	put_zsh_commands(out);
	buf_puts(out, "\tesac\n}\n\n_hearthctl() {\n\tlocal -a ask\n\tlocal -i i\n"
		      "\tfor ((i = 2; i < CURRENT; i++)); do\n\t\tcase $words[i] in\n\t\t");
	put_asking(out, "", "");
	buf_puts(out, ") ask+=($words[i] ${${(Q)words[i + 1]}/#\\~\\//$HOME/}); ((i++)) ;;\n\t\t");
	put_asking(out, "?*", "=*");
	buf_puts(out, ") ask+=(${(Q)words[i]}) ;;\n\t\tesac\n\tdone\n\t_arguments -s -S \\\n");
	put_zsh_options(out);
	buf_puts(out, "\t\t'*::command:_hearthctl_rest'\n}\n\n"
		      "[ \"$funcstack[1]\" = _hearthctl ] && _hearthctl \"$@\" || compdef "
		      "_hearthctl hearthctl\n");
}

int ctl_put_completion(const char *shell, struct buf *out)
{
	if (!strcmp(shell, "bash"))
		put_bash(out);
	else if (!strcmp(shell, "zsh"))
		put_zsh(out);
	else
		return -EINVAL;
	return buf_ok(out) ? 0 : -ENOMEM;
}

/* Names from the router, a line each, or nothing: a shell waits for this. */
int ctl_put_names(const struct ctl *c, const char *what, struct buf *out)
{
	JX_OWNED json_t *v = NULL;
	bool box = !strcmp(what, "box");
	const json_t *list;
	struct ctl quick = *c;
	struct err e;

	quick.limit_ms = 200;
	if (ctl_ask(&quick, box ? "/admin/status" : "/v1/models", NULL, NULL, &v, &e) < 0)
		return -ENOENT;
	list = json_object_get(v, box ? "boxes" : "data");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *s =
			jx_str(json_object_get(json_array_get(list, i), box ? "name" : "id"), NULL);

		/* into a shell's word list: nothing that a shell would read */
		if (s &&
		    strspn(s,
			   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/") ==
			    strlen(s))
			buf_printf(out, "%s\n", s);
	}
	return buf_ok(out) ? 0 : -ENOMEM;
}
