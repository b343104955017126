/* self_test.h - one question to a model that was just loaded, before anybody else may ask.
 *
 * The same prompt runs twice, the second beside the first; both must give the same tokens, all of
 * them the model's, with log-probabilities that are numbers.  A broken file, a wrong kernel or a
 * failing device shows here, and not in somebody's answer.
 */
#ifndef HEARTH_WORKER_SELF_TEST_H
#define HEARTH_WORKER_SELF_TEST_H

#include "worker/engine.h"
#include "worker/text_model.h"

struct self_test {
	uint32_t n_prompt, n_output;	/* tokens */
	uint64_t took_ms;
};

/* Nobody else uses the engine meanwhile.  alive: called at least once a second as long as
 * the engine works on it; anything but 0 ends the test with that code.
 * 0; -EBADMSG: the model's answer is wrong, e says how; -ETIMEDOUT: no step for a minute;
 * -ENODEV: the device was lost; -ENOMEM. */
int self_test(const struct text_model *model, struct engine *engine, int (*alive)(void *ctx),
	      void *ctx, struct self_test *ret, struct err *e);

#endif
