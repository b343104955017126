/* prompt.c - see prompt.h. */
#include "worker/prompt.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "lib/own.h"
#include "lib/utf8.h"

void prompt_done(struct prompt *p)
{
	ids_done(&p->ids);
	json_decref(p->body);
	buf_done(&p->note);
	*p = (struct prompt){ 0 };
}

static int check_length(const struct prompt *p, const char **ret_param, struct err *e)
{
	*ret_param = p->chat ? "messages" : "prompt";
	if (!p->ids.n)
		return err_set(e, -EINVAL, "the prompt is empty");
	if (p->ids.n > INT32_MAX)
		return err_set(e, -EINVAL, "the prompt has %zu tokens", p->ids.n);
	*ret_param = NULL;
	return 0;
}

int prompt_from_text(const struct text_model *m, const char *text, size_t n, struct prompt *ret,
		     const char **ret_param, struct err *e)
{
	CLEANUP(prompt_donep) struct prompt p = { 0 };
	int r;

	/* a raw prompt is the client's own markup: control tokens in it are meant */
	r = tokenizer_encode(m->tokenizer, text, n, NULL, 0, TOK_SPECIAL, &p.ids);
	if (r == -EINVAL || r == -EFBIG) {
		*ret_param = "prompt";
		return err_set(e, -EINVAL, "the prompt %s", r == -EINVAL ? "is not UTF-8" :
									  "is too long");
	}
	if (r == 0)
		r = check_length(&p, ret_param, e);
	if (r < 0)
		return r;
	*ret = p;
	p = (struct prompt){ 0 };
	return 0;
}

int prompt_from_ids(const struct text_model *m, const uint32_t *ids, size_t n,
		    struct prompt *ret, const char **ret_param, struct err *e)
{
	CLEANUP(prompt_donep) struct prompt p = { 0 };
	int r;

	if (ids_reserve(&p.ids, n) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (!tokenizer_id_known(m->tokenizer, ids[i])) {
			*ret_param = "prompt";
			return err_set(e, -EINVAL, "this model has no token %" PRIu32, ids[i]);
		}
		p.ids.p[p.ids.n++] = ids[i];
	}
	r = check_length(&p, ret_param, e);
	if (r < 0)
		return r;
	*ret = p;
	p = (struct prompt){ 0 };
	return 0;
}
