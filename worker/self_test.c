/* self_test.c - see self_test.h. */
#include "worker/self_test.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/own.h"
#include "worker/prompt.h"

enum { TWINS = 2, OUTPUT = 8, TELL_MS = 500 };

#define SILENCE_NS (60 * NS_PER_S)

struct twin {
	uint32_t token[OUTPUT];
	uint32_t n;
	bool over;
};

struct test {
	const struct text_model *model;
	struct engine *engine;
	const uint32_t *ids;
	uint32_t n_ids;
	struct twin twin[TWINS];
	uint64_t heard_ns;
};

static int make_prompt(const struct text_model *m, struct prompt *ret, struct err *e)
{
	static const char chat[] = "{\"messages\":[{\"role\":\"user\",\"content\":"
				   "\"What is two plus two?\"}]}";
	static const char text[] = "Two plus two is";
	const char *param;

	return m->chat ? prompt_from_chat(m, chat, sizeof(chat) - 1, ret, &param, e) :
			 prompt_from_text(m, text, sizeof(text) - 1, ret, &param, e);
}

static int add_twin(struct test *t, uint32_t i, struct err *e)
{
	const struct seq_spec spec = {
		.id = i, .prompt = t->ids, .n_prompt = t->n_ids, .max_output = OUTPUT,
		.sampling = { .top_p = 1, .repetition = 1, .logprob = true },
	};
	struct seq *seq;
	int r = seq_new(&spec, &seq);

	if (r == 0) {
		r = engine_add(t->engine, &seq, 1);
		if (r < 0)
			seq_free(seq);
	}
	return r < 0 ? err_set(e, r, "self-test: the engine does not take it: %s", strerror(-r)) :
		       0;
}

static int on_token(struct test *t, const struct engine_event *ev, struct err *e)
{
	struct twin *twin = &t->twin[ev->id];

	if (twin->n == OUTPUT)
		return err_set(e, -EBADMSG, "self-test: more than %d tokens", OUTPUT);
	if (!tokenizer_id_known(t->model->tokenizer, ev->token))
		return err_set(e, -EBADMSG, "self-test: the model answers with token %" PRIu32
			       ", which its tokenizer does not have", ev->token);
	if (!isfinite(ev->logprob))
		return err_set(e, -EBADMSG, "self-test: token %" PRIu32 " has no finite "
			       "probability: the weights or the device are damaged", ev->token);
	twin->token[twin->n++] = ev->token;
	/* the second begins beside the first, so that neither may depend on company */
	return ev->id == 0 && twin->n == 1 ? add_twin(t, 1, e) : 0;
}

static int on_event(struct test *t, const struct engine_event *ev, struct err *e)
{
	t->heard_ns = clock_ns();
	if (ev->kind == ENGINE_LOST) {
		engine_why_lost(t->engine, e);
		return err_prefix(e, -ENODEV, "self-test");
	}
	if (ev->id >= TWINS)
		return 0;
	if (ev->kind == ENGINE_TOKEN)
		return on_token(t, ev, e);
	if (ev->kind == ENGINE_DONE && ev->end == SEQ_END_NO_NUMBER)
		return err_set(
			e, -EBADMSG,
			"self-test: a NaN or an infinity among the logits at position %" PRIu32
			": the weights or the device are damaged",
			ev->pos);
	if (ev->kind == ENGINE_DONE && ev->end == SEQ_END_FAILED)
		return err_set(e, -ENOMEM, "self-test: the engine gave it up");
	t->twin[ev->id].over |= ev->kind == ENGINE_DONE;
	return 0;
}

static int wait_twins(struct test *t, int (*alive)(void *ctx), void *ctx, struct err *e)
{
	struct pollfd fd = { .fd = engine_fd(t->engine), .events = POLLIN };
	const struct engine_event *ev;
	int r = 0;

	t->heard_ns = clock_ns();
	while (r == 0 && !(t->twin[0].over && t->twin[1].over)) {
		size_t n = 0;

		if (poll(&fd, 1, TELL_MS) > 0)
			n = engine_take(t->engine, &ev);
		for (size_t i = 0; i < n && r == 0; i++)
			r = on_event(t, &ev[i], e);
		if (r == 0 && clock_ns() - t->heard_ns > SILENCE_NS)
			r = err_set(e, -ETIMEDOUT, "self-test: the device made no step for %d s",
				    (int)(SILENCE_NS / NS_PER_S));
		if (r == 0)
			r = alive(ctx);
	}
	return r;
}

static int compare(const struct test *t, struct err *e)
{
	const struct twin *a = &t->twin[0], *b = &t->twin[1];

	if (a->n == 0)
		return err_set(e, -EBADMSG, "self-test: the model answers nothing");
	if (a->n != b->n || memcmp(a->token, b->token, a->n * sizeof(*a->token)))
		return err_set(e, -EBADMSG, "self-test: the same prompt gave two answers: the "
			       "device does not compute reliably");
	return 0;
}

int self_test(const struct text_model *model, struct engine *engine, int (*alive)(void *ctx),
	      void *ctx, struct self_test *ret, struct err *e)
{
	const uint32_t room = sched_max_tokens(engine_config(engine)) - OUTPUT;
	CLEANUP(prompt_donep) struct prompt p = { 0 };
	struct test t = { .model = model, .engine = engine };
	uint64_t start = clock_ns();
	int r = make_prompt(model, &p, e);

	if (r < 0)
		return err_prefix(e, r, "self-test");
	t.n_ids = p.ids.n > room ? room : (uint32_t)p.ids.n;
	t.ids = p.ids.p + p.ids.n - t.n_ids;
	r = add_twin(&t, 0, e);
	if (r == 0)
		r = wait_twins(&t, alive, ctx, e);
	if (r == 0)
		r = compare(&t, e);
	if (r == 0)
		*ret = (struct self_test){ t.n_ids, t.twin[0].n,
					  (clock_ns() - start) / NS_PER_MS };
	return r;
}
