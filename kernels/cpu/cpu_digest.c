/* cpu_digest.c - CRC-32C of what a run left behind, for tests of exactness. */
#include "kernels/cpu/cpu.h"
#include "kernels/crc32c.h"

/* The entries of places pos..pos+n-1 in every decoder layer (not MTP: its entries come
 * after the samples).  One element at a time: K lies across the positions. */
static uint32_t kv_digest(const struct cpu_device *d, const struct run_rows *r)
{
	const struct model_shape *s = &d->base.shape;
	size_t size = d->round ? 2 : 4, dim = s->head_dim, part = STEP_GRID * dim;
	uint32_t heads = (d->n_attn - s->n_mtp_layers) * s->n_kv_heads, crc = 0;

	for (uint32_t k = r->p.pos; k < r->p.pos + r->p.n; k++) {
		size_t b = r->p.blocks[k / STEP_GRID] * d->block_elems, j = k % STEP_GRID;

		for (uint32_t h = 0; h < heads; h++) {
			const char *kv = (const char *)d->kv + (b + h * 2 * part) * size;

			for (size_t i = 0; i < dim; i++)
				crc = crc32c(crc, kv + (i * STEP_GRID + j) * size, size);
			crc = crc32c(crc, kv + (part + j * dim) * size, dim * size);
		}
	}
	return crc;
}

void cpu_digest(struct cpu_device *d, const struct step *s, const struct run_rows *r,
		const float *logits, struct step_digest *ret)
{
	size_t h = d->base.shape.hidden;

	(void)s;
	ret->hidden = crc32c(0, d->room.h + (r->row + r->p.n - 1) * h, h * sizeof(float));
	ret->logits = crc32c(0, logits, d->base.shape.vocab_rows * sizeof(float));
	ret->kv = kv_digest(d, r);
	ret->state = crc32c(0, r->state, (d->state_floats - h) * sizeof(float));
}
