/* openai_chat.c - the fields that only a chat has. */
#include <string.h>

#include "router/openai_field.h"
#include "router/openai_messages.h"

static int take_messages(struct oa_request *r, const struct oa_field *f, const json_t *v,
			 struct oa_error *e)
{
	(void)f;
	return oa_check_messages(v, &r->needs, e);
}

static int take_tools(struct oa_request *r, const struct oa_field *f, const json_t *v,
		      struct oa_error *e)
{
	(void)f;
	return oa_check_tools(v, &r->needs, e);
}

static int take_tool_choice(struct oa_request *r, const struct oa_field *f, const json_t *v,
			    struct oa_error *e)
{
	(void)f;
	return oa_check_tool_choice(v, json_object_get(r->body, "tools"), &r->needs, e);
}

static int take_format(struct oa_request *r, const struct oa_field *f, const json_t *v,
		       struct oa_error *e)
{
	(void)f;
	return oa_check_format(v, &r->needs, e);
}

static int take_template_args(struct oa_request *r, const struct oa_field *f, const json_t *v,
			      struct oa_error *e)
{
	(void)r;
	return json_is_object(v) ? 0 : oa_bad(e, f, "must be an object");
}

static int take_modalities(struct oa_request *r, const struct oa_field *f, const json_t *v,
			   struct oa_error *e)
{
	const char *s = jx_str(json_array_get(v, 0), NULL);

	(void)r;
	if (json_array_size(v) != 1 || !s || strcmp(s, "text") != 0)
		return oa_error_set(e, 400, "unsupported_value", f->name, "only text is made here");
	return 0;
}

/* "none" changes the template's arguments; the others are the same to local models. */
static int take_effort(struct oa_request *r, const struct oa_field *f, const json_t *v,
		       struct oa_error *e)
{
	static const char *const levels[] = { "none", "minimal", "low", "medium", "high", "xhigh" };

	if (!jx_is_str(v))
		return oa_bad(e, f, "must be a text");
	for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++)
		if (!strcmp(json_string_value(v), levels[i]))
			return 0;
	oa_note_ignored(r, f->name);
	return 0;
}

static int take_parallel(struct oa_request *r, const struct oa_field *f, const json_t *v,
			 struct oa_error *e)
{
	bool b;

	(void)r;
	return oa_get_bool(f, v, &b, e);
}

const struct oa_field oa_chat_fields[] = {
	{ "messages", OA_FIELD_CHAT, take_messages, 0, 0, 0, 0 },
	{ "tools", OA_FIELD_CHAT, take_tools, 0, 0, 0, 0 },
	{ "tool_choice", OA_FIELD_CHAT, take_tool_choice, 0, 0, 0, 0 },
	{ "parallel_tool_calls", OA_FIELD_CHAT, take_parallel, 0, 0, 0, 0 },
	{ "functions", OA_FIELD_CHAT, oa_take_absent, 0, 0, 0, 0 },
	{ "function_call", OA_FIELD_CHAT, oa_take_absent, 0, 0, 0, 0 },
	{ "audio", OA_FIELD_CHAT, oa_take_absent, 0, 0, 0, 0 },
	{ "response_format", OA_FIELD_CHAT, take_format, 0, 0, 0, 0 },
	{ "modalities", OA_FIELD_CHAT, take_modalities, 0, 0, 0, 0 },
	{ "chat_template_kwargs", OA_FIELD_CHAT, take_template_args, 0, 0, 0, 0 },
	{ "reasoning_effort", OA_FIELD_CHAT, take_effort, 0, 0, 0, 0 },
	{ 0 }
};
