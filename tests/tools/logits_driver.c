/* logits_driver.c - raw logits of a model folder, for tests/golden/compare_logits.py.
 *
 *	logits_driver MODEL_DIR f32|bf16 prefill|decode [draft] < ids > logits
 *
 * Reads token ids as text; writes n rows of vocab_rows float32.  `draft` writes instead one
 * line of text for each position: the MTP head's guess after the model's own arg-max there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/step.h"
#include "worker/weights/checkpoint.h"
#include "worker/weights/hf_dir.h"

#define MAX_IDS 65536

static int fail(const struct err *e, const char *what)
{
	fprintf(stderr, "logits_driver: %s: %s\n", what, e->text);
	return 1;
}

static int step(struct device *d, struct plan_run *r, struct run_result *ret)
{
	const struct plan p = { .runs = r, .n_runs = 1 };
	int rc = device_submit(d, &p);

	return rc < 0 ? rc : device_collect(d, ret, 1);
}

static int run(struct device *d, const uint32_t *ids, uint32_t n, bool decode, bool draft,
	       uint32_t vocab)
{
	const struct sampling greedy = { .top_p = 1, .repetition = 1 };
	uint32_t n_blocks = (n + STEP_GRID - 1) / STEP_GRID, at = 0;
	kv_block *blocks = calloc(n_blocks, sizeof(*blocks));
	float *logits = calloc((size_t)vocab * STEP_GRID, sizeof(*logits));
	int rc = blocks && logits ? slot_begin(d, 0, &greedy, NULL, 0) : -ENOMEM;

	for (uint32_t i = 0; blocks && i < n_blocks; i++)
		blocks[i] = i;
	while (rc >= 0 && at < n) {
		uint32_t left = n - at, part = decode ? 1 : left < STEP_GRID ? left : STEP_GRID;
		struct plan_run r = { .kind = decode ? ROW_DECODE : ROW_PREFILL, .pos = at, .n = part,
				      .tokens = ids + at, .blocks = blocks, .n_blocks = n_blocks,
				      .sample = draft, .draft = draft, .logits = draft ? NULL : logits };
		struct run_result res;

		rc = step(d, &r, &res);
		if (rc >= 0 && draft)
			printf("%u %u\n", res.token, res.draft);
		else if (rc >= 0)
			fwrite(logits, sizeof(float), (size_t)vocab * part, stdout);
		at += part;
	}
	free(blocks);
	free(logits);
	return rc < 0 ? rc : 0;
}

int main(int argc, char **argv)
{
	static uint32_t ids[MAX_IDS];
	struct device_limits limits = { .n_slots = 1, .max_rows = 512 };
	struct hf_config config;
	struct checkpoint *c = NULL;
	struct device *d = NULL;
	struct err e = { .code = 0 };
	char *dir = NULL;
	uint32_t n = 0;

	if (argc < 4) {
		fprintf(stderr, "usage: logits_driver MODEL_DIR f32|bf16 prefill|decode [draft]\n");
		return 64;
	}
	while (n < MAX_IDS && scanf("%u", &ids[n]) == 1)
		n++;
	if (hf_dir_find(argv[1], &dir, &e) < 0 || hf_config_open(dir, &config, &e) < 0 ||
	    checkpoint_open(dir, &config, &c, &e) < 0)
		return fail(&e, argv[1]);
	limits.numerics = strcmp(argv[2], "f32") == 0 ? NUMERICS_F32 : NUMERICS_BF16;
	limits.n_blocks = n / STEP_GRID + 1;
	limits.max_context = n + STEP_GRID;
	if (device_open("cpu", &config.shape, &limits, &d, &e) < 0 ||
	    device_load(d, checkpoint_source(c), NULL, NULL, &e) < 0)
		return fail(&e, "cpu");
	checkpoint_close(c);
	free(dir);
	int r = run(d, ids, n, strcmp(argv[3], "decode") == 0, argc > 4, config.shape.vocab_rows);
	device_close(d);
	if (r < 0)
		fprintf(stderr, "logits_driver: %s\n", strerror(-r));
	return r < 0;
}
