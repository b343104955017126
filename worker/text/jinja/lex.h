/* lex.h - a template as tokens: text, and what stands inside of its tags.
 *
 * Follows the lexer of Jinja2 3.1 with trim_blocks and lstrip_blocks on and
 * keep_trailing_newline off: which white space a tag takes with it is decided here.
 */
#ifndef HEARTH_WORKER_TEXT_JINJA_LEX_H
#define HEARTH_WORKER_TEXT_JINJA_LEX_H

#include "worker/text/jinja/value.h"

enum token_type {
	T_EOF,
	T_DATA,			/* text outside of tags */
	T_PRINT_BEGIN,		/* {{ */
	T_PRINT_END,
	T_BLOCK_BEGIN,		/* {% */
	T_BLOCK_END,
	T_NAME,
	T_STRING,
	T_INTEGER,
	T_FLOAT,
	T_ADD, T_SUB, T_MUL, T_DIV, T_FLOORDIV, T_MOD, T_POW, T_TILDE,
	T_LBRACKET, T_RBRACKET, T_LPAREN, T_RPAREN, T_LBRACE, T_RBRACE,
	T_EQ, T_NE, T_GT, T_GE, T_LT, T_LE,
	T_ASSIGN, T_DOT, T_COLON, T_PIPE, T_COMMA, T_SEMICOLON,
	T_ERROR,		/* raised when the parser comes to it */
	T_N_TYPES,
};

struct token {
	uint8_t type;		/* enum token_type */
	unsigned line;
	struct str *text;	/* T_DATA, T_NAME, T_STRING, T_ERROR */
	struct value number;	/* T_INTEGER, T_FLOAT */
};

struct tokens {
	struct token *at;	/* the last is T_EOF or T_ERROR */
	size_t n, cap;
};

/* The text is valid UTF-8 and is copied. */
void lex(struct jinja *j, const char *text, size_t n, struct tokens *ret);

/* As messages name it: "end of template", ",", "name". */
const char *token_type_text(enum token_type type);

#endif
