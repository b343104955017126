/* out_lex.c - see out_lex.h. */
#include "worker/text/out_lex.h"

#include <string.h>

static const char *const tags[LEX_N_KINDS] = {
	[LEX_THINK] = "<think>",	   [LEX_THINK_END] = "</think>",
	[LEX_CALL] = "<tool_call>",	   [LEX_CALL_END] = "</tool_call>",
	[LEX_FUNC] = "<function=",	   [LEX_FUNC_END] = "</function>",
	[LEX_PARAM] = "<parameter=",	   [LEX_PARAM_END] = "</parameter>",
};

bool lex_is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

bool lex_begins(enum lex_kind tag, const char *p, size_t n)
{
	return n < strlen(tags[tag]) && !memcmp(p, tags[tag], n);
}

/* The tag at a '<'; LEX_MORE when the text ends inside one; else LEX_WORD. */
static enum lex_kind tag_at(const char *p, size_t n, size_t *ret_n)
{
	for (enum lex_kind k = LEX_THINK; k < LEX_N_KINDS; k++) {
		size_t n_tag = strlen(tags[k]);

		if (n >= n_tag && !memcmp(p, tags[k], n_tag)) {
			*ret_n = n_tag;
			return k;
		}
		if (lex_begins(k, p, n)) {
			*ret_n = n;
			return LEX_MORE;
		}
	}
	return LEX_WORD;
}

struct lexeme lex_next(const char *p, size_t n, size_t at)
{
	struct lexeme lx = { LEX_WORD, p, 1, at };

	if (*p == '>') {
		lx.kind = LEX_GT;
		return lx;
	}
	if (lex_is_space(*p)) {
		lx.kind = LEX_WS;
		while (lx.n < n && lex_is_space(p[lx.n]))
			lx.n++;
		return lx;
	}
	if (*p == '<')
		lx.kind = tag_at(p, n, &lx.n);
	if (lx.kind != LEX_WORD)
		return lx;
	while (lx.n < n && p[lx.n] != '<' && p[lx.n] != '>' && !lex_is_space(p[lx.n]))
		lx.n++;
	return lx;
}
