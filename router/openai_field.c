/* openai_field.c - see openai_field.h. */
#include "router/openai_field.h"

#include <errno.h>
#include <stdlib.h>

#include "lib/own.h"

int oa_bad(struct oa_error *e, const struct oa_field *f, const char *what)
{
	return oa_error_set(e, 400, "invalid_value", f->name, "%s: %s", f->name, what);
}

int oa_no_memory(struct oa_error *e)
{
	oa_error_set(e, 503, "server_overloaded", NULL, "out of memory");
	return -ENOMEM;
}

int oa_get_bool(const struct oa_field *f, const json_t *v, bool *ret, struct oa_error *e)
{
	if (!json_is_boolean(v))
		return oa_bad(e, f, "must be true or false");
	*ret = json_is_true(v);
	return 0;
}

int oa_get_int(const struct oa_field *f, const json_t *v, int64_t *ret, struct oa_error *e)
{
	int64_t x = 0;

	if (jx_int64(v, &x) < 0)
		return oa_bad(e, f, "must be a whole number");
	if ((double)x < f->min || (double)x > f->max)
		return oa_error_set(e, 400, "invalid_value", f->name,
				    "%s: %lld is not between %.0f and %.0f", f->name, (long long)x,
				    f->min, f->max);
	*ret = x;
	return 0;
}

int oa_get_ids(const struct oa_field *f, const json_t *v, size_t max, uint32_t **ret,
	       uint32_t *ret_n, struct oa_error *e)
{
	CLEANUP(freep) uint32_t *ids = NULL;
	size_t n = json_array_size(v);

	if (!json_is_array(v) || n > max)
		return oa_bad(e, f, "must be a list of token ids, and not so long");
	ids = calloc(n ? n : 1, sizeof(*ids));
	if (!ids)
		return oa_no_memory(e);
	for (size_t i = 0; i < n; i++) {
		int64_t x = 0;

		if (jx_int64(json_array_get(v, i), &x) < 0 || x < 0 || x > INT32_MAX)
			return oa_bad(e, f, "must be a list of token ids");
		ids[i] = (uint32_t)x;
	}
	*ret = TAKE(ids);
	*ret_n = (uint32_t)n;
	return 0;
}

int oa_take_absent(struct oa_request *r, const struct oa_field *f, const json_t *v,
		   struct oa_error *e)
{
	(void)r, (void)v;
	return oa_error_set(e, 400, "unsupported_parameter", f->name, "%s is not supported",
			    f->name);
}

/* The name goes into a header line: what does not belong there is left out. */
void oa_note_ignored(struct oa_request *r, const char *name)
{
	if (r->ignored.n > 512)
		return;
	if (r->ignored.n)
		buf_puts(&r->ignored, ", ");
	for (size_t i = 0; name[i] && i < 64; i++)
		if (name[i] > ' ' && name[i] <= '~' && name[i] != ',')
			buf_putc(&r->ignored, name[i]);
}
