/* dummy_driver.c - made-up weights as kernels/dummy_fill.c makes them, for
 * tests/golden/compare_dummy.py.
 *
 *	dummy_driver FOLDER RECIPE SEED < lines
 *
 * FOLDER has a config.json.  Each line names rows of a matrix: SLOT LAYER EXPERT FIRST ROWS, SLOT
 * as a number of enum weight_slot, ROWS 0 for all.  Writes for each a line of text, FORMAT ROWS
 * COLS DATA_BYTES SCALE_BYTES GLOBAL, and behind it the bytes; or "none".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/dummy.h"
#include "kernels/weight_stream.h"
#include "worker/weights/hf_config.h"

static int answer(struct dummy *d, struct weight_piece *p)
{
	const struct weight_source source = dummy_source(d);
	struct weight_ref whole, rows;

	if (source.find(source.ctx, p->slot, p->layer, p->expert, &whole) < 0)
		return puts("none") < 0;
	p->rows = p->rows ? p->rows : whole.rows;
	if (weight_rows(&whole, p->first, p->rows, &rows) < 0) {
		fprintf(stderr, "dummy_driver: %s: no %u rows at %u\n", whole.name, p->rows,
			p->first);
		return 1;
	}
	const size_t n = weight_data_bytes(&rows), m = weight_scale_bytes(&rows);
	char *bytes = malloc(n + m);
	int r = 1;

	if (bytes) {
		dummy_fill(d, &whole, p, bytes, bytes + n);
		printf("%s %u %u %zu %zu %.9g\n", weight_format_name(whole.format), p->rows,
		       whole.cols, n, m, (double)whole.global);
		r = fwrite(bytes, 1, n + m, stdout) != n + m;
	}
	free(bytes);
	return r;
}

int main(int argc, char **argv)
{
	struct dummy d = { .recipe = DUMMY_BF16 };
	struct weight_piece p;
	struct hf_config config;
	struct err e;
	unsigned slot;

	if (argc != 4) {
		fprintf(stderr, "usage: dummy_driver FOLDER RECIPE SEED < lines\n");
		return 64;
	}
	if (hf_config_open(argv[1], &config, &e) < 0 || dummy_recipe_of(argv[2], &d.recipe) < 0) {
		fprintf(stderr, "dummy_driver: %s, %s: no such model or recipe\n", argv[1],
			argv[2]);
		return 1;
	}
	d.shape = config.shape;
	d.seed = strtoull(argv[3], NULL, 10);
	while (scanf("%u %u %u %u %u", &slot, &p.layer, &p.expert, &p.first, &p.rows) == 5) {
		p.slot = (enum weight_slot)slot;
		if (answer(&d, &p))
			return 1;
	}
	return fflush(stdout) != 0;
}
