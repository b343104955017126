/* parse_expr.c - expressions; see parse.h. */
#include <string.h>

#include "worker/text/jinja/parse.h"

static struct node *parse_unary(struct parser *p, bool with_filter);
static struct node *parse_or(struct parser *p);

static void enter(struct parser *p)
{
	/* some ten C calls for each level of nesting */
	if (++p->depth > PARSE_MAX_DEPTH)
		parse_fail(p, parse_peek(p)->line, "the template is nested too deeply");
}

static struct node *binary(struct parser *p, enum node_kind kind, struct node *a,
			   struct node *(*right)(struct parser *p), unsigned line)
{
	struct node *n = parse_node(p, kind, line);

	n->a = a;
	n->b = right(p);
	return parse_nest(p, n);
}

/* ---- primary expressions ---- */

static struct node *constant(struct parser *p, struct value v, unsigned line)
{
	struct node *n = parse_node(p, N_CONST, line);

	n->konst = v;
	return n;
}

static void note_use(struct parser *p, const struct name *name)
{
	if (!p->uses)
		return;
	p->uses->uses_caller |= !strcmp(name->text, "caller");
	p->uses->uses_varargs |= !strcmp(name->text, "varargs");
	p->uses->uses_kwargs |= !strcmp(name->text, "kwargs");
}

static struct node *name_or_word(struct parser *p, bool with_namespace)
{
	const struct token *t = parse_next(p);
	const char *word = parse_name(p, t)->text;
	struct node *n;

	if (!strcmp(word, "true") || !strcmp(word, "True"))
		return constant(p, v_bool(true), t->line);
	if (!strcmp(word, "false") || !strcmp(word, "False"))
		return constant(p, v_bool(false), t->line);
	if (!strcmp(word, "none") || !strcmp(word, "None"))
		return constant(p, NONE, t->line);
	n = parse_node(p, N_NAME, t->line);
	n->name = parse_name(p, t);
	note_use(p, n->name);
	if (with_namespace && parse_skip(p, T_DOT)) {
		n->kind = N_NSREF;
		n->attr = parse_name(p, parse_expect(p, T_NAME));
	}
	return n;
}

/* 'a' 'b' is one string. */
static struct node *string(struct parser *p)
{
	const struct token *t = parse_next(p);
	struct str *s = t->text;

	while (parse_peek(p)->type == T_STRING)
		s = str_add(p->j, s, parse_next(p)->text);
	str_n_chars(p->j, s);
	return constant(p, v_str(s), t->line);
}

static struct node *list(struct parser *p)
{
	struct node *n = parse_node(p, N_LIST, parse_expect(p, T_LBRACKET)->line);

	while (parse_peek(p)->type != T_RBRACKET) {
		if (n->list.n)
			parse_expect(p, T_COMMA);
		if (parse_peek(p)->type == T_RBRACKET)
			break;
		parse_add(p, &n->list, parse_expression(p, true));
	}
	parse_expect(p, T_RBRACKET);
	return parse_nest(p, n);
}

static struct node *dict(struct parser *p)
{
	struct node *n = parse_node(p, N_DICT, parse_expect(p, T_LBRACE)->line);

	while (parse_peek(p)->type != T_RBRACE) {
		if (n->list.n)
			parse_expect(p, T_COMMA);
		if (parse_peek(p)->type == T_RBRACE)
			break;
		parse_add(p, &n->list, parse_expression(p, true));
		parse_expect(p, T_COLON);
		parse_add(p, &n->list, parse_expression(p, true));
	}
	parse_expect(p, T_RBRACE);
	return parse_nest(p, n);
}

static struct node *primary(struct parser *p, bool with_namespace)
{
	const struct token *t = parse_peek(p);
	struct node *n;

	switch (t->type) {
	case T_NAME:
		return name_or_word(p, with_namespace);
	case T_STRING:
		return string(p);
	case T_INTEGER:
	case T_FLOAT:
		parse_next(p);
		return constant(p, t->number, t->line);
	case T_LPAREN:
		parse_next(p);
		n = parse_tuple(p, TUPLE_PARENS, NULL);
		parse_expect(p, T_RPAREN);
		return n;
	case T_LBRACKET:
		return list(p);
	case T_LBRACE:
		return dict(p);
	default:
		parse_fail(p, t->line, "unexpected '%s'", parse_describe(p, t));
	}
}

/* ---- what may follow them ---- */

static bool ends_slice(struct parser *p)
{
	return parse_peek(p)->type == T_RBRACKET || parse_peek(p)->type == T_COMMA;
}

static struct node *subscribed(struct parser *p)
{
	unsigned line = parse_peek(p)->line;
	struct node *from = NULL, *n;

	if (parse_peek(p)->type != T_COLON) {
		from = parse_expression(p, true);
		if (parse_peek(p)->type != T_COLON)
			return from;
	}
	parse_expect(p, T_COLON);
	n = parse_node(p, N_SLICE, line);
	n->a = from;
	if (parse_peek(p)->type != T_COLON && !ends_slice(p))
		n->b = parse_expression(p, true);
	if (parse_skip(p, T_COLON) && !ends_slice(p))
		n->c = parse_expression(p, true);
	return parse_nest(p, n);
}

static struct node *item(struct parser *p, struct node *of)
{
	struct node *n = parse_node(p, N_GETITEM, parse_expect(p, T_LBRACKET)->line);
	struct node *tuple = parse_node(p, N_TUPLE, n->line);

	n->a = of;
	while (parse_peek(p)->type != T_RBRACKET) {
		if (tuple->list.n)
			parse_expect(p, T_COMMA);
		parse_add(p, &tuple->list, subscribed(p));
	}
	parse_expect(p, T_RBRACKET);
	n->b = tuple->list.n == 1 ? tuple->list.at[0] : parse_nest(p, tuple);
	return parse_nest(p, n);
}

static struct node *subscript(struct parser *p, struct node *of)
{
	const struct token *t;
	struct node *n;

	if (parse_peek(p)->type == T_LBRACKET)
		return item(p, of);
	parse_next(p);
	t = parse_next(p);
	if (t->type == T_NAME) {
		n = parse_node(p, N_GETATTR, t->line);
		n->name = parse_name(p, t);
	} else if (t->type == T_INTEGER) {
		n = parse_node(p, N_GETITEM, t->line);
		n->b = constant(p, t->number, t->line);
	} else {
		parse_fail(p, t->line, "expected name or number");
	}
	n->a = of;
	return parse_nest(p, n);
}

static void check_call(struct parser *p, bool ok, unsigned line)
{
	if (!ok)
		parse_fail(p, line, "invalid syntax for function call expression");
}

static void add_kwarg(struct parser *p, struct call_args *c)
{
	const struct name *name = parse_name(p, parse_next(p));

	if (c->n_kw == c->cap_kw) {
		size_t cap = c->cap_kw ? c->cap_kw * 2 : 4;

		c->kw = jinja_grow(p->j, c->kw, c->n_kw, cap, sizeof(*c->kw));
		c->cap_kw = cap;
	}
	parse_expect(p, T_ASSIGN);
	c->kw[c->n_kw].v = parse_expression(p, true);
	c->kw[c->n_kw++].name = name;
}

static void add_arg(struct parser *p, struct call_args *c)
{
	struct block b = { c->v, c->n, c->cap };

	parse_add(p, &b, parse_expression(p, true));
	c->v = b.at;
	c->n = b.n;
	c->cap = b.cap;
}

static struct call_args *call_args(struct parser *p)
{
	struct call_args *c = jinja_alloc(p->j, 1, sizeof(*c));
	unsigned line = parse_expect(p, T_LPAREN)->line;
	bool first = true;

	while (parse_peek(p)->type != T_RPAREN) {
		if (!first) {
			parse_expect(p, T_COMMA);
			if (parse_peek(p)->type == T_RPAREN)
				break;
		}
		first = false;
		if (parse_skip(p, T_MUL)) {
			check_call(p, !c->star && !c->star_star, line);
			c->star = parse_expression(p, true);
		} else if (parse_skip(p, T_POW)) {
			check_call(p, !c->star_star, line);
			c->star_star = parse_expression(p, true);
		} else if (parse_peek(p)->type == T_NAME && parse_look(p)->type == T_ASSIGN) {
			check_call(p, !c->star_star, line);
			add_kwarg(p, c);
		} else {
			check_call(p, !c->star && !c->star_star && !c->n_kw, line);
			add_arg(p, c);
		}
	}
	parse_expect(p, T_RPAREN);
	return c;
}

static struct node *call(struct parser *p, struct node *of)
{
	struct node *n = parse_node(p, N_CALL, parse_peek(p)->line);

	n->a = of;
	n->args = call_args(p);
	return parse_nest(p, n);
}

static struct node *postfix(struct parser *p, struct node *n)
{
	for (;;) {
		switch (parse_peek(p)->type) {
		case T_DOT:
		case T_LBRACKET:
			n = subscript(p, n);
			break;
		case T_LPAREN:
			n = call(p, n);
			break;
		default:
			return n;
		}
	}
}

/* a.b.c as one name. */
static const struct name *dotted_name(struct parser *p)
{
	const struct name *name = parse_name(p, parse_expect(p, T_NAME));

	while (parse_skip(p, T_DOT)) {
		const struct name *more = parse_name(p, parse_expect(p, T_NAME));
		struct str *s = str_printf(p->j, TEMPLATE, "%s.%s", name->text, more->text);

		name = name_intern(p->j, p->names, s->p, s->n);
	}
	return name;
}

_Noreturn static void fail_unknown(struct parser *p, const struct node *n)
{
	parse_fail(p, n->line, "No %s named '%s'.", n->kind == N_FILTER ? "filter" : "test",
		   n->name->text);
}

static void check_known(struct parser *p, const struct node *n)
{
	if (n->fn || p->soft)
		return;
	if (!p->tentative)
		fail_unknown(p, n);
	if (!p->unknown)
		p->unknown = n;
}

struct node *parse_filters(struct parser *p, struct node *of, bool start_inline)
{
	while (start_inline || parse_peek(p)->type == T_PIPE) {
		struct node *n;

		if (!start_inline)
			parse_next(p);
		start_inline = false;
		n = parse_node(p, N_FILTER, parse_peek(p)->line);
		n->a = of;
		n->name = dotted_name(p);
		n->fn = jinja_filter(n->name->text);
		check_known(p, n);
		if (parse_peek(p)->type == T_LPAREN)
			n->args = call_args(p);
		of = parse_nest(p, n);
	}
	return of;
}

/* Whether the token begins the bare argument of a test, as in "x is divisibleby 3". */
static bool begins_test_argument(struct parser *p)
{
	switch (parse_peek(p)->type) {
	case T_NAME:
		return !parse_is_name(p, "else") && !parse_is_name(p, "or") &&
		       !parse_is_name(p, "and");
	case T_STRING:
	case T_INTEGER:
	case T_FLOAT:
	case T_LBRACKET:
	case T_LBRACE:
		return true;
	default:
		return false;
	}
}

static struct node *test(struct parser *p, struct node *of)
{
	struct node *n, *no;
	bool negated;
	unsigned line = parse_next(p)->line;	/* is */

	negated = parse_skip_name(p, "not");
	n = parse_node(p, N_TEST, line);
	n->a = of;
	n->name = dotted_name(p);
	n->fn = jinja_test(n->name->text);
	check_known(p, n);
	if (parse_peek(p)->type == T_LPAREN) {
		n->args = call_args(p);
	} else if (begins_test_argument(p)) {
		if (parse_is_name(p, "is"))
			parse_fail(p, parse_peek(p)->line,
				   "You cannot chain multiple tests with is");
		n->args = jinja_alloc(p->j, 1, sizeof(*n->args));
		n->args->v = jinja_alloc(p->j, 1, sizeof(struct node *));
		n->args->v[0] = postfix(p, primary(p, false));
		n->args->n = 1;
	}
	n = parse_nest(p, n);
	if (!negated)
		return n;
	no = parse_node(p, N_NOT, line);
	no->a = n;
	return parse_nest(p, no);
}

static struct node *filters_and_tests(struct parser *p, struct node *n)
{
	for (;;) {
		if (parse_peek(p)->type == T_PIPE)
			n = parse_filters(p, n, false);
		else if (parse_is_name(p, "is"))
			n = test(p, n);
		else if (parse_peek(p)->type == T_LPAREN)
			n = call(p, n);
		else
			return n;
	}
}

/* ---- operators, the loosest last ---- */

static struct node *parse_unary(struct parser *p, bool with_filter)
{
	const struct token *t = parse_peek(p);
	struct node *n;

	enter(p);
	if (t->type == T_SUB || t->type == T_ADD) {
		parse_next(p);
		n = parse_node(p, t->type == T_SUB ? N_NEG : N_POS, t->line);
		n->a = parse_unary(p, false);
		n = parse_nest(p, n);
	} else {
		n = primary(p, false);
	}
	n = postfix(p, n);
	if (with_filter)
		n = filters_and_tests(p, n);
	p->depth--;
	return n;
}

static struct node *unary(struct parser *p)
{
	return parse_unary(p, true);
}

static struct node *power(struct parser *p)
{
	unsigned line = parse_peek(p)->line;
	struct node *n = unary(p);

	while (parse_skip(p, T_POW))
		n = binary(p, N_POW, n, unary, line);
	return n;
}

static struct node *product(struct parser *p)
{
	unsigned line = parse_peek(p)->line;
	struct node *n = power(p);

	for (;;) {
		enum node_kind kind;

		switch (parse_peek(p)->type) {
		case T_MUL:
			kind = N_MUL;
			break;
		case T_DIV:
			kind = N_DIV;
			break;
		case T_FLOORDIV:
			kind = N_FLOORDIV;
			break;
		case T_MOD:
			kind = N_MOD;
			break;
		default:
			return n;
		}
		parse_next(p);
		n = binary(p, kind, n, power, line);
	}
}

static struct node *concat(struct parser *p)
{
	unsigned line = parse_peek(p)->line;
	struct node *first = product(p), *n;

	if (parse_peek(p)->type != T_TILDE)
		return first;
	n = parse_node(p, N_CONCAT, line);
	parse_add(p, &n->list, first);
	while (parse_skip(p, T_TILDE))
		parse_add(p, &n->list, product(p));
	return parse_nest(p, n);
}

static struct node *sum(struct parser *p)
{
	unsigned line = parse_peek(p)->line;
	struct node *n = concat(p);

	for (;;) {
		if (parse_skip(p, T_ADD))
			n = binary(p, N_ADD, n, concat, line);
		else if (parse_skip(p, T_SUB))
			n = binary(p, N_SUB, n, concat, line);
		else
			return n;
	}
}

static bool compare_op(struct parser *p, uint8_t *ret)
{
	static const uint8_t by_type[T_N_TYPES] = {
		[T_EQ] = OP_EQ + 1, [T_NE] = OP_NE + 1, [T_LT] = OP_LT + 1,
		[T_LE] = OP_LE + 1, [T_GT] = OP_GT + 1, [T_GE] = OP_GE + 1,
	};
	const struct token *t = parse_peek(p);

	if (by_type[t->type]) {
		*ret = (uint8_t)(by_type[t->type] - 1);
	} else if (parse_is_name(p, "in")) {
		*ret = OP_IN;
	} else if (parse_is_name(p, "not") && parse_look(p)->type == T_NAME &&
		   str_is(p->j, parse_look(p)->text, "in")) {
		parse_next(p);
		*ret = OP_NOT_IN;
	} else {
		return false;
	}
	parse_next(p);
	return true;
}

static struct node *comparison(struct parser *p)
{
	unsigned line = parse_peek(p)->line;
	struct node *first = sum(p), *n = NULL;
	uint8_t op;

	while (compare_op(p, &op)) {
		struct node *operand = parse_node(p, N_OPERAND, line);

		if (!n)
			n = parse_node(p, N_COMPARE, line);
		n->a = first;
		operand->op = op;
		operand->a = sum(p);
		parse_add(p, &n->list, parse_nest(p, operand));
	}
	return n ? parse_nest(p, n) : first;
}

static struct node *negation(struct parser *p)
{
	struct node *n;

	if (!parse_is_name(p, "not"))
		return comparison(p);
	enter(p);
	n = parse_node(p, N_NOT, parse_next(p)->line);
	n->a = negation(p);
	p->depth--;
	return parse_nest(p, n);
}

static struct node *parse_and(struct parser *p)
{
	unsigned line = parse_peek(p)->line;
	struct node *n = negation(p);

	while (parse_skip_name(p, "and"))
		n = binary(p, N_AND, n, negation, line);
	return n;
}

static struct node *parse_or(struct parser *p)
{
	unsigned line = parse_peek(p)->line;
	struct node *n = parse_and(p);

	while (parse_skip_name(p, "or"))
		n = binary(p, N_OR, n, parse_and, line);
	return n;
}

static struct node *conditional(struct parser *p)
{
	unsigned line = parse_peek(p)->line;
	const struct node *unknown = p->unknown;
	struct node *n, *cond;

	p->tentative++;
	n = parse_or(p);
	while (parse_skip_name(p, "if")) {
		p->soft++;
		cond = parse_node(p, N_COND, line);
		cond->b = n;
		cond->a = parse_or(p);
		if (parse_skip_name(p, "else"))
			cond->c = parse_expression(p, true);
		n = parse_nest(p, cond);
		p->unknown = unknown;
		p->soft--;
	}
	if (!--p->tentative && p->unknown)
		fail_unknown(p, p->unknown);
	return n;
}

struct node *parse_expression(struct parser *p, bool with_cond)
{
	struct node *n;

	enter(p);
	n = with_cond ? conditional(p) : parse_or(p);
	p->depth--;
	return n;
}

static bool ends_tuple(struct parser *p, const char *end)
{
	enum token_type type = parse_peek(p)->type;

	return type == T_PRINT_END || type == T_BLOCK_END || type == T_RPAREN ||
	       (end && parse_is_name(p, end));
}

struct node *parse_tuple(struct parser *p, int flags, const char *end)
{
	struct node *n = parse_node(p, N_TUPLE, parse_peek(p)->line);
	bool comma = false;

	enter(p);
	for (;;) {
		if (n->list.n)
			parse_expect(p, T_COMMA);
		if (ends_tuple(p, end))
			break;
		parse_add(p, &n->list, flags & TUPLE_TARGET ?
			  primary(p, flags & TUPLE_NAMESPACE) :
			  parse_expression(p, !(flags & TUPLE_NO_COND)));
		if (parse_peek(p)->type != T_COMMA)
			break;
		comma = true;
	}
	p->depth--;
	if (comma)
		return parse_nest(p, n);
	if (n->list.n)
		return n->list.at[0];
	if (!(flags & TUPLE_PARENS))
		parse_fail(p, parse_peek(p)->line, "Expected an expression, got '%s'",
			   parse_describe(p, parse_peek(p)));
	return n;
}
