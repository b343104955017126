/* call_open.c - see call_open.h. */
#include "worker/text/call_open.h"

bool call_name_ok(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		switch (p[i]) {
		case '"':
		case '\'':
		case '{':
		case '}':
		case '<':
		case '>':
			return false;
		}
	}
	return true;
}

static bool name_word(struct call_open *o, const struct lexeme *lx)
{
	if (o->gap || !call_name_ok(lx->p, lx->n))
		return false;
	if (!o->any)
		o->name_at = lx->at;
	o->any = true;
	o->name_end = lx->at + lx->n;
	return true;
}

static enum call_open_result failed(struct call_open *o)
{
	o->state = CALL_OPEN_IDLE;
	return CALL_OPEN_FAILED;
}

enum call_open_result call_open_feed(struct call_open *o, const struct lexeme *lx)
{
	if (o->state == CALL_OPEN_IDLE)
		return CALL_OPEN_NONE;
	if (lx->kind == LEX_WS) {
		o->gap = o->any;
		return CALL_OPEN_HELD;
	}
	if (o->state == CALL_OPEN_WAIT) {
		if (lx->kind != LEX_FUNC)
			return failed(o);
		o->state = CALL_OPEN_NAME;
		return CALL_OPEN_HELD;
	}
	if (lx->kind == LEX_WORD && name_word(o, lx))
		return CALL_OPEN_HELD;
	if (lx->kind != LEX_GT || !o->any)
		return failed(o);
	o->state = CALL_OPEN_IDLE;
	return CALL_OPEN_DONE;
}

void call_open_start(struct call_open *o, const struct lexeme *lx)
{
	*o = (struct call_open){
		.state = lx->kind == LEX_CALL ? CALL_OPEN_WAIT : CALL_OPEN_NAME,
		.at = lx->at,
		.bare = lx->kind == LEX_FUNC,
	};
}
