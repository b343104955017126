/* text_model.c - see text_model.h. */
#include "worker/text_model.h"

void text_model_done(struct text_model *m)
{
	tokenizer_free(m->tokenizer);
	template_free(m->chat);
	*m = (struct text_model){ 0 };
}

/* An id that ends answers must be one that can be sampled. */
static int check_eos(const struct text_model *m, const char *model_dir, struct err *e)
{
	for (uint32_t i = 0; i < m->gen.n_eos; i++)
		if (!tokenizer_id_known(m->tokenizer, m->gen.eos[i]))
			return err_set(e, -EINVAL,
				       "%s/generation_config.json: eos_token_id %u is not in the "
				       "tokenizer", model_dir, m->gen.eos[i]);
	return 0;
}

static int open_chat(struct text_model *m, const char *model_dir, struct err *e)
{
	int r = template_open(model_dir, &m->chat, e);

	return r == -ENOENT ? 0 : r;	/* a base model has none */
}

int text_model_open(const char *model_dir, struct text_model *ret, struct err *e)
{
	struct text_model m = { 0 };
	int r = tokenizer_open(model_dir, &m.tokenizer, e);

	if (r == 0)
		r = gen_config_open(model_dir, &m.gen, e);
	if (r == 0)
		r = check_eos(&m, model_dir, e);
	if (r == 0)
		r = open_chat(&m, model_dir, e);
	if (r < 0) {
		text_model_done(&m);
		return r;
	}
	*ret = m;
	return 0;
}
