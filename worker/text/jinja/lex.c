/* lex.c - see lex.h. */
#include "worker/text/jinja/lex.h"

#include <stdlib.h>
#include <string.h>

#include "lib/utf8.h"

struct lexer {
	struct jinja *j;
	struct tokens *out;
	const char *start;
	const char *p, *end;	/* what is left */
	unsigned line;
	bool line_start;	/* the last token ended with a newline */
	char closing[256];	/* of the brackets that are open */
	size_t n_open;
	bool failed;
};

/* ---- making tokens ---- */

static struct token *emit(struct lexer *x, enum token_type type)
{
	struct tokens *t = x->out;

	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 256;

		t->at = jinja_grow(x->j, t->at, t->n, cap, sizeof(*t->at));
		t->cap = cap;
	}
	t->at[t->n] = (struct token){ .type = (uint8_t)type, .line = x->line };
	return &t->at[t->n++];
}

/* The reference lexes while it parses: an error here counts only when the parser
 * gets so far. */
static void fail(struct lexer *x, struct str *message)
{
	emit(x, T_ERROR)->text = message;
	x->failed = true;
}

static struct str *copy(struct lexer *x, const char *from, const char *to)
{
	struct str *s = str_new(x->j, from, (size_t)(to - from), TEMPLATE);

	str_n_chars(x->j, s);
	return s;
}

static unsigned lines_in(const char *from, const char *to)
{
	unsigned n = 0;

	for (; from < to; from++)
		n += *from == '\n';
	return n;
}

static void advance(struct lexer *x, const char *to)
{
	x->line += lines_in(x->p, to);
	if (to > x->p)
		x->line_start = to[-1] == '\n';
	x->p = to;
}

static bool at(const struct lexer *x, const char *p, const char *what)
{
	size_t n = strlen(what);

	return (size_t)(x->end - p) >= n && !memcmp(p, what, n);
}

static const char *skip_space(const struct lexer *x, const char *p)
{
	uint32_t c;

	while (p < x->end) {
		size_t n = char_get(p, &c);

		if (!char_is_space(c))
			break;
		p += n;
	}
	return p;
}

/* ---- text between tags ---- */

/* After "{%" and a sign: the end of a raw tag, or NULL when it is another tag. */
static const char *raw_end(const struct lexer *x, const char *p, const char *word)
{
	p = skip_space(x, p);
	if (!at(x, p, word))
		return NULL;
	return skip_space(x, p + strlen(word));
}

/* The end of a closing "%}" at p with what it takes along; NULL: none there. */
static const char *block_end(const struct lexer *x, const char *p, const char *mark)
{
	size_t n = strlen(mark);
	bool print = *mark == '}';

	if (at(x, p, "-") && at(x, p + 1, mark))
		return skip_space(x, p + 1 + n);
	if (!print && at(x, p, "+") && at(x, p + 1, mark))
		return p + 1 + n;
	if (!at(x, p, mark))
		return NULL;
	p += n;
	return !print && at(x, p, "\n") ? p + 1 : p;
}

static const char *rstrip(const char *from, const char *to)
{
	while (to > from) {
		const char *c = to - 1;
		uint32_t cp;

		while (((unsigned char)*c & 0xc0) == 0x80)
			c--;
		char_get(c, &cp);
		if (!char_is_space(cp))
			break;
		to = c;
	}
	return to;
}

/* What of the text [from, to) before a tag with this sign remains. */
static const char *keep_before(const struct lexer *x, const char *from, const char *to,
			       char sign, bool print)
{
	const char *line = to, *stripped = rstrip(from, to);

	if (sign == '-')
		return stripped;
	if (sign == '+' || print)
		return to;
	while (line > from && line[-1] != '\n')
		line--;
	if (line == from && !x->line_start)
		return to;
	return stripped <= line ? line : to;
}

static void emit_text(struct lexer *x, const char *from, const char *to)
{
	if (to > from)
		emit(x, T_DATA)->text = copy(x, from, to);
}

static void lex_comment(struct lexer *x)
{
	const char *p = x->p;

	for (; p < x->end; p++) {
		const char *after;

		if (!at(x, p, "#}"))
			continue;
		/* "-#}" takes the white space behind, "#}" one newline, "+#}" nothing */
		after = p + 2;
		if (p > x->p && p[-1] == '-')
			after = skip_space(x, after);
		else if (!(p > x->p && p[-1] == '+') && at(x, after, "\n"))
			after++;
		advance(x, after);
		return;
	}
	if (x->p < x->end)
		fail(x, str_from(x->j, "Missing end of comment tag", TEMPLATE));
}

static void lex_raw(struct lexer *x)
{
	for (const char *p = x->p; p < x->end; p++) {
		const char *after, *end, *keep;
		char sign;

		if (!at(x, p, "{%"))
			continue;
		after = p + 2;
		sign = after < x->end && (*after == '-' || *after == '+') ? *after++ : 0;
		after = raw_end(x, after, "endraw");
		end = after ? block_end(x, after, "%}") : NULL;
		if (!end)
			continue;
		keep = keep_before(x, x->p, p, sign, false);
		emit_text(x, x->p, keep);
		advance(x, end);
		return;
	}
	if (x->p < x->end)
		fail(x, str_from(x->j, "Missing end of raw directive", TEMPLATE));
}

static void lex_inside(struct lexer *x, bool print);

/* From the text at p up to and with the next tag.  False: there was no tag. */
static bool lex_tag(struct lexer *x)
{
	const char *tag = x->p, *after, *raw = NULL;
	char kind, sign;

	while (tag < x->end && !at(x, tag, "{{") && !at(x, tag, "{%") && !at(x, tag, "{#"))
		tag++;
	if (tag >= x->end) {
		emit_text(x, x->p, x->end);
		return false;
	}
	kind = tag[1];
	after = tag + 2;
	sign = after < x->end && (*after == '-' || *after == '+') ? *after++ : 0;
	if (kind == '%') {
		raw = raw_end(x, after, "raw");
		if (raw && at(x, raw, "-%}"))
			raw = skip_space(x, raw + 3);
		else
			raw = raw && at(x, raw, "%}") ? raw + 2 : NULL;
	}
	emit_text(x, x->p, keep_before(x, x->p, tag, sign, kind == '{'));
	advance(x, tag);
	if (kind != '#' && !raw)
		emit(x, kind == '{' ? T_PRINT_BEGIN : T_BLOCK_BEGIN);
	advance(x, raw ? raw : after);
	if (kind == '#')
		lex_comment(x);
	else if (raw)
		lex_raw(x);
	else
		lex_inside(x, kind == '{');
	return true;
}

/* ---- inside of tags ---- */

static bool is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || (unsigned char)c >= 0x80;
}

static bool is_digit_of(char c, int base)
{
	if (base == 16 && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
		return true;
	return c >= '0' && c < '0' + (base < 10 ? base : 10);
}

/* Digits with single underscores between them; NULL: none at p. */
static const char *digits(const struct lexer *x, const char *p, int base)
{
	if (p >= x->end || !is_digit_of(*p, base))
		return NULL;
	for (;;) {
		if (p < x->end && is_digit_of(*p, base))
			p++;
		else if (p + 1 < x->end && *p == '_' && is_digit_of(p[1], base))
			p += 2;
		else
			return p;
	}
}

static const char *float_end(const struct lexer *x, const char *from)
{
	const char *p, *more;
	bool is_float = false;

	if (from[-1] == '.')	/* there is a tag's opening before */
		return NULL;
	p = digits(x, from, 10);
	if (!p)
		return NULL;
	if (p < x->end && *p == '.' && (more = digits(x, p + 1, 10))) {
		p = more;
		is_float = true;
	}
	if (p < x->end && (*p == 'e' || *p == 'E')) {
		more = p + 1;
		if (more < x->end && (*more == '+' || *more == '-'))
			more++;
		more = digits(x, more, 10);
		if (more) {
			p = more;
			is_float = true;
		}
	}
	return is_float ? p : NULL;
}

/* The number without its underscores, terminated. */
static char *plain(struct lexer *x, const char *from, const char *to)
{
	char *s = jinja_alloc(x->j, (size_t)(to - from) + 1, 1), *q = s;

	for (; from < to; from++)
		if (*from != '_')
			*q++ = *from;
	return s;
}

static const char *zeros(const struct lexer *x, const char *p)
{
	while (p < x->end && (*p == '0' || (at(x, p, "_0"))))
		p++;
	return p;
}

static void lex_number(struct lexer *x)
{
	const char *p = x->p, *to = float_end(x, p);
	int base = 10;
	char *s;

	if (to) {
		emit(x, T_FLOAT)->number = v_float(strtod(plain(x, p, to), NULL));
		advance(x, to);
		return;
	}
	if (*p == '0' && x->end - p > 2) {
		char c = (char)(p[1] | 0x20);
		int b = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;

		if (b && digits(x, p + 2 + (p[2] == '_'), b))
			base = b;
	}
	to = base != 10 ? digits(x, p + 2 + (p[2] == '_'), base) : digits(x, p, 10);
	if (base == 10 && *p == '0')	/* 007 is three numbers to the reference, too */
		to = zeros(x, p);
	s = plain(x, base == 10 ? p : p + 2, to);
	errno = 0;
	emit(x, T_INTEGER)->number = v_int(strtoll(s, NULL, base));
	if (errno == ERANGE)
		x->out->at[x->out->n - 1].number = (struct value){
			.kind = V_BIG, .s = str_from(x->j, s, TEMPLATE) };
	if (errno == ERANGE && base != 10)
		fail(x, str_from(x->j, "integer beyond 64 bits", TEMPLATE));
	advance(x, to);
}

static int hex_value(const char *p, size_t n, uint32_t *ret)
{
	uint32_t v = 0;

	for (size_t i = 0; i < n; i++) {
		if (!is_digit_of(p[i], 16))
			return -EINVAL;
		v = v * 16 + (uint32_t)(p[i] <= '9' ? p[i] - '0' : (p[i] | 0x20) - 'a' + 10);
	}
	*ret = v;
	return 0;
}

/* One escape at p (after the backslash); what follows it, or NULL: it is wrong. */
static const char *lex_escape(struct str_out *o, const char *p, const char *end)
{
	static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
	const char *simple = memchr(from, *p, sizeof(from) - 1);
	size_t n = *p == 'x' ? 2 : *p == 'u' ? 4 : *p == 'U' ? 8 : 0;
	uint32_t c = 0;

	if (simple) {
		str_out_put(o, &to[simple - from], 1, TEMPLATE);
		return p + 1;
	}
	if (*p == '\n')
		return p + 1;
	if (n) {
		if ((size_t)(end - p) <= n || hex_value(p + 1, n, &c) < 0 || c > 0x10ffff ||
		    (c >= 0xd800 && c < 0xe000))
			return NULL;
		str_out_char(o, c, TEMPLATE);
		return p + 1 + n;
	}
	if (is_digit_of(*p, 8)) {
		for (n = 0; n < 3 && p < end && is_digit_of(*p, 8); n++)
			c = c * 8 + (uint32_t)(*p++ - '0');
		str_out_char(o, c, TEMPLATE);
		return p;
	}
	if (*p == 'N')
		return NULL;
	str_out_put(o, "\\", 1, TEMPLATE);	/* an unknown escape stands as it is */
	return p;
}

static struct str *unescape(struct lexer *x, const char *p, const char *end, char *ret_wrong)
{
	struct str_out o = STR_OUT(x->j);
	struct str *s;

	while (p < end) {
		const char *from = p;

		while (p < end && *p != '\\')
			p++;
		str_out_put(&o, from, (size_t)(p - from), TEMPLATE);
		from = p;
		if (p < end)
			p = lex_escape(&o, p + 1, end);
		if (!p) {
			*ret_wrong = from[1];
			return NULL;
		}
	}
	s = str_out_done(&o);
	str_n_chars(x->j, s);
	return s;
}

static bool lex_string(struct lexer *x)
{
	char quote = *x->p, wrong = 0;
	const char *p = x->p + 1;
	struct str *s;

	while (p < x->end && *p != quote)
		p += *p == '\\' ? 2 : 1;
	if (p >= x->end)
		return false;
	s = unescape(x, x->p + 1, p, &wrong);
	if (s)
		emit(x, T_STRING)->text = s;
	else
		fail(x, str_from(x->j, wrong == 'x' ? "truncated \\xXX escape" :
				 wrong == 'u' ? "truncated \\uXXXX escape" :
				 wrong == 'U' ? "truncated \\UXXXXXXXX escape" :
						"malformed \\N character escape", TEMPLATE));
	advance(x, p + 1);
	return true;
}

static const struct {
	const char *text;
	enum token_type type;
} operators[] = {
	{ "**", T_POW }, { "//", T_FLOORDIV }, { "==", T_EQ }, { "!=", T_NE }, { ">=", T_GE },
	{ "<=", T_LE }, { "+", T_ADD }, { "-", T_SUB }, { "*", T_MUL }, { "/", T_DIV },
	{ "%", T_MOD }, { "~", T_TILDE }, { "[", T_LBRACKET }, { "]", T_RBRACKET },
	{ "(", T_LPAREN }, { ")", T_RPAREN }, { "{", T_LBRACE }, { "}", T_RBRACE }, { ">", T_GT },
	{ "<", T_LT }, { "=", T_ASSIGN }, { ".", T_DOT }, { ":", T_COLON }, { "|", T_PIPE },
	{ ",", T_COMMA }, { ";", T_SEMICOLON },
};

/* Keeps count of brackets, so that "}}" inside of a dict ends no tag. */
static void balance(struct lexer *x, char c)
{
	struct jinja *j = x->j;

	if (c == '(' || c == '[' || c == '{') {
		if (x->n_open == sizeof(x->closing))
			fail(x, str_from(j, "brackets are nested too deeply", TEMPLATE));
		else
			x->closing[x->n_open++] = c == '(' ? ')' : c == '[' ? ']' : '}';
	} else if (c == ')' || c == ']' || c == '}') {
		if (!x->n_open)
			fail(x, str_printf(j, TEMPLATE, "unexpected '%c'", c));
		else if (x->closing[--x->n_open] != c)
			fail(x, str_printf(j, TEMPLATE, "unexpected '%c', expected '%c'", c,
					   x->closing[x->n_open]));
	}
}

static bool lex_operator(struct lexer *x)
{
	for (size_t i = 0; i < sizeof(operators) / sizeof(*operators); i++) {
		if (!at(x, x->p, operators[i].text))
			continue;
		if (!operators[i].text[1])
			balance(x, *x->p);
		if (!x->failed)
			emit(x, operators[i].type);
		advance(x, x->p + strlen(operators[i].text));
		return true;
	}
	return false;
}

/* Names may hold any letters; white space ends them, be it beyond ASCII. */
static const char *name_end(const struct lexer *x, const char *p)
{
	uint32_t c;

	while (p < x->end && is_name_char(*p)) {
		size_t n = char_get(p, &c);

		if (char_is_space(c))
			break;
		p += n;
	}
	return p;
}

static void lex_one(struct lexer *x)
{
	const char *p = skip_space(x, x->p);

	if (p > x->p) {
		advance(x, p);
		return;
	}
	if (*p >= '0' && *p <= '9') {
		lex_number(x);
		return;
	}
	if (is_name_char(*p)) {
		p = name_end(x, p);
		emit(x, T_NAME)->text = copy(x, x->p, p);
		advance(x, p);
		return;
	}
	if ((*p == '"' || *p == '\'') && lex_string(x))
		return;
	if (!lex_operator(x))
		fail(x, str_printf(x->j, TEMPLATE, "unexpected char %s at %zu",
				   v_repr_text(x->j, v_str(copy(x, p, p + char_len(*p)))),
				   copy(x, x->start, p)->n_chars));
}

static void lex_inside(struct lexer *x, bool print)
{
	const char *mark = print ? "}}" : "%}", *end;

	x->n_open = 0;
	while (x->p < x->end && !x->failed) {
		end = x->n_open ? NULL : block_end(x, x->p, mark);
		if (end) {
			emit(x, print ? T_PRINT_END : T_BLOCK_END);
			advance(x, end);
			return;
		}
		lex_one(x);
	}
}

/* ---- the whole ---- */

/* A copy with \r\n and \r as \n, and without the last newline. */
static void normalise(struct lexer *x, const char *text, size_t n)
{
	char *copy_of = jinja_alloc(x->j, n + 1, 1), *q = copy_of;

	for (size_t i = 0; i < n; i++) {
		if (text[i] == '\r' && i + 1 < n && text[i + 1] == '\n')
			continue;
		*q++ = text[i] == '\r' ? '\n' : text[i];
	}
	if (q > copy_of && q[-1] == '\n')
		q--;
	x->start = x->p = copy_of;
	x->end = q;
}

void lex(struct jinja *j, const char *text, size_t n, struct tokens *ret)
{
	struct lexer x = { .j = j, .out = ret, .line = 1, .line_start = true };

	*ret = (struct tokens){ NULL, 0, 0 };
	if (!utf8_ok(text, n))
		jinja_fail(j, "the template is not UTF-8");
	normalise(&x, text, n);
	while (x.p < x.end && !x.failed)
		if (!lex_tag(&x))
			break;
	if (!x.failed)
		emit(&x, T_EOF);
}

const char *token_type_text(enum token_type type)
{
	for (size_t i = 0; i < sizeof(operators) / sizeof(*operators); i++)
		if (operators[i].type == type)
			return operators[i].text;
	switch (type) {
	case T_EOF:
		return "end of template";
	case T_DATA:
		return "template data / text";
	case T_PRINT_BEGIN:
		return "begin of print statement";
	case T_PRINT_END:
		return "end of print statement";
	case T_BLOCK_BEGIN:
		return "begin of statement block";
	case T_BLOCK_END:
		return "end of statement block";
	case T_NAME:
		return "name";
	case T_STRING:
		return "string";
	case T_INTEGER:
		return "integer";
	case T_FLOAT:
		return "float";
	default:
		return "?";
	}
}
