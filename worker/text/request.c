/* request.c - see request.h. */
#include "worker/text/request.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/own.h"

/* A field's name for messages: "messages[3].tool_calls[0].function". */
struct place {
	char text[160];
};

static struct place place(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static struct place place(const char *fmt, ...)
{
	struct place p;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p.text, sizeof(p.text), fmt, ap);
	va_end(ap);
	return p;
}

static int wrong(struct err *e, const struct place *where, const char *field, const char *what)
{
	return err_set(e, -EINVAL, "%s%s%s: %s", where->text, *field ? "." : "", field, what);
}

static bool absent(const json_t *v)
{
	return !v || json_is_null(v);
}

static int want_str_or_null(const json_t *o, const struct place *where, const char *field,
			    struct err *e)
{
	const json_t *v = json_object_get(o, field);

	if (absent(v) || jx_is_str(v))
		return 0;
	return wrong(e, where, field, "must be a string or null");
}

static bool str_is(const json_t *v, const char *text)
{
	size_t n;
	const char *s = jx_str(v, &n);

	return s && n == strlen(text) && !memcmp(s, text, n);
}

/* Takes v. */
static int put(json_t *o, const char *key, json_t *v)
{
	return v && json_object_set_new(o, key, v) == 0 ? 0 : -ENOMEM;
}

/* ---- content ---- */

static int check_part(const json_t *part, const struct place *where, struct err *e)
{
	const json_t *type = json_object_get(part, "type");

	if (!json_is_object(part))
		return wrong(e, where, "", "must be an object");
	if (type && !jx_is_str(type))
		return wrong(e, where, "type", "must be a string");
	if (str_is(type, "text") && !jx_is_str(json_object_get(part, "text")))
		return wrong(e, where, "text", "must be a string");
	return 0;
}

static int check_content(const json_t *message, const struct place *where, struct err *e)
{
	const json_t *content = json_object_get(message, "content");
	int r;

	if (absent(content) || jx_is_str(content))
		return 0;
	if (!json_is_array(content))
		return wrong(e, where, "content", "must be a string, a list of parts or null");
	for (size_t i = 0; i < json_array_size(content); i++) {
		struct place at = place("%s.content[%zu]", where->text, i);

		r = check_part(json_array_get(content, i), &at, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- tool calls ---- */

/* Arguments that are no object, whole and under one name: the template's loop over parameters
 * shows them to the model as what they are, and no schema's parameter is imitated. */
static int not_an_object(json_t *v, json_t **ret)
{
	JX_OWNED json_t *o = json_object();
	int r = o ? put(o, REQUEST_BROKEN_ARGUMENTS, json_incref(v)) : -ENOMEM;

	if (r == 0)
		*ret = TAKE(o);
	return r;
}

/* A text that holds the JSON of an object: arguments that were written as JSON twice. */
static int unwrap(json_t **v)
{
	json_t *inner = NULL;
	struct err why = { 0 };
	size_t n = 0;
	const char *text = jx_str(*v, &n);

	if (!text)
		return 0;
	if (jx_load(text, n, &inner, &why) < 0)
		return why.code == -ENOMEM ? -ENOMEM : 0;
	if (json_is_object(inner)) {
		json_decref(*v);
		*v = inner;
	} else {
		json_decref(inner);
	}
	return 0;
}

/* What `arguments` stand for: JSON, or else the text as it is. */
static int value_of(const json_t *v, json_t **ret)
{
	JX_OWNED json_t *parsed = NULL;
	struct err why = { 0 };
	size_t n = 0;
	const char *text = jx_str(v, &n);
	int r;

	if (absent(v) || (text && strspn(text, " \t\r\n") == n)) {
		*ret = json_null();
		return 0;
	}
	if (!text) {
		*ret = json_incref((json_t *)(uintptr_t)v);
		return 0;
	}
	if (jx_load(text, n, &parsed, &why) < 0) {
		if (why.code == -ENOMEM)
			return -ENOMEM;
		*ret = json_incref((json_t *)(uintptr_t)v);
		return 0;
	}
	r = unwrap(&parsed);
	if (r == 0)
		*ret = TAKE(parsed);
	return r;
}

/* The object that `arguments` stand for.  Nothing in them is refused: they are what a model once
 * wrote, perhaps cut by a limit, and a client cannot take them out of its conversation. */
static int arguments_of(const json_t *v, json_t **ret)
{
	JX_OWNED json_t *value = NULL;
	int r = value_of(v, &value);

	if (r < 0)
		return r;
	if (!json_is_null(value) && !json_is_object(value))
		return not_an_object(value, ret);
	*ret = json_is_null(value) ? json_object() : json_incref(value);
	return *ret ? 0 : -ENOMEM;
}

/* A copy of {"function": {"name", "arguments"}} with its arguments as an object. */
static int normalise_call(const json_t *call, const struct place *where, json_t **ret,
			  struct err *e)
{
	JX_OWNED json_t *copy = json_copy((json_t *)(uintptr_t)call);
	const json_t *f = json_object_get(call, "function");
	struct place at = place("%s.function", where->text);
	JX_OWNED json_t *function = NULL;
	json_t *arguments = NULL;
	int r;

	if (!json_is_object(call))
		return wrong(e, where, "", "must be an object");
	if (!json_is_object(f))
		return wrong(e, where, "function", "must be an object");
	if (!jx_is_str(json_object_get(f, "name")))
		return wrong(e, &at, "name", "must be a string");
	r = arguments_of(json_object_get(f, "arguments"), &arguments);
	if (r < 0)
		return r;
	function = json_copy((json_t *)(uintptr_t)f);
	r = function ? put(function, "arguments", arguments) : -ENOMEM;
	if (r < 0 || !copy || put(copy, "function", json_incref(function)) < 0)
		return -ENOMEM;
	*ret = TAKE(copy);
	return 0;
}

static int normalise_calls(json_t *message, const struct place *where, struct err *e)
{
	const json_t *calls = json_object_get(message, "tool_calls");
	JX_OWNED json_t *out = NULL;
	int r;

	if (absent(calls))
		return 0;
	if (!json_is_array(calls))
		return wrong(e, where, "tool_calls", "must be a list or null");
	out = json_array();
	for (size_t i = 0; i < json_array_size(calls); i++) {
		struct place at = place("%s.tool_calls[%zu]", where->text, i);
		json_t *call = NULL;

		r = normalise_call(json_array_get(calls, i), &at, &call, e);
		if (r < 0)
			return r;
		if (json_array_append_new(out, call) < 0)
			return -ENOMEM;
	}
	return put(message, "tool_calls", json_incref(out));
}

/* ---- messages ---- */

static int normalise_message(const json_t *m, size_t i, json_t **ret, struct err *e)
{
	struct place where = place("messages[%zu]", i);
	JX_OWNED json_t *copy = NULL;
	json_t *reasoning;
	int r;

	if (!json_is_object(m))
		return wrong(e, &where, "", "must be an object");
	if (!jx_is_str(json_object_get(m, "role")))
		return wrong(e, &where, "role", "must be a string");
	copy = json_copy((json_t *)(uintptr_t)m);
	if (!copy)
		return -ENOMEM;
	if (str_is(json_object_get(m, "role"), "developer") &&
	    put(copy, "role", jx_str_new("system", 6)) < 0)
		return -ENOMEM;
	if ((r = check_content(m, &where, e)) < 0 ||
	    (r = want_str_or_null(m, &where, "reasoning", e)) < 0 ||
	    (r = want_str_or_null(m, &where, "reasoning_content", e)) < 0 ||
	    (r = want_str_or_null(m, &where, "name", e)) < 0 ||
	    (r = want_str_or_null(m, &where, "tool_call_id", e)) < 0)
		return r;
	reasoning = json_object_get(m, "reasoning");
	if (!absent(reasoning) && absent(json_object_get(m, "reasoning_content")) &&
	    put(copy, "reasoning_content", json_incref(reasoning)) < 0)
		return -ENOMEM;
	r = normalise_calls(copy, &where, e);
	if (r < 0)
		return r;
	*ret = TAKE(copy);
	return 0;
}

/* Appends a text part, or a content's parts, to a list. */
static int add_parts(json_t *parts, const json_t *content)
{
	json_t *part;

	if (json_is_array(content))
		return json_array_extend(parts, (json_t *)(uintptr_t)content) < 0 ? -ENOMEM : 0;
	part = json_object();
	if (!part || json_array_append_new(parts, part) < 0 ||
	    put(part, "type", jx_str_new("text", 4)) < 0)
		return -ENOMEM;
	return put(part, "text", json_incref((json_t *)(uintptr_t)content));
}

/* first + blank line + more.  Text stays text; with parts on either side, parts. */
static int join_contents(const json_t *first, const json_t *more, json_t **ret)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	JX_OWNED json_t *parts = NULL;
	JX_OWNED json_t *gap = NULL;
	const char *s, *t;
	size_t n = 0, m = 0;

	s = jx_str(first, &n);
	t = jx_str(more, &m);
	if (s && t) {
		buf_put(&b, s, n);
		buf_puts(&b, n && m ? "\n\n" : "");
		buf_put(&b, t, m);
		*ret = buf_ok(&b) ? jx_str_new(b.p ? b.p : "", b.n) : NULL;
		return *ret ? 0 : -ENOMEM;
	}
	parts = json_array();
	gap = jx_str_new("\n\n", 2);
	if (!parts || !gap || add_parts(parts, first) < 0 || add_parts(parts, gap) < 0 ||
	    add_parts(parts, more) < 0)
		return -ENOMEM;
	*ret = TAKE(parts);
	return 0;
}

/* The first message, a system message, takes in another. */
static int join_system(json_t *first, const json_t *more)
{
	const json_t *a = json_object_get(first, "content"), *b = json_object_get(more, "content");
	json_t *joined = NULL;
	int r;

	if (absent(b))
		return 0;
	if (absent(a))
		return put(first, "content", json_incref((json_t *)(uintptr_t)b));
	r = join_contents(a, b, &joined);
	return r < 0 ? r : put(first, "content", joined);
}

static int add_message(json_t *out, json_t *m, size_t i, const struct request_options *o,
		       struct request_notes *notes, struct err *e)
{
	size_t n = json_array_size(out);
	bool all_system =
		n == 1 && str_is(json_object_get(json_array_get(out, 0), "role"), "system");

	if (n && str_is(json_object_get(m, "role"), "system")) {
		if (all_system)
			return join_system(json_array_get(out, 0), m);
		if (o && o->refuse_late_system)
			return err_set(e, -EINVAL, "messages[%zu].role: a system message must stand"
				       " at the beginning", i);
		if (put(m, "role", jx_str_new("user", 4)) < 0)
			return -ENOMEM;
		notes->n_late_system++;
	}
	return json_array_append(out, m) < 0 ? -ENOMEM : 0;
}

static int normalise_messages(const json_t *messages, const struct request_options *o,
			      json_t **ret, struct request_notes *notes, struct err *e)
{
	JX_OWNED json_t *out = json_array();
	int r;

	if (!out)
		return -ENOMEM;
	if (!json_is_array(messages))
		return err_set(e, -EINVAL, "messages: must be a list");
	for (size_t i = 0; i < json_array_size(messages); i++) {
		JX_OWNED json_t *m = NULL;

		r = normalise_message(json_array_get(messages, i), i, &m, e);
		if (r == 0)
			r = add_message(out, m, i, o, notes, e);
		if (r < 0)
			return r;
	}
	*ret = TAKE(out);
	return 0;
}

/* ---- the rest of the request ---- */

static int check_tool(const json_t *tool, size_t i, struct err *e)
{
	const json_t *type = json_object_get(tool, "type"), *f = json_object_get(tool, "function");
	struct place where = place("tools[%zu]", i), at = place("tools[%zu].function", i);

	if (!json_is_object(tool))
		return wrong(e, &where, "", "must be an object");
	if (type && !jx_is_str(type))
		return wrong(e, &where, "type", "must be a string");
	if (type && !str_is(type, "function"))
		return 0;	/* another kind of tool: the template's matter */
	if (!json_is_object(f))
		return wrong(e, &where, "function", "must be an object");
	if (!jx_is_str(json_object_get(f, "name")))
		return wrong(e, &at, "name", "must be a string");
	return 0;
}

static int check_rest(const json_t *request, struct err *e)
{
	const json_t *tools = json_object_get(request, "tools");
	const json_t *kwargs = json_object_get(request, "chat_template_kwargs");
	const json_t *prompt = json_object_get(request, "add_generation_prompt");
	int r;

	if (!absent(tools) && !json_is_array(tools))
		return err_set(e, -EINVAL, "tools: must be a list or null");
	for (size_t i = 0; i < json_array_size(tools); i++) {
		r = check_tool(json_array_get(tools, i), i, e);
		if (r < 0)
			return r;
	}
	if (!absent(kwargs) && !json_is_object(kwargs))
		return err_set(e, -EINVAL, "chat_template_kwargs: must be an object or null");
	if (prompt && !json_is_boolean(prompt))
		return err_set(e, -EINVAL, "add_generation_prompt: must be true or false");
	return 0;
}

int request_normalise(const json_t *request, const struct request_options *o, json_t **ret,
		      struct request_notes *ret_notes, struct err *e)
{
	struct request_notes notes = { 0 };
	JX_OWNED json_t *out = NULL;
	json_t *messages = NULL;
	int r;

	if (!json_is_object(request))
		return err_set(e, -EINVAL, "the request must be an object");
	r = check_rest(request, e);
	if (r < 0)
		return r;
	r = normalise_messages(json_object_get(request, "messages"), o, &messages, &notes, e);
	if (r < 0)
		return r;
	out = json_copy((json_t *)(uintptr_t)request);
	if (!out) {
		json_decref(messages);
		return -ENOMEM;
	}
	if (put(out, "messages", messages) < 0)
		return -ENOMEM;
	if (ret_notes)
		*ret_notes = notes;
	*ret = TAKE(out);
	return 0;
}
