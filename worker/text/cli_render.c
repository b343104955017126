/* cli_render.c - the verb `render` of cli.h. */
#include "lib/own.h"
#include "worker/text/cli_verbs.h"
#include "worker/text/request.h"

static int render(struct cli_model *m, const json_t *request, json_t **ret_out, struct err *e)
{
	CLEANUP(rendered_done) struct rendered out = RENDERED_INIT;
	int r = template_render(m->template, request, NULL, &out, e);
	json_t *prompt;

	if (r < 0)
		return r;
	prompt = jx_str_new(out.text.n ? out.text.p : "", out.text.n);
	*ret_out = prompt ? json_pack("{s:o}", "prompt", prompt) : NULL;
	return *ret_out ? 0 : err_set(e, -ENOMEM, "out of memory for the answer");
}

int cli_render(struct cli_model *m, const json_t *in, json_t **ret_out, struct err *e)
{
	JX_OWNED json_t *request = NULL;
	int r;

	if (json_is_true(json_object_get(in, "raw")))
		return render(m, in, ret_out, e);
	r = request_normalise(in, NULL, &request, NULL, e);
	return r < 0 ? r : render(m, request, ret_out, e);
}
