/* prompt_chat.c - the prompt of a chat body; see prompt.h.
 *
 *	body -> checked (what this worker cannot do is refused, never ignored) -> normalised
 *	(text/request) -> rendered (text/template) -> ids (text/tokenizer)
 */
#include <errno.h>
#include <string.h>

#include "lib/own.h"
#include "worker/prompt.h"
#include "worker/text/request.h"

static int unsupported(const char **ret_param, const char *param, struct err *e, const char *what)
{
	*ret_param = param;
	return err_set(e, -ENOTSUP, "%s: %s is not supported by this model's worker yet", param,
		       what);
}

static int wrong(const char **ret_param, const char *param, struct err *e, const char *want)
{
	*ret_param = param;
	return err_set(e, -EINVAL, "%s must be %s", param, want);
}

static bool absent(const json_t *v)
{
	return !v || json_is_null(v);
}

/* A promise about the answer that only a grammar could keep is not made. */
static int check_tool_choice(const json_t *body, const char **ret_param, struct err *e)
{
	const json_t *v = json_object_get(body, "tool_choice");
	const char *s = jx_is_str(v) ? jx_str(v, NULL) : NULL;

	if (absent(v) || (s && (!strcmp(s, "none") || !strcmp(s, "auto"))))
		return 0;
	if (json_is_object(v) || (s && !strcmp(s, "required")))
		return unsupported(ret_param, "tool_choice", e, "forcing a call");
	return wrong(ret_param, "tool_choice", e, "\"none\", \"auto\", \"required\" or an object");
}

static int check_format(const json_t *body, const char **ret_param, struct err *e)
{
	const json_t *v = json_object_get(body, "response_format"), *type;

	if (absent(v))
		return 0;
	type = json_object_get(v, "type");
	if (!jx_is_str(type))
		return wrong(ret_param, "response_format", e, "an object with a type");
	if (!strcmp(jx_str(type, NULL), "text"))
		return 0;
	return unsupported(ret_param, "response_format", e, jx_str(type, NULL));
}

static int check_body(const json_t *body, const char **ret_param, struct err *e)
{
	const json_t *tools = json_object_get(body, "tools");
	int r;

	if (!json_is_object(body))
		return err_set(e, -EINVAL, "the request must be a JSON object");
	if (!absent(tools) && !json_is_array(tools))
		return wrong(ret_param, "tools", e, "a list");
	r = check_tool_choice(body, ret_param, e);
	return r == 0 ? check_format(body, ret_param, e) : r;
}

/* Whether generation begins inside reasoning: the prompt ends with an open <think>, and it is
 * the template's own. */
static bool ends_thinking(const struct rendered *r)
{
	static const char tag[] = "<think>";
	const size_t len = sizeof(tag) - 1;
	size_t n = r->text.n;

	while (n && strchr(" \t\r\n", r->text.p[n - 1]))
		n--;
	if (n < len || memcmp(r->text.p + n - len, tag, len))
		return false;
	return !r->n_data || r->data[r->n_data - 1].to <= n - len;
}

static int encode(const struct text_model *m, const struct rendered *r, struct prompt *p,
		  struct err *e)
{
	int code = tokenizer_encode(m->tokenizer, r->text.p, r->text.n, r->data, r->n_data,
				    TOK_SPECIAL, &p->ids);

	if (code == -EFBIG)
		return err_set(e, -EINVAL, "the conversation is too long");
	if (code == -EINVAL)
		return err_set(e, code, "the rendered prompt is not UTF-8");
	if (code == 0 && !p->ids.n)
		return err_set(e, -EINVAL, "the chat template rendered nothing");
	return code;
}

static int render(const struct text_model *m, struct prompt *p, const char **ret_param,
		  struct err *e)
{
	CLEANUP(rendered_done) struct rendered text = RENDERED_INIT;
	JX_OWNED json_t *request = NULL;
	struct request_notes notes = { 0 };
	int r = request_normalise(p->body, NULL, &request, &notes, e);

	if (r == 0)
		r = template_render(m->chat, request, NULL, &text, e);
	if (r == 0)
		r = encode(m, &text, p, e);
	if (r < 0) {
		*ret_param = "messages";
		return r == -E2BIG ? -EINVAL : r;
	}
	p->parse.thinking = ends_thinking(&text);
	if (notes.n_late_system)
		return buf_printf(&p->note, "%zu late system message%s given as the user's",
				  notes.n_late_system, notes.n_late_system == 1 ? "" : "s");
	return 0;
}

int prompt_from_chat(const struct text_model *m, const char *body, size_t n, struct prompt *ret,
		     const char **ret_param, struct err *e)
{
	CLEANUP(prompt_donep) struct prompt p = { .chat = true };
	int r;

	*ret_param = NULL;
	if (!m->chat)
		return err_set(e, -ENOTSUP, "this model has no chat template");
	r = jx_load(body, n, &p.body, e);
	if (r == 0)
		r = check_body(p.body, ret_param, e);
	if (r == 0)
		r = render(m, &p, ret_param, e);
	if (r < 0)
		return r;
	p.parse.tools = json_object_get(p.body, "tools");
	p.parse.tool_choice = json_object_get(p.body, "tool_choice");
	*ret = p;
	p = (struct prompt){ 0 };
	return 0;
}
