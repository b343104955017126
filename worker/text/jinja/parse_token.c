/* parse_token.c - what parsing is built from: names, the tokens one by one, nodes; see parse.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "worker/text/jinja/parse.h"

static size_t chain_of(const char *p, size_t n)
{
	unsigned h = 5381;

	for (size_t i = 0; i < n; i++)
		h = h * 33 ^ (unsigned char)p[i];
	return h % PARSE_CHAINS;
}

const struct name *name_find(struct name *const *names, const char *p, size_t n)
{
	for (const struct name *at = names[chain_of(p, n)]; at; at = at->next)
		if (at->s->n == n && !memcmp(at->text, p, n))
			return at;
	return NULL;
}

const struct name *name_intern(struct jinja *j, struct name **names, const char *p, size_t n)
{
	struct name **chain = &names[chain_of(p, n)], *add;
	const struct name *have = name_find(names, p, n);
	char *text;

	if (have)
		return have;
	add = jinja_alloc(j, 1, sizeof(*add));
	text = jinja_alloc(j, n + 1, 1);
	memcpy(text, p, n);
	add->text = text;
	add->s = str_new(j, text, n, TEMPLATE);
	str_n_chars(j, add->s);
	add->next = *chain;
	*chain = add;
	return add;
}

const struct name *parse_name(struct parser *p, const struct token *t)
{
	return name_intern(p->j, p->names, t->text->p, t->text->n);
}

void parse_fail(struct parser *p, unsigned line, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	jinja_fail(p->j, "%s (line %u)", text, line);
}

static const struct token *token(struct parser *p, size_t pos)
{
	const struct token *t = &p->t.at[pos < p->t.n ? pos : p->t.n - 1];

	if (t->type == T_ERROR)
		parse_fail(p, t->line, "%s", str_text(p->j, t->text));
	return t;
}

const struct token *parse_peek(struct parser *p)
{
	return token(p, p->pos);
}

const struct token *parse_look(struct parser *p)
{
	return token(p, p->pos + 1);
}

const struct token *parse_next(struct parser *p)
{
	const struct token *t = token(p, p->pos);

	if (p->pos + 1 < p->t.n)
		p->pos++;
	return t;
}

bool parse_is_name(struct parser *p, const char *word)
{
	const struct token *t = parse_peek(p);

	return t->type == T_NAME && str_is(p->j, t->text, word);
}

bool parse_skip(struct parser *p, enum token_type type)
{
	if (parse_peek(p)->type != type)
		return false;
	parse_next(p);
	return true;
}

bool parse_skip_name(struct parser *p, const char *word)
{
	if (!parse_is_name(p, word))
		return false;
	parse_next(p);
	return true;
}

const char *parse_describe(struct parser *p, const struct token *t)
{
	return t->type == T_NAME ? parse_name(p, t)->text : token_type_text(t->type);
}

_Noreturn static void fail_expected(struct parser *p, const char *what)
{
	const struct token *t = parse_peek(p);

	if (t->type == T_EOF)
		parse_fail(p, t->line, "unexpected end of template, expected '%s'.", what);
	parse_fail(p, t->line, "expected token '%s', got '%s'", what, parse_describe(p, t));
}

const struct token *parse_expect(struct parser *p, enum token_type type)
{
	if (parse_peek(p)->type != type)
		fail_expected(p, token_type_text(type));
	return parse_next(p);
}

void parse_expect_name(struct parser *p, const char *word)
{
	if (!parse_skip_name(p, word))
		fail_expected(p, word);
}

struct node *parse_node(struct parser *p, enum node_kind kind, unsigned line)
{
	struct node *n = jinja_alloc(p->j, 1, sizeof(*n));

	n->kind = (uint8_t)kind;
	n->line = line;
	n->depth = 1;
	return n;
}

static unsigned deepest(unsigned depth, struct node *const *at, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (at[i] && at[i]->depth >= depth)
			depth = at[i]->depth + 1;
	return depth;
}

struct node *parse_nest(struct parser *p, struct node *n)
{
	struct node *const children[] = { n->a, n->b, n->c };

	n->depth = deepest(1, children, 3);
	n->depth = deepest(n->depth, n->list.at, n->list.n);
	n->depth = deepest(n->depth, n->body.at, n->body.n);
	n->depth = deepest(n->depth, n->orelse.at, n->orelse.n);
	if (n->args) {
		n->depth = deepest(n->depth, n->args->v, n->args->n);
		n->depth = deepest(n->depth, &n->args->star, 1);
		n->depth = deepest(n->depth, &n->args->star_star, 1);
		for (size_t i = 0; i < n->args->n_kw; i++)
			n->depth = deepest(n->depth, &n->args->kw[i].v, 1);
	}
	if (n->params)
		n->depth = deepest(n->depth, n->params->defaults, n->params->n);
	if (n->depth > PARSE_MAX_DEPTH)
		parse_fail(p, n->line, "the template is nested too deeply");
	return n;
}

void parse_add(struct parser *p, struct block *b, struct node *n)
{
	if (b->n == b->cap) {
		size_t cap = b->cap ? b->cap * 2 : 4;

		b->at = jinja_grow(p->j, b->at, b->n, cap, sizeof(*b->at));
		b->cap = cap;
	}
	b->at[b->n++] = n;
}
