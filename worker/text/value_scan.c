/* value_scan.c - see value_scan.h. */
#include "worker/text/value_scan.h"

#define BIT(kind) (1u << (kind))

/* What must follow an end for it to be one. */
static unsigned followers(enum lex_kind end)
{
	unsigned of_call = BIT(LEX_CALL);
	unsigned of_function = of_call | BIT(LEX_CALL_END) | BIT(LEX_FUNC);

	if (end == LEX_PARAM_END)
		return of_function | BIT(LEX_PARAM) | BIT(LEX_FUNC_END);
	return end == LEX_FUNC_END ? of_function : of_call;
}

void value_scan_init(struct value_scan *v, size_t at)
{
	*v = (struct value_scan){ .state = VALUE_SCAN_START, .start = at, .cut = at };
}

void value_scan_middle(struct value_scan *v)
{
	v->state = VALUE_SCAN_TEXT;
	v->line_start = v->column_0 = v->cr = false;
	v->candidate.tag = LEX_MORE;
}

static void feed_space(struct value_scan *v, const char *p, size_t n, size_t at)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\n') {
			v->cut = at + i - (v->cr ? 1 : 0);
			v->line_start = v->column_0 = true;
		} else {
			v->column_0 = false;
			v->line_start = v->line_start && (p[i] == ' ' || p[i] == '\t');
		}
		v->cr = p[i] == '\r';
	}
}

static void begin_block(struct value_scan *v, const struct lexeme *lx, size_t skip)
{
	value_scan_middle(v);
	v->block = v->line_start = v->column_0 = true;
	v->start = v->cut = lx->at + skip;
	feed_space(v, lx->p + skip, lx->n - skip, v->start);
}

/* Decides the form.  Whether lx was used up. */
static bool feed_first(struct value_scan *v, const struct lexeme *lx)
{
	bool was_cr = v->state == VALUE_SCAN_CR;

	if (lx->kind == LEX_WS && lx->p[0] == '\n') {
		begin_block(v, lx, 1);
		return true;
	}
	if (lx->kind == LEX_WS && lx->p[0] == '\r' && !was_cr) {
		if (lx->n == 1) {
			v->state = VALUE_SCAN_CR;
			return true;
		}
		if (lx->p[1] == '\n') {
			begin_block(v, lx, 2);
			return true;
		}
	}
	value_scan_middle(v);
	v->cr = was_cr;
	return false;
}

static struct value_end end_at(const struct value_scan *v, const struct lexeme *lx)
{
	struct value_end end = {
		.tag = lx->kind,
		.text_end = v->line_start ? v->cut : lx->at,
		.tag_at = lx->at,
		.resume = lx->at,
	};

	if (lx->kind == LEX_PARAM_END) {
		end.resume += lx->n;
		if (!v->block)
			end.text_end = lx->at;
	}
	return end;
}

/* A tag in the value.  Whether it ends it at once; it may become the candidate. */
static bool feed_tag(struct value_scan *v, const struct lexeme *lx, struct value_end *ret_end)
{
	struct value_end end = end_at(v, lx);
	bool at_once = lx->kind == LEX_PARAM_END ? !v->block :
		       lx->kind == LEX_PARAM     ? v->column_0 : false;
	bool maybe = lx->kind == LEX_PARAM_END ||
		     (v->line_start && (lx->kind == LEX_FUNC_END || lx->kind == LEX_CALL_END));

	if (at_once) {
		*ret_end = end;
		return true;
	}
	value_scan_middle(v);
	if (maybe)
		v->candidate = end;
	return false;
}

bool value_scan_feed(struct value_scan *v, const struct lexeme *lx, struct value_end *ret_end)
{
	if (v->state != VALUE_SCAN_TEXT && feed_first(v, lx))
		return false;
	if (lx->kind == LEX_WS) {
		feed_space(v, lx->p, lx->n, lx->at);
		return false;
	}
	if (v->candidate.tag != LEX_MORE && (followers(v->candidate.tag) & BIT(lx->kind))) {
		*ret_end = v->candidate;
		return true;
	}
	v->candidate.tag = LEX_MORE;
	if (lx->kind == LEX_WORD || lx->kind == LEX_GT) {
		value_scan_middle(v);
		return false;
	}
	return feed_tag(v, lx, ret_end);
}

size_t value_scan_safe(const struct value_scan *v, size_t pos)
{
	if (v->state != VALUE_SCAN_TEXT)
		return v->start;
	if (v->candidate.tag != LEX_MORE)
		return v->candidate.text_end;
	if (v->line_start)
		return v->cut;
	return v->cr ? pos - 1 : pos;	/* the CR of a CRLF to come */
}

bool value_scan_last(struct value_scan *v, const char *p, size_t n, bool cut,
		     struct value_end *ret_end)
{
	bool ends = v->candidate.tag != LEX_MORE && n == 0;

	if (v->candidate.tag != LEX_MORE && cut)
		for (enum lex_kind k = LEX_THINK; k < LEX_N_KINDS; k++)
			ends |= (followers(v->candidate.tag) & BIT(k)) && lex_begins(k, p, n);
	if (ends)
		*ret_end = v->candidate;
	v->candidate.tag = LEX_MORE;
	return ends;
}

bool value_scan_counts(const struct value_scan *v, const char *p, size_t n)
{
	return lex_begins(LEX_PARAM_END, p, n) ||
	       (v->column_0 && lex_begins(LEX_PARAM, p, n)) ||
	       (v->line_start && (lex_begins(LEX_FUNC_END, p, n) ||
				  lex_begins(LEX_CALL_END, p, n)));
}

struct value_end value_scan_finish(struct value_scan *v, size_t pos)
{
	return (struct value_end){
		.tag = LEX_MORE,
		.text_end = v->column_0 ? v->cut : pos,
		.tag_at = pos,
		.resume = pos,
	};
}
