/* fake_worker.c - a whole worker whose device computes nothing (tests/fake/device.h).
 *
 *	tests/tools/fake_worker MODEL_DIR ENDPOINT ALIAS NAME [STEP_US]
 *
 * Tokenizer, template, scheduler, wire: all real; the answers are noise, a function of the
 * prompt, the seed and the sampling parameters.  For tests of what stands in front of a
 * worker, at any speed: STEP_US is how long a step takes.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#include "tests/fake/device.h"
#include "worker/serve.h"

enum { CONTEXT = 8192, SLOTS = 16 };

struct setup {
	struct model_shape shape;
	unsigned step_us;
};

static int open_fake(void *ctx, struct device **ret, struct sched_config *ret_c, struct err *e)
{
	const struct device_limits l = { .n_slots = SLOTS, .n_blocks = 4 * CONTEXT / STEP_GRID,
					 .max_rows = 256, .max_context = CONTEXT };
	const struct setup *s = ctx;
	int r = device_open("fake", &s->shape, &l, ret, e);

	if (r < 0)
		return r;
	fake_slow(*ret, s->step_us);
	*ret_c = (struct sched_config){ .n_slots = l.n_slots, .n_blocks = l.n_blocks,
					.max_rows = l.max_rows, .max_context = l.max_context,
					.max_queue = 256, .prefill_rows = 128,
					.replay_rows = 16 };
	return 0;
}

int main(int argc, char **argv)
{
	struct serve_options o = { .numeric_class = "fake", .version = "0.1.0",
				   .max_running = SLOTS, .drain_ms = 10000 };
	struct setup s = { 0 };
	struct text_model model = { 0 };
	struct engine *engine = NULL;
	struct err e = { 0 };
	sigset_t set;
	int r;

	if (argc < 5) {
		fprintf(stderr, "usage: %s MODEL_DIR ENDPOINT ALIAS NAME [STEP_US]\n", argv[0]);
		return EX_USAGE;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	o.endpoint = argv[2];
	o.alias = argv[3];
	o.name = argv[4];
	s.step_us = argc > 5 ? (unsigned)atoi(argv[5]) : 0;
	r = text_model_open(argv[1], &model, &e);
	if (r == 0) {
		s.shape.n_token_ids = tokenizer_n_ids(model.tokenizer);
		r = engine_start(open_fake, &s, &engine, &e);
	}
	if (r == 0)
		r = serve_run(&o, &model, engine, &e);
	if (r < 0)
		fprintf(stderr, "%s: %s\n", argv[0], e.text);
	engine_stop(engine);
	text_model_done(&model);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
