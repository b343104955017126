/* cpu_scale.c - products with a quantised matrix: exact operands first, then its scales.
 *
 * Where a scale is the same along a row, it multiplies the finished sum.  FP8 in blocks: each
 * block of K has its own sum from zero, which its scale multiplies, and the blocks are added
 * in order.  docs/numerics.md section 4.
 */
#include "kernels/cpu/cpu.h"

#define STRIP 32	/* rows of x at a time, so that the blocks' sums stay small */

static void scale_rows(const struct mat *w, uint32_t g0, uint32_t g1, uint32_t n_rows, float *out,
		       size_t ldo)
{
	for (uint32_t r = 0; r < n_rows; r++)
		for (size_t i = (size_t)g0 * LANES; i < (size_t)g1 * LANES; i++)
			out[r * ldo + i] *= w->factor[i];
}

/* Block b of K of group g as a matrix of its own. */
static struct mat block_of(const struct mat *w, uint32_t g, uint32_t b)
{
	uint32_t first = b * w->block_cols, left = w->cols - first;
	size_t words = w->f32 ? w->cols : (w->cols + 1) / 2;
	uint32_t *data = w->data;
	struct mat m = { .rows = LANES, .groups = 1, .f32 = w->f32,
			 .cols = left < w->block_cols ? left : w->block_cols };

	m.data = data + (g * words + (w->f32 ? first : first / 2)) * LANES;
	return m;
}

static void add_block(const float *part, float scale, uint32_t n_rows, bool first, float *out,
		      size_t ldo)
{
	for (uint32_t r = 0; r < n_rows; r++)
		for (uint32_t i = 0; i < LANES; i++) {
			float y = part[r * LANES + i] * scale;

			out[r * ldo + i] = first ? y : out[r * ldo + i] + y;
		}
}

static void strip_blocks(const struct cpu_path *p, const struct mat *w, uint32_t g, const float *x,
			 size_t ldx, uint32_t n_rows, float *out, size_t ldo)
{
	uint32_t n_blocks = (w->cols + w->block_cols - 1) / w->block_cols;
	float part[STRIP * LANES];

	for (uint32_t b = 0; b < n_blocks; b++) {
		struct mat m = block_of(w, g, b);

		p->matmul(&m, 0, 1, x + (size_t)b * w->block_cols, ldx, n_rows, part, LANES);
		add_block(part, w->factor[(size_t)g * n_blocks + b], n_rows, b == 0, out, ldo);
	}
}

void cpu_matmul_groups(const struct cpu_path *p, const struct mat *w, uint32_t g0, uint32_t g1,
		       const float *x, size_t ldx, uint32_t n_rows, float *out, size_t ldo)
{
	if (!w->block_cols) {
		p->matmul(w, g0, g1, x, ldx, n_rows, out, ldo);
		if (w->factor)
			scale_rows(w, g0, g1, n_rows, out, ldo);
		return;
	}
	for (uint32_t g = g0; g < g1; g++)
		for (uint32_t r = 0; r < n_rows; r += STRIP)
			strip_blocks(p, w, g, x + r * ldx, ldx,
				     n_rows - r < STRIP ? n_rows - r : STRIP,
				     out + r * ldo + (size_t)g * LANES, ldo);
}
