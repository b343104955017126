/* out_trim.c - see out_trim.h. */
#include "worker/text/out_trim.h"

#include "worker/text/out_lex.h"

/* Bytes of the newlines at the front. */
static size_t leading_newlines(const char *p, size_t n)
{
	size_t i = 0;

	for (;;) {
		if (i < n && p[i] == '\n')
			i++;
		else if (i + 1 < n && p[i] == '\r' && p[i + 1] == '\n')
			i += 2;
		else
			return i;
	}
}

/* Keeps white space.  Newlines before any text are gone for good; so kept never begins with
 * one there, and looking again costs nothing. */
static void keep(struct buf *kept, bool begun, const char *p, size_t n)
{
	size_t skip;

	buf_put(kept, p, n);
	skip = begun ? 0 : leading_newlines(kept->p, kept->n);
	if (skip > 0)
		buf_shift(kept, skip);
}

static void pass_kept(struct buf *kept, bool *begun, struct buf *out)
{
	if (kept->n == 0)
		return;
	buf_put(out, kept->p, kept->n);
	kept->n = 0;
	*begun = true;
}

static bool ends_in_cr(const struct buf *b)
{
	return b->n > 0 && b->p[b->n - 1] == '\r';
}

static bool is_newline(char c)
{
	return c == '\n' || c == '\r';
}

void reason_trim_put(struct reason_trim *t, const char *p, size_t n, struct buf *out)
{
	size_t i = 0, from;

	while (i < n) {
		/* a CR that no LF follows is text, and so is what came before it */
		if (!is_newline(p[i]) || (p[i] == '\r' && ends_in_cr(&t->kept)))
			pass_kept(&t->kept, &t->begun, out);
		if (is_newline(p[i])) {
			keep(&t->kept, t->begun, p + i, 1);
			i++;
			continue;
		}
		for (from = i; i < n && !is_newline(p[i]); i++)
			;
		buf_put(out, p + from, i - from);
		t->begun = true;
	}
}

void reason_trim_end(struct reason_trim *t, struct buf *out)
{
	if (ends_in_cr(&t->kept))
		pass_kept(&t->kept, &t->begun, out);
	t->kept.n = 0;
}

/* Whether white space that no text follows yet is content for certain: when no call can
 * come, all but a CR that may begin one more newline at the front. */
static bool passes_now(const struct content_trim *t)
{
	return !t->calls_may_come && (t->begun || t->kept.n > 1 || !ends_in_cr(&t->kept));
}

void content_trim_put(struct content_trim *t, const char *p, size_t n, struct buf *out)
{
	size_t i = 0, from;

	while (i < n) {
		for (from = i; i < n && lex_is_space(p[i]); i++)
			;
		keep(&t->kept, t->begun, p + from, i - from);
		if (i < n || passes_now(t))
			pass_kept(&t->kept, &t->begun, out);
		for (from = i; i < n && !lex_is_space(p[i]); i++)
			;
		if (i == from)
			continue;
		buf_put(out, p + from, i - from);
		t->begun = t->text = true;
	}
}

/* A new stretch of text begins: blank text of the last one is dropped. */
static void next_stretch(struct content_trim *t)
{
	if (t->text)
		t->n_before = t->kept.n;
	else
		t->kept.n = t->n_before;
	t->text = false;
}

void content_trim_call(struct content_trim *t)
{
	t->kept.n = t->n_before = 0;
	t->text = false;
	t->after_call = true;
}

void content_trim_call_end(struct content_trim *t)
{
	next_stretch(t);
}

void content_trim_end(struct content_trim *t, struct buf *out)
{
	if (t->after_call)
		next_stretch(t);
	pass_kept(&t->kept, &t->begun, out);
}
