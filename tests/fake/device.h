/* device.h - a device of kernels/step.h that computes nothing and checks everything.
 *
 * "The model" is a chain of hashes: each token, and whether it went through the prefill
 * or the decode kernels, is mixed into the state of its slot, and every position's
 * link is kept in its KV block.  A sample is a hash of the chain, the parameters and the
 * tokens counted for penalties.  So a token computed from a wrong block, in a wrong slot,
 * in the wrong order or by the wrong kernels changes the answer; and a plan that breaks a
 * rule of step.h aborts the test at once.
 */
#ifndef HEARTH_TESTS_FAKE_DEVICE_H
#define HEARTH_TESTS_FAKE_DEVICE_H

#include "kernels/step.h"

#define FAKE_LAYERS 8		/* as far as parts of a prompt are concerned */
#define FAKE_VOCAB 5000		/* without a shape; else its n_token_ids */

/* What a sequence alone must answer: n tokens after the prompt. */
void fake_answer(const uint32_t *prompt, uint32_t n_prompt, const struct sampling *s,
		 uint32_t vocab, uint32_t n, uint32_t *ret_tokens);

/* From the n-th device_submit() on the device is lost; 0: never. */
void fake_lose_device(struct device *d, uint64_t at_submit);
/* From the n-th device_submit() on, device_collect() does not return until fake_release(); 0:
 * never.  As a replay that does not finish: submit() goes on. */
void fake_wedge(struct device *d, uint64_t at_submit);
void fake_release(struct device *d);
/* In the n-th step and the n_steps - 1 after it, the samples of the first n_rows runs have no
 * number. */
void fake_no_number(struct device *d, uint64_t at_submit, uint64_t n_steps, uint32_t n_rows);
/* The same by words, N counted from now: "wedge:N", "lost:N", "nan:N:STEPS:ROWS"; and "slow:US", as
 * fake_slow().  -EINVAL.  A program that is built from the fake gets them at any time through the
 * file that HEARTH_FAULT_FILE names: a step that finds it takes it away and does what it says. */
int fake_fault(struct device *d, const char *text);
/* Each step takes this long. */
void fake_slow(struct device *d, unsigned us);
/* slot_begin() refuses these parameters: temperature == 99. */
#define FAKE_BAD_TEMPERATURE 99.0f

#endif
