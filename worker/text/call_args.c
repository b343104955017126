/* call_args.c - see call_args.h. */
#include "worker/text/call_args.h"

#include "lib/own.h"
#include "worker/text/tool_value.h"

void call_args_done(struct call_args *a)
{
	json_decref(a->keys);
	*a = (struct call_args){ .keys = NULL };
}

int call_args_begin(struct call_args *a, const json_t *tools, const char *name, size_t n)
{
	call_args_done(a);
	a->schema = tool_schema_find(tools, name, n);
	a->keys = json_object();
	return a->keys ? 0 : -ENOMEM;
}

int call_args_key(struct call_args *a, const char *key, size_t n, bool ok, struct buf *out)
{
	CLEANUP(buf_donep) struct buf quoted = BUF_INIT;
	bool first = json_object_size(a->keys) == 0;

	a->dropped = true;
	if (!ok || n == 0)
		return 0;
	/* as JSON text it may stand for any key, U+0000 in it too */
	if (jx_put_str(&quoted, key, n) < 0)
		return -ENOMEM;
	if (json_object_get(a->keys, quoted.p))
		return 0;
	if (json_object_set_new(a->keys, quoted.p, json_true()) < 0)
		return -ENOMEM;
	a->dropped = false;
	a->param = tool_schema_param(a->schema, key, n);
	buf_puts(out, first ? "{" : ", ");
	buf_put(out, quoted.p, quoted.n);
	buf_puts(out, tool_value_is_string(&a->param) ? ": \"" : ": ");
	return buf_ok(out) ? 0 : -ENOMEM;
}

bool call_args_streams(const struct call_args *a)
{
	return a->dropped || tool_value_is_string(&a->param);
}

int call_args_some(struct call_args *a, const char *s, size_t n, struct buf *out)
{
	CLEANUP(buf_donep) struct buf quoted = BUF_INIT;

	if (a->dropped)
		return 0;
	if (jx_put_str(&quoted, s, n) < 0)
		return -ENOMEM;
	return buf_put(out, quoted.p + 1, quoted.n - 2);
}

int call_args_rest(struct call_args *a, const char *s, size_t n, struct buf *out)
{
	int r;

	if (a->dropped)
		return 0;
	if (!tool_value_is_string(&a->param))
		return tool_value_put(out, &a->param, s, n);
	r = call_args_some(a, s, n, out);
	return r < 0 ? r : buf_putc(out, '"');
}

int call_args_end(struct call_args *a, struct buf *out)
{
	int r = buf_puts(out, json_object_size(a->keys) == 0 ? "{}" : "}");

	call_args_done(a);
	return r;
}
