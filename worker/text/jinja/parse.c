/* parse.c - statements; see parse.h. */
#include "worker/text/jinja/parse.h"

#include <string.h>

static void check_target(struct parser *p, const struct node *n)
{
	static const char *const names[] = {
		[N_CONST] = "const", [N_LIST] = "list", [N_DICT] = "dict",
	};

	if (n->kind == N_TUPLE) {
		for (size_t i = 0; i < n->list.n; i++)
			check_target(p, n->list.at[i]);
	} else if (n->kind == N_NAME) {
		if (p->in_for && !strcmp(n->name->text, "loop"))
			parse_fail(p, n->line,
				   "Can't assign to special loop variable in for-loop target");
	} else if (n->kind != N_NSREF) {
		parse_fail(p, n->line, "can't assign to '%s'",
			   n->kind <= N_DICT ? names[n->kind] : "expression");
	}
}

static struct node *target(struct parser *p, int flags, const char *end)
{
	struct node *n = parse_tuple(p, TUPLE_TARGET | flags, end);

	check_target(p, n);
	return n;
}

static const struct name *target_name(struct parser *p)
{
	const struct token *t = parse_expect(p, T_NAME);
	const struct name *name = parse_name(p, t);
	static const char *const words[] = { "true", "false", "none", "True", "False", "None" };

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (!strcmp(name->text, words[i]))
			parse_fail(p, t->line, "can't assign to 'name'");
	return name;
}

static void parse_block(struct parser *p, const char *const *ends, struct block *ret);

/* The body of a statement up to one of the tags in `ends`, which is left to be read. */
static void statements(struct parser *p, const char *const *ends, struct block *ret)
{
	parse_skip(p, T_COLON);
	parse_expect(p, T_BLOCK_END);
	parse_block(p, ends, ret);
}

static void statements_until(struct parser *p, const char *end, struct block *ret)
{
	const char *const ends[] = { end, NULL };

	statements(p, ends, ret);
	parse_next(p);
}

static struct node *parse_print(struct parser *p, unsigned line)
{
	struct node *n = parse_node(p, N_OUTPUT, line);

	while (parse_peek(p)->type != T_BLOCK_END) {
		if (n->list.n)
			parse_expect(p, T_COMMA);
		parse_add(p, &n->list, parse_expression(p, true));
	}
	return n;
}

static struct node *parse_set(struct parser *p, unsigned line)
{
	struct node *n = parse_node(p, N_SET, line);

	n->a = target(p, TUPLE_NAMESPACE, NULL);
	if (parse_skip(p, T_ASSIGN)) {
		n->b = parse_tuple(p, 0, NULL);
		return n;
	}
	n->kind = N_SET_BLOCK;
	n->b = parse_filters(p, NULL, false);
	statements_until(p, "endset", &n->body);
	return n;
}

static struct node *parse_if(struct parser *p, unsigned line)
{
	static const char *const ends[] = { "elif", "else", "endif", NULL };
	struct node *first = parse_node(p, N_IF, line), *n = first;

	p->soft++;
	for (;;) {
		n->a = parse_tuple(p, TUPLE_NO_COND, NULL);
		statements(p, ends, &n->body);
		if (!parse_skip_name(p, "elif"))
			break;
		/* a long chain of elif is a list, not a nest: see exec_if */
		n = parse_node(p, N_IF, parse_peek(p)->line);
		parse_add(p, &first->list, n);
	}
	if (parse_skip_name(p, "else"))
		statements_until(p, "endif", &first->orelse);
	else
		parse_next(p);
	for (size_t i = 0; i < first->list.n; i++)
		parse_nest(p, first->list.at[i]);
	p->soft--;
	return first;
}

static struct node *parse_for(struct parser *p, unsigned line)
{
	static const char *const ends[] = { "endfor", "else", NULL };
	struct node *n = parse_node(p, N_FOR, line);
	unsigned soft = p->soft;

	p->in_for++;
	n->a = target(p, 0, "in");
	parse_expect_name(p, "in");
	n->b = parse_tuple(p, TUPLE_NO_COND, "recursive");
	p->soft = 0;
	if (parse_skip_name(p, "if"))
		n->c = parse_expression(p, true);
	n->flag = parse_skip_name(p, "recursive");
	p->in_loop++;
	statements(p, ends, &n->body);
	p->in_loop--;
	if (parse_skip_name(p, "else"))
		statements_until(p, "endfor", &n->orelse);
	else
		parse_next(p);
	p->soft = soft;
	p->in_for--;
	return n;
}

static struct params *signature(struct parser *p)
{
	struct params *s = jinja_alloc(p->j, 1, sizeof(*s));

	parse_expect(p, T_LPAREN);
	while (parse_peek(p)->type != T_RPAREN) {
		if (s->n)
			parse_expect(p, T_COMMA);
		if (s->n == s->cap) {
			size_t cap = s->cap ? s->cap * 2 : 4;

			s->name = jinja_grow(p->j, s->name, s->n, cap, sizeof(*s->name));
			s->defaults = jinja_grow(p->j, s->defaults, s->n, cap,
						 sizeof(*s->defaults));
			s->cap = cap;
		}
		s->name[s->n] = target_name(p);
		if (parse_skip(p, T_ASSIGN))
			s->defaults[s->n] = parse_expression(p, true);
		else if (s->n && s->defaults[s->n - 1])
			parse_fail(p, parse_peek(p)->line,
				   "non-default argument follows default argument");
		s->n++;
	}
	parse_expect(p, T_RPAREN);
	return s;
}

/* A body whose use of caller, varargs and kwargs is noted in its parameters. */
static void macro_body(struct parser *p, struct node *n, const char *end)
{
	struct params *outer = p->uses;
	unsigned in_for = p->in_for, in_loop = p->in_loop, soft = p->soft;

	p->uses = n->params;
	p->in_loop = p->soft = 0;
	statements_until(p, end, &n->body);
	p->uses = outer;
	p->in_for = in_for;
	p->in_loop = in_loop;
	p->soft = soft;
	/* what a nested body uses, the outer one uses too */
	if (outer) {
		outer->uses_caller |= n->params->uses_caller;
		outer->uses_varargs |= n->params->uses_varargs;
		outer->uses_kwargs |= n->params->uses_kwargs;
	}
}

static struct node *parse_macro(struct parser *p, unsigned line)
{
	struct node *n = parse_node(p, N_MACRO, line);

	n->name = target_name(p);
	n->params = signature(p);
	macro_body(p, n, "endmacro");
	return n;
}

static struct node *parse_call_block(struct parser *p, unsigned line)
{
	struct node *n = parse_node(p, N_CALL_BLOCK, line);

	n->params = parse_peek(p)->type == T_LPAREN ? signature(p) :
		    jinja_alloc(p->j, 1, sizeof(*n->params));
	n->a = parse_expression(p, true);
	if (n->a->kind != N_CALL)
		parse_fail(p, line, "expected call");
	macro_body(p, n, "endcall");
	return n;
}

static struct node *parse_filter_block(struct parser *p, unsigned line)
{
	struct node *n = parse_node(p, N_FILTER_BLOCK, line);

	n->a = parse_filters(p, NULL, true);
	statements_until(p, "endfilter", &n->body);
	return n;
}

static struct node *parse_with(struct parser *p, unsigned line)
{
	struct node *n = parse_node(p, N_WITH, line);

	while (parse_peek(p)->type != T_BLOCK_END) {
		if (n->list.n)
			parse_expect(p, T_COMMA);
		parse_add(p, &n->list, target(p, 0, NULL));
		parse_expect(p, T_ASSIGN);
		parse_add(p, &n->list, parse_expression(p, true));
	}
	statements_until(p, "endwith", &n->body);
	return n;
}

static struct node *parse_named_block(struct parser *p, unsigned line)
{
	struct node *n = parse_node(p, N_SCOPE, line);
	const struct name *name = parse_name(p, parse_expect(p, T_NAME));

	parse_skip_name(p, "scoped");
	parse_skip_name(p, "required");
	statements_until(p, "endblock", &n->body);
	parse_skip_name(p, name->text);
	return n;
}

static struct node *parse_autoescape(struct parser *p, unsigned line)
{
	struct node *n = parse_node(p, N_SCOPE, line);
	struct node *on = parse_expression(p, true);

	if (on->kind != N_CONST || on->konst.kind != V_BOOL || on->konst.b)
		parse_fail(p, line, "autoescape is not supported");
	statements_until(p, "endautoescape", &n->body);
	return n;
}

static struct node *parse_generation(struct parser *p, unsigned line)
{
	struct node *n = parse_node(p, N_GENERATION, line);

	statements_until(p, "endgeneration", &n->body);
	return n;
}

static struct node *parse_loop_control(struct parser *p, unsigned line, enum node_kind kind)
{
	if (!p->in_loop)
		parse_fail(p, line, "'%s' outside loop", kind == N_BREAK ? "break" : "continue");
	return parse_node(p, kind, line);
}

static struct node *parse_break(struct parser *p, unsigned line)
{
	return parse_loop_control(p, line, N_BREAK);
}

static struct node *parse_continue(struct parser *p, unsigned line)
{
	return parse_loop_control(p, line, N_CONTINUE);
}

/* include, import, from, extends: accepted, as by the reference, and an error when run. */
static struct node *parse_load(struct parser *p, unsigned line)
{
	struct node *n = parse_node(p, N_NO_LOADER, line);

	parse_expression(p, true);
	while (parse_peek(p)->type != T_BLOCK_END && parse_peek(p)->type != T_EOF)
		parse_next(p);
	return n;
}

static const struct {
	const char *tag;
	struct node *(*parse)(struct parser *p, unsigned line);
} tags[] = {

	{ "print", parse_print }, { "set", parse_set }, { "if", parse_if }, { "for", parse_for },
	{ "macro", parse_macro }, { "call", parse_call_block }, { "filter", parse_filter_block },
	{ "with", parse_with }, { "block", parse_named_block }, { "autoescape", parse_autoescape },
	{ "generation", parse_generation }, { "break", parse_break },
	{ "continue", parse_continue }, { "include", parse_load }, { "import", parse_load },
	{ "from", parse_load }, { "extends", parse_load },
};

static bool is_end(const char *word, const char *const *ends)
{
	for (; *ends; ends++)
		if (!strcmp(word, *ends))
			return true;
	return false;
}

/* "'elif' or 'else' or 'endif'" */
static const char *ends_text(struct parser *p, const char *const *ends)
{
	struct str *s = str_empty(p->j);

	for (; *ends; ends++) {
		struct str *one = str_printf(p->j, TEMPLATE, "%s'%s'", s->n ? " or " : "", *ends);

		s = str_add(p->j, s, one);
	}
	return str_text(p->j, s);
}

/* An unknown tag, or with tag NULL the end of the template inside of a statement. */
_Noreturn static void fail_unknown(struct parser *p, const char *tag, unsigned line)
{
	const char *looking = p->n_ends ? ends_text(p, p->ends[p->n_ends - 1]) : NULL;
	const char *innermost = p->n_tags ? p->tags[p->n_tags - 1] : NULL;
	struct jinja *j = p->j;
	struct str *s;
	bool nesting = false;

	for (size_t i = 0; tag && i < p->n_ends; i++)
		nesting |= is_end(tag, p->ends[i]);
	s = tag ? str_printf(j, TEMPLATE, "Encountered unknown tag '%s'.", tag) :
		  str_from(j, "Unexpected end of template.", TEMPLATE);
	if (looking)
		s = str_add(j, s, str_printf(j, TEMPLATE, nesting ?
			" You probably made a nesting mistake. Jinja is expecting this tag, but"
			" currently looking for %s." :
			" Jinja was looking for the following tags: %s.", looking));
	if (innermost)
		s = str_add(j, s, str_printf(j, TEMPLATE, " The innermost block that needs to be"
					     " closed is '%s'.", innermost));
	parse_fail(p, line, "%s", str_text(j, s));
}

static struct node *statement(struct parser *p)
{
	const struct token *t = parse_peek(p);
	const char *tag;
	struct node *n;

	if (t->type != T_NAME)
		parse_fail(p, t->line, "tag name expected");
	tag = parse_name(p, t)->text;
	for (size_t i = 0; i < sizeof(tags) / sizeof(*tags); i++) {
		if (strcmp(tag, tags[i].tag))
			continue;
		if (p->n_tags == PARSE_MAX_DEPTH / 2)
			parse_fail(p, t->line, "the template is nested too deeply");
		p->tags[p->n_tags++] = tag;
		parse_next(p);
		n = tags[i].parse(p, t->line);
		p->n_tags--;
		return parse_nest(p, n);
	}
	fail_unknown(p, tag, t->line);
}

/* Adds a printed expression to the output that is being collected. */
static void add_output(struct parser *p, struct block *b, struct node **output, struct node *n)
{
	if (!*output) {
		*output = parse_node(p, N_OUTPUT, n->line);
		parse_add(p, b, *output);
	}
	parse_add(p, &(*output)->list, n);
	if (n->depth >= (*output)->depth)
		(*output)->depth = n->depth + 1;
}

static bool at_end(struct parser *p, const char *const *ends)
{
	const struct token *t = parse_peek(p);

	return ends && t->type == T_NAME && is_end(parse_name(p, t)->text, ends);
}

static void parse_block(struct parser *p, const char *const *ends, struct block *ret)
{
	struct node *output = NULL, *n;
	const struct token *t;

	if (ends)
		p->ends[p->n_ends++] = ends;
	while ((t = parse_peek(p))->type != T_EOF) {
		parse_next(p);
		if (t->type == T_DATA) {
			n = parse_node(p, N_CONST, t->line);
			n->konst = v_str(t->text);
			add_output(p, ret, &output, n);
		} else if (t->type == T_PRINT_BEGIN) {
			add_output(p, ret, &output, parse_tuple(p, 0, NULL));
			parse_expect(p, T_PRINT_END);
		} else {
			output = NULL;
			if (at_end(p, ends)) {
				p->n_ends--;
				return;
			}
			parse_add(p, ret, statement(p));
			parse_expect(p, T_BLOCK_END);
		}
	}
	if (ends)
		fail_unknown(p, NULL, t->line);
}

struct block parse(struct jinja *j, const char *text, size_t n, struct name ***ret_names)
{
	struct parser *p = jinja_alloc(j, 1, sizeof(*p));
	struct block body = { NULL, 0, 0 };

	p->j = j;
	p->names = jinja_alloc(j, PARSE_CHAINS, sizeof(struct name *));
	lex(j, text, n, &p->t);
	parse_block(p, NULL, &body);
	*ret_names = p->names;
	return body;
}
