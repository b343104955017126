/* logits_driver.c - raw logits of a model folder, for tests/golden/compare_logits.py and
 * compare_true.py.
 *
 *	logits_driver [-d DEVICE] [-m RECIPE] [-r ROWS] MODEL_DIR f32|bf16 prefill|decode [draft]
 *		< ids > logits
 *
 * Reads token ids as text; writes n rows of vocab_rows float32.  `draft` writes instead one
 * line of text for each position: the MTP head's guess after the model's own arg-max there.
 * -m: MODEL_DIR has a config.json alone, and the weights are made up (kernels/dummy.h).
 * -r: of a prompt in one step, a multiple of 64 (64 if not given).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/dummy.h"
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

struct options {
	const char *device, *recipe, *folder;
	uint32_t rows;
	enum step_numerics numerics;
	bool decode, draft;
};

/* An open device with weights. */
static int load(const struct options *o, uint32_t n, struct device **ret, uint32_t *ret_vocab,
		struct err *e)
{
	const struct device_limits limits = { .n_slots = 1,
					      .max_rows = o->rows,
					      .numerics = o->numerics,
					      .n_blocks = n / STEP_GRID + 1,
					      .max_context = n + STEP_GRID };
	struct dummy dummy = { .recipe = DUMMY_BF16, .seed = DUMMY_SEED };
	struct weight_source source = dummy_source(&dummy);
	struct hf_config config;
	struct checkpoint *c = NULL;
	char *dir = NULL;
	int r = hf_dir_find(o->folder, &dir, e);

	if (r == 0)
		r = hf_config_open(dir, &config, e);
	if (r == 0 && o->recipe && dummy_recipe_of(o->recipe, &dummy.recipe) < 0)
		r = err_set(e, -EINVAL, "no recipe %s", o->recipe);
	if (r == 0 && !o->recipe)
		r = checkpoint_open(dir, &config, &c, e);
	if (c)
		source = *checkpoint_source(c);
	free(dir);
	if (r < 0)
		return r;
	if (o->recipe)
		config.shape.n_mtp_layers = 0;
	dummy.shape = config.shape;
	*ret_vocab = config.shape.vocab_rows;
	r = device_open(o->device, &config.shape, &limits, ret, e);
	if (r == 0)
		r = device_load(*ret, &source, NULL, NULL, e);
	checkpoint_close(c);
	return r;
}

static int run(struct device *d, const struct options *o, const uint32_t *ids, uint32_t n,
	       uint32_t vocab)
{
	const struct sampling greedy = { .top_p = 1, .repetition = 1 };
	uint32_t n_blocks = (n + STEP_GRID - 1) / STEP_GRID, at = 0;
	kv_block *blocks = calloc(n_blocks + 1, sizeof(*blocks));
	float *logits = calloc((size_t)vocab * o->rows, sizeof(*logits));
	int rc = blocks && logits ? slot_begin(d, 0, &greedy, NULL, 0) : -ENOMEM;

	for (uint32_t i = 0; blocks && i < n_blocks; i++)
		blocks[i] = i;
	while (rc >= 0 && at < n) {
		uint32_t left = n - at, part = o->decode ? 1 : left < o->rows ? left : o->rows;
		struct plan_run r = { .kind = o->decode ? ROW_DECODE : ROW_PREFILL,
				      .pos = at,
				      .n = part,
				      .tokens = ids + at,
				      .blocks = blocks,
				      .n_blocks = n_blocks,
				      .sample = o->draft,
				      .draft = o->draft,
				      .logits = o->draft ? NULL : logits };
		struct run_result res;

		rc = step(d, &r, &res);
		if (rc >= 0 && o->draft)
			printf("%u %u\n", res.token, res.draft);
		else if (rc >= 0 && fwrite(logits, sizeof(float), (size_t)vocab * part, stdout) !=
					    (size_t)vocab * part)
			rc = -EIO;
		at += part;
	}
	free(blocks);
	free(logits);
	return rc < 0 ? rc : 0;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: logits_driver [-d DEVICE] [-m RECIPE] [-r ROWS] MODEL_DIR f32|bf16 "
		"prefill|decode [draft]\n");
	return 64;
}

int main(int argc, char **argv)
{
	static uint32_t ids[MAX_IDS];
	struct options o = { .device = "cpu", .rows = STEP_GRID };
	struct device *d = NULL;
	struct err e = { .code = 0 };
	uint32_t n = 0, vocab;

	for (int c; (c = getopt(argc, argv, "d:m:r:")) != -1;) {
		switch (c) {
		case 'd': o.device = optarg; break;
		case 'm': o.recipe = optarg; break;
		case 'r': o.rows = (uint32_t)strtoul(optarg, NULL, 10); break;
		default: return usage();
		}
	}
	argv += optind;
	argc -= optind;
	if (argc < 3 || !o.rows || o.rows % STEP_GRID || o.rows > MAX_IDS)
		return usage();
	o.folder = argv[0];
	o.numerics = strcmp(argv[1], "f32") == 0 ? NUMERICS_F32 : NUMERICS_BF16;
	o.decode = strcmp(argv[2], "decode") == 0;
	o.draft = argc > 3;
	while (n < MAX_IDS && scanf("%u", &ids[n]) == 1)
		n++;
	if (load(&o, n, &d, &vocab, &e) < 0)
		return fail(&e, o.folder);
	int r = run(d, &o, ids, n, vocab);
	device_close(d);
	if (r < 0)
		fprintf(stderr, "logits_driver: %s\n", strerror(-r));
	return r < 0;
}
