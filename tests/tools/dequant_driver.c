/* dequant_driver.c - a checkpoint's quantised matrices as numbers, for tools/quant/check.py.
 *
 *	dequant_driver MODEL_DIR > numbers
 *
 * For each: a line "TENSOR FORMAT ROWS COLS GLOBAL", then ROWS * COLS operands and ROWS * COLS
 * weights in float32 (kernels/cpu/dequant.h).
 */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/cpu/dequant.h"
#include "lib/own.h"
#include "worker/weights/checkpoint.h"

static int put(const struct weight_ref *w)
{
	size_t n = (size_t)w->rows * w->cols;
	CLEANUP(freep) float *x = malloc(n * sizeof(*x));

	if (!x)
		return -ENOMEM;
	printf("%s %s %u %u %a\n", w->name, weight_format_name(w->format), w->rows, w->cols,
	       (double)w->global);
	for (uint32_t r = 0; r < w->rows; r++)
		dequant_operands(w, r, x + (size_t)r * w->cols);
	if (fwrite(x, sizeof(*x), n, stdout) != n)
		return -EIO;
	for (uint32_t r = 0; r < w->rows; r++)
		dequant_row(w, r, x + (size_t)r * w->cols);
	return fwrite(x, sizeof(*x), n, stdout) == n ? 0 : -EIO;
}

static int put_all(const struct weight_source *s, const struct model_shape *m)
{
	int r = 0;

	for (int slot = 0; slot < W_N_SLOTS; slot++) {
		uint32_t layers = slot < W_PER_LAYER ? 1 : m->n_layers + m->n_mtp_layers;
		uint32_t experts =
			slot >= W_EXPERT_GATE && slot <= W_EXPERT_DOWN ? m->n_experts : 1;

		for (uint32_t l = 0; r == 0 && l < layers; l++)
			for (uint32_t x = 0; r == 0 && x < experts; x++) {
				struct weight_ref w;

				if (s->find(s->ctx, (enum weight_slot)slot, l, x, &w) == 0 &&
				    !weight_is_plain(w.format))
					r = put(&w);
			}
	}
	return r;
}

int main(int argc, char **argv)
{
	struct hf_config config;
	struct checkpoint *c = NULL;
	struct err e = { .code = 0 };

	if (argc != 2) {
		fprintf(stderr, "usage: dequant_driver MODEL_DIR\n");
		return 64;
	}
	if (hf_config_open(argv[1], &config, &e) < 0 ||
	    checkpoint_open(argv[1], &config, &c, &e) < 0) {
		fprintf(stderr, "dequant_driver: %s\n", e.text);
		return 1;
	}
	int r = put_all(checkpoint_source(c), &config.shape);
	checkpoint_close(c);
	return r < 0;
}
