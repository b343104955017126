/* out_lex.h - what a model writes, cut into tags, white space and words.
 *
 * Eight literals carry meaning in a Qwen3.6 answer.  Each begins with '<' and has
 * no other '<' inside, so a text is cut into them without looking back, and what
 * may still become one is never longer than eleven bytes.  What a tag means where
 * it stands is not known here.
 *
 * Runs of white space and words may come in several lexemes, as the text was fed;
 * whoever reads lexemes must not mind.  White space is ASCII's.
 */
#ifndef HEARTH_WORKER_TEXT_OUT_LEX_H
#define HEARTH_WORKER_TEXT_OUT_LEX_H

#include <stdbool.h>
#include <stddef.h>

enum lex_kind {
	LEX_MORE,	/* "<..." that may still become a tag: come back with more text */
	LEX_WS,		/* a run of white space */
	LEX_WORD,	/* a run of anything else, '<' only as its first byte */
	LEX_GT,		/* ">" */
	LEX_THINK,	/* <think> */
	LEX_THINK_END,	/* </think> */
	LEX_CALL,	/* <tool_call> */
	LEX_CALL_END,	/* </tool_call> */
	LEX_FUNC,	/* <function= */
	LEX_FUNC_END,	/* </function> */
	LEX_PARAM,	/* <parameter= */
	LEX_PARAM_END,	/* </parameter> */
	LEX_N_KINDS
};

/* `at` is the offset of the first byte in all that was fed. */
struct lexeme {
	enum lex_kind kind;
	const char *p;	/* borrowed from the text */
	size_t n;
	size_t at;
};

/* The first lexeme of n > 0 bytes. */
struct lexeme lex_next(const char *p, size_t n, size_t at);

/* Whether n bytes are a beginning of the tag, but not all of it. */
bool lex_begins(enum lex_kind tag, const char *p, size_t n);

bool lex_is_space(char c);

#endif
