/* parse.h - from text to nodes; the grammar of Jinja2 3.1 with break, continue and
 * {% generation %}.  Messages are the reference's, with the line behind them. */
#ifndef HEARTH_WORKER_TEXT_JINJA_PARSE_H
#define HEARTH_WORKER_TEXT_JINJA_PARSE_H

#include "worker/text/jinja/lex.h"
#include "worker/text/jinja/node.h"

/* Nodes may nest so deep: rendering recurses over them. */
#define PARSE_MAX_DEPTH 200
/* Chains of names. */
#define PARSE_CHAINS 256

struct parser {
	struct jinja *j;
	struct tokens t;
	size_t pos;
	unsigned depth;			/* of C calls now */
	struct name **names;		/* chains, to intern by */
	const char *tags[PARSE_MAX_DEPTH];	/* statements that are open */
	size_t n_tags;
	const char *const *ends[PARSE_MAX_DEPTH];	/* the tags that would end them */
	size_t n_ends;
	unsigned in_for, in_loop;
	/* A filter that does not exist is an error now, but inside of an if or of
	 * "a if b" only when it is run.  What stands before that "if" is parsed before
	 * it is seen: `unknown` waits until the expression is over. */
	unsigned soft, tentative;
	const struct node *unknown;
	struct params *uses;		/* of the innermost macro or call block */
};

/* The template's statements.  Raises. */
struct block parse(struct jinja *j, const char *text, size_t n, struct name ***ret_names);

/* ---- parse_token.c, for parse.c (statements) and parse_expr.c ---- */
_Noreturn void parse_fail(struct parser *p, unsigned line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
const struct token *parse_peek(struct parser *p);	/* raises what the lexer found wrong */
const struct token *parse_look(struct parser *p);	/* the one after it */
const struct token *parse_next(struct parser *p);	/* the current one, moving on */
bool parse_is_name(struct parser *p, const char *word);
bool parse_skip(struct parser *p, enum token_type type);
bool parse_skip_name(struct parser *p, const char *word);
const struct token *parse_expect(struct parser *p, enum token_type type);
void parse_expect_name(struct parser *p, const char *word);
const char *parse_describe(struct parser *p, const struct token *t);
struct node *parse_node(struct parser *p, enum node_kind kind, unsigned line);
/* The depth of n from that of its children; raises when too deep. */
struct node *parse_nest(struct parser *p, struct node *n);
void parse_add(struct parser *p, struct block *b, struct node *n);
const struct name *parse_name(struct parser *p, const struct token *t);

struct node *parse_expression(struct parser *p, bool with_cond);
enum {
	TUPLE_NO_COND = 1,	/* no "a if b else c" at the top */
	TUPLE_PARENS = 2,	/* in parentheses: () is a tuple */
	TUPLE_TARGET = 4,	/* names only */
	TUPLE_NAMESPACE = 8,	/* and ns.attr */
};
/* One expression, or a tuple when there is a comma.  `end` is a name that ends it. */
struct node *parse_tuple(struct parser *p, int flags, const char *end);
struct node *parse_filters(struct parser *p, struct node *n, bool start_inline);

#endif
