/* args.c - arguments of built-in functions; see run.h. */
#include <string.h>

#include "worker/text/jinja/run.h"

/* The place of a name among names separated by spaces; how many names there are when
 * it is none of them. */
static size_t place_of(struct run *r, const char *names, struct str *name)
{
	size_t i = 0;

	while (*names) {
		size_t n = strcspn(names, " ");

		if (name && name->n == n && !memcmp(str_bytes(&r->j, name), names, n))
			return i;
		i++;
		names += n + (names[n] == ' ');
	}
	return i;
}

static const char *name_at(struct run *r, const char *names, size_t i)
{
	for (; i > 0; i--)
		names += strcspn(names, " ") + 1;
	return str_text(&r->j, str_new(&r->j, names, strcspn(names, " "), TEMPLATE));
}

void bind_args(struct run *r, const struct args *a, const char *function, size_t n_required,
	       const char *names, struct value *out)
{
	size_t n = place_of(r, names, NULL);

	if (a->n > n)
		jinja_fail(&r->j, "%s() takes at most %zu arguments (%zu given)", function, n,
			   a->n);
	for (size_t i = 0; i < n; i++)
		out[i] = i < a->n ? a->v[i] : MISSING;
	for (size_t i = 0; i < a->n_kw; i++) {
		size_t at = place_of(r, names, a->kw[i].name);

		if (at == n)
			jinja_fail(&r->j, "%s() got an unexpected keyword argument %s", function,
				   v_repr_text(&r->j, v_str(a->kw[i].name)));
		if (out[at].kind != V_MISSING)
			jinja_fail(&r->j, "%s() got multiple values for argument %s", function,
				   v_repr_text(&r->j, v_str(a->kw[i].name)));
		out[at] = a->kw[i].v;
	}
	for (size_t i = 0; i < n_required; i++)
		if (out[i].kind == V_MISSING)
			jinja_fail(&r->j, "%s() missing 1 required positional argument: '%s'",
				   function, name_at(r, names, i));
}

struct str *want_str(struct run *r, struct value v, const char *what)
{
	if (v.kind == V_UNDEFINED)
		v_fail_undefined(&r->j, v);
	if (v.kind != V_STR)
		jinja_fail(&r->j, "%s must be str, not %s", what, v_type_name(v));
	return v.s;
}

int64_t want_int_or(struct run *r, struct value v, int64_t otherwise)
{
	return v.kind == V_MISSING || v.kind == V_NONE ? otherwise : v_index(&r->j, v);
}
