/* openai_messages.c - see openai_messages.h. */
#include "router/openai_messages.h"

#include <stdio.h>
#include <string.h>

#include "lib/own.h"
#include "router/route.h"

enum { MAX_MESSAGES = 65536, MAX_TOOLS = 512, MAX_PARTS = 4096 };

static bool is(const json_t *v, const char *text)
{
	const char *s = jx_str(v, NULL);

	return s && !strcmp(s, text);
}

static bool is_one_of(const json_t *v, const char *const *list)
{
	for (; *list; list++)
		if (is(v, *list))
			return true;
	return false;
}

static int wrong(struct oa_error *e, const char *where, const char *what)
{
	return oa_error_set(e, 400, "invalid_value", where, "%s: %s", where, what);
}

/* shape: with %d for how many there may be */
#define NOT_A_LIST(e, where, shape, most) \
	oa_error_set(e, 400, "invalid_value", where, "%s: " shape, where, most)

static int check_part(const json_t *part, const char *where, uint32_t *needs, struct oa_error *e)
{
	const json_t *type = json_object_get(part, "type");

	if (is(type, "text"))
		return jx_is_str(json_object_get(part, "text")) ?
			       0 : wrong(e, where, "a text part without text");
	if (is(type, "refusal"))
		return 0;
	if (is(type, "image_url")) {
		*needs |= ABLE_VISION;
		return 0;
	}
	return oa_error_set(e, 400, "unsupported_value", where,
			    "%s: a part of this type is not supported", where);
}

static int check_content(const json_t *c, bool may_lack, const char *where, uint32_t *needs,
			 struct oa_error *e)
{
	if (jx_is_str(c))
		return 0;
	if (!c || json_is_null(c))
		return may_lack ? 0 : wrong(e, where, "content is missing");
	if (!json_is_array(c) || json_array_size(c) > MAX_PARTS)
		return NOT_A_LIST(e, where, "content must be a text or a list of at most %d parts",
				MAX_PARTS);
	for (size_t i = 0; i < json_array_size(c); i++) {
		int r = check_part(json_array_get(c, i), where, needs, e);

		if (r < 0)
			return r;
	}
	return 0;
}

static int check_calls(const json_t *calls, const char *where, struct oa_error *e)
{
	if (!calls || json_is_null(calls))
		return 0;
	if (!json_is_array(calls))
		return wrong(e, where, "tool_calls must be a list");
	for (size_t i = 0; i < json_array_size(calls); i++) {
		const json_t *fn = json_object_get(json_array_get(calls, i), "function");

		if (!jx_is_str(json_object_get(fn, "name")))
			return wrong(e, where, "a tool call without a function's name");
	}
	return 0;
}

static int check_message(const json_t *m, size_t i, uint32_t *needs, struct oa_error *e)
{
	static const char *const roles[] = { "system", "developer", "user", "assistant", "tool",
					     NULL };
	const json_t *role = json_object_get(m, "role");
	bool assistant = is(role, "assistant");
	char where[48];
	int r;

	snprintf(where, sizeof(where), "messages[%zu]", i);
	if (!json_is_object(m))
		return wrong(e, where, "must be an object");
	if (!is_one_of(role, roles))
		return wrong(e, where, "role must be system, developer, user, assistant or tool");
	r = check_content(json_object_get(m, "content"), assistant, where, needs, e);
	if (r == 0 && assistant)
		r = check_calls(json_object_get(m, "tool_calls"), where, e);
	return r;
}

int oa_check_messages(const json_t *v, uint32_t *needs, struct oa_error *e)
{
	if (!json_is_array(v) || json_array_size(v) == 0 || json_array_size(v) > MAX_MESSAGES)
		return NOT_A_LIST(e, "messages", "must be a list of 1 to %d messages", MAX_MESSAGES);
	for (size_t i = 0; i < json_array_size(v); i++) {
		int r = check_message(json_array_get(v, i), i, needs, e);

		if (r < 0)
			return r;
	}
	return 0;
}

static bool function_name_ok(const char *s, size_t n)
{
	if (!s || n == 0 || n > 64)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:",
			    s[i]) ||
		    !s[i])
			return false;
	return true;
}

static int check_tool(const json_t *t, size_t i, struct oa_error *e)
{
	const json_t *fn = json_object_get(t, "function"), *schema;
	const char *name;
	char where[32];
	size_t n = 0;

	snprintf(where, sizeof(where), "tools[%zu]", i);
	if (!is(json_object_get(t, "type"), "function"))
		return oa_error_set(e, 400, "unsupported_value", where,
				    "%s: only tools of type function are supported", where);
	name = jx_str(json_object_get(fn, "name"), &n);
	if (!function_name_ok(name, n))
		return wrong(e, where, "function.name must be 1 to 64 of a-z A-Z 0-9 _ - . :");
	schema = json_object_get(fn, "parameters");
	if (schema && !json_is_null(schema) && !json_is_object(schema))
		return wrong(e, where, "function.parameters must be an object");
	return 0;
}

int oa_check_tools(const json_t *v, uint32_t *needs, struct oa_error *e)
{
	if (!json_is_array(v) || json_array_size(v) > MAX_TOOLS)
		return NOT_A_LIST(e, "tools", "must be a list of at most %d", MAX_TOOLS);
	for (size_t i = 0; i < json_array_size(v); i++) {
		int r = check_tool(json_array_get(v, i), i, e);

		if (r < 0)
			return r;
	}
	if (json_array_size(v))
		*needs |= ABLE_TOOLS;
	return 0;
}

int oa_check_tool_choice(const json_t *v, const json_t *tools, uint32_t *needs,
			 struct oa_error *e)
{
	const json_t *name = json_object_get(json_object_get(v, "function"), "name");

	if (is(v, "none") || is(v, "auto"))
		return 0;
	if (!json_array_size(tools))
		return wrong(e, "tool_choice", "needs tools");
	*needs |= ABLE_TOOL_CHOICE;
	if (is(v, "required"))
		return 0;
	if (!is(json_object_get(v, "type"), "function") || !jx_is_str(name))
		return wrong(e, "tool_choice", "must be none, auto, required or a named function");
	for (size_t i = 0; i < json_array_size(tools); i++) {
		const json_t *fn = json_object_get(json_array_get(tools, i), "function");

		if (is(json_object_get(fn, "name"), jx_str(name, NULL)))
			return 0;
	}
	return wrong(e, "tool_choice", "names a function that is not among the tools");
}

int oa_check_format(const json_t *v, uint32_t *needs, struct oa_error *e)
{
	const json_t *type = json_object_get(v, "type");
	const json_t *schema = json_object_get(v, "json_schema");

	if (is(type, "text"))
		return 0;
	if (is(type, "json_object")) {
		*needs |= ABLE_JSON_OBJECT;
		return 0;
	}
	if (!is(type, "json_schema"))
		return wrong(e, "response_format", "type must be text, json_object or json_schema");
	if (!jx_is_str(json_object_get(schema, "name")))
		return wrong(e, "response_format.json_schema", "a name is needed");
	if (!json_is_object(json_object_get(schema, "schema")))
		return wrong(e, "response_format.json_schema", "a schema is needed");
	*needs |= ABLE_JSON_SCHEMA;
	return 0;
}

/* ---- one spelling --------------------------------------------------------------- */

static bool given(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	return v && !json_is_null(v);
}

static bool message_changes(const json_t *m)
{
	return is(json_object_get(m, "role"), "developer") ||
	       (given(m, "reasoning") && !given(m, "reasoning_content"));
}

static bool effort_changes(const json_t *body)
{
	return is(json_object_get(body, "reasoning_effort"), "none") &&
	       !given(json_object_get(body, "chat_template_kwargs"), "enable_thinking");
}

static json_t *changed_message(json_t *m)
{
	json_t *c;

	if (!message_changes(m))
		return json_incref(m);
	c = json_copy(m);
	if (is(json_object_get(c, "role"), "developer"))
		json_object_set_new(c, "role", jx_str_new("system", 6));
	if (given(c, "reasoning") && !given(c, "reasoning_content")) {
		json_object_set(c, "reasoning_content", json_object_get(c, "reasoning"));
		json_object_del(c, "reasoning");
	}
	return c;
}

static json_t *changed_args(const json_t *body)
{
	json_t *args = json_object_get(body, "chat_template_kwargs");

	args = json_is_object(args) ? json_copy(args) : json_object();
	json_object_set_new(args, "enable_thinking", json_false());
	return args;
}

int oa_rewrite_chat(const json_t *body, bool *ret_rewritten, struct buf *out)
{
	const json_t *messages = json_object_get(body, "messages");
	JX_OWNED json_t *copy = NULL;
	json_t *list;
	bool any = effort_changes(body);

	for (size_t i = 0; i < json_array_size(messages) && !any; i++)
		any = message_changes(json_array_get(messages, i));
	*ret_rewritten = any;
	if (!any)
		return 0;
	copy = json_copy((json_t *)body);
	list = json_array();
	for (size_t i = 0; i < json_array_size(messages); i++)
		json_array_append_new(list, changed_message(json_array_get(messages, i)));
	json_object_set_new(copy, "messages", list);
	if (effort_changes(body))
		json_object_set_new(copy, "chat_template_kwargs", changed_args(body));
	return jx_put(out, copy, JX_COMPACT);
}
