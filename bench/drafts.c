/* drafts.c - how often the MTP head's first guess is the token that is then sampled.
 *
 *	bench/drafts MODEL_DIR [--device D] [--threads N] [--max-tokens N] < prompts.jsonl
 *
 * Each line is a chat request ({"messages": [...], "tools": [...]}), or {"prompt": "text"}.  All
 * are answered greedily by the engine that serves, several at a time, with drafts on; what is
 * printed is one line: prompts, tokens, drafts, hits, acceptance.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "lib/own.h"
#include "worker/load.h"
#include "worker/prompt.h"

struct count {
	uint64_t n_prompts, n_open, n_tokens;
};

static int read_prompt(const struct loaded *l, const char *line, size_t n, struct prompt *ret,
		       struct err *e)
{
	JX_OWNED json_t *v = NULL;
	const char *param, *text;
	size_t n_text;
	int r = jx_load(line, n, &v, e);

	if (r < 0)
		return r;
	text = jx_str(json_object_get(v, "prompt"), &n_text);
	if (text)
		return prompt_from_text(&l->text, text, n_text, ret, &param, e);
	return prompt_from_chat(&l->text, line, n, ret, &param, e);
}

static int add_prompt(const struct loaded *l, const struct prompt *p, uint64_t id, uint32_t max)
{
	uint32_t room = sched_max_tokens(engine_config(l->engine));
	struct seq_spec spec = { .id = id, .prompt = p->ids.p, .n_prompt = (uint32_t)p->ids.n,
				 .stop = l->text.gen.eos, .n_stop = l->text.gen.n_eos,
				 .sampling = { .top_p = 1, .repetition = 1 } };
	struct seq *q;
	int r;

	if (spec.n_prompt >= room)
		return -E2BIG;
	spec.max_output = max < room - spec.n_prompt ? max : room - spec.n_prompt;
	r = seq_new(&spec, &q);
	if (r < 0)
		return r;
	r = engine_add(l->engine, &q, 1);
	if (r < 0)
		seq_free(q);
	return r;
}

/* Waits for the engine, at most `ms`; 0, or the code of its end. */
static int wait_engine(const struct loaded *l, struct count *c)
{
	struct pollfd fd = { .fd = engine_fd(l->engine), .events = POLLIN };
	const struct engine_event *ev;
	size_t n;

	(void)poll(&fd, 1, -1);
	n = engine_take(l->engine, &ev);
	for (size_t i = 0; i < n; i++) {
		if (ev[i].kind == ENGINE_LOST)
			return ev[i].code;
		c->n_open -= ev[i].kind == ENGINE_DONE;
		c->n_tokens += ev[i].kind == ENGINE_TOKEN;
	}
	return 0;
}

/* One line; waits while the queue is full. */
static int ask(const struct loaded *l, const char *line, size_t n, uint32_t max, struct count *c,
	       struct err *e)
{
	CLEANUP(prompt_donep) struct prompt p = { 0 };
	int r = read_prompt(l, line, n, &p, e);

	if (r < 0)
		return err_prefix(e, r, "prompt %" PRIu64, c->n_prompts + 1);
	while ((r = add_prompt(l, &p, c->n_prompts, max)) == -ENOBUFS) {
		r = wait_engine(l, c);
		if (r < 0)
			break;
	}
	if (r < 0)
		return err_set(e, r, "prompt %" PRIu64 ": %s", c->n_prompts + 1, strerror(-r));
	c->n_prompts++;
	c->n_open++;
	return 0;
}

static int measure(const struct loaded *l, uint32_t max, struct count *c, struct err *e)
{
	CLEANUP(freep) char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	int r = 0;

	while (r == 0 && (n = getline(&line, &cap, stdin)) > 0)
		r = ask(l, line, (size_t)n, max, c, e);
	while (r == 0 && c->n_open)
		r = wait_engine(l, c);
	return r;
}

static int parse(int argc, char **argv, struct load_options *o, uint32_t *max)
{
	for (int i = 1; i < argc; i++) {
		if (argv[i][0] != '-' && !o->model_dir)
			o->model_dir = argv[i];
		else if (!strcmp(argv[i], "--device") && i + 1 < argc)
			o->device = argv[++i];
		else if (!strcmp(argv[i], "--threads") && i + 1 < argc)
			o->threads = (uint32_t)strtoul(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "--max-tokens") && i + 1 < argc)
			*max = (uint32_t)strtoul(argv[++i], NULL, 10);
		else
			return -EINVAL;
	}
	return o->model_dir && *max ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
	struct load_options o = LOAD_DEFAULTS;
	struct loaded l = { 0 };
	struct count c = { 0 };
	struct sched_stats st;
	struct err e = { 0 };
	uint32_t max = 128;
	int r;

	o.drafts = true;
	if (parse(argc, argv, &o, &max) < 0) {
		fprintf(stderr, "usage: %s MODEL_DIR [--device D] [--threads N] [--max-tokens N] "
				"< prompts.jsonl\n", argv[0]);
		return EX_USAGE;
	}
	r = load_model(&o, &l, &e);
	if (r == 0)
		r = measure(&l, max, &c, &e);
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", argv[0], e.text[0] ? e.text : strerror(-r));
	} else {
		engine_stats(l.engine, &st);
		printf("prompts %" PRIu64 ", tokens %" PRIu64 ", drafts %" PRIu64 ", hits %" PRIu64
		       ", acceptance of the first draft %.2f %%\n", c.n_prompts, c.n_tokens,
		       st.n_drafts, st.n_draft_hits,
		       st.n_drafts ? 100.0 * (double)st.n_draft_hits / (double)st.n_drafts : 0.0);
	}
	loaded_done(&l);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
