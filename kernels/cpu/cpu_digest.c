/* cpu_digest.c - CRC-32C of what a run left behind, for tests of exactness. */
#include "kernels/cpu/cpu.h"
#include "kernels/crc32c.h"

/* All bytes of the entry of place j.  One element at a time: K lies across the positions. */
static uint32_t entry_digest(const struct cpu_device *d, const struct kv_view *kv, uint32_t j,
			     uint32_t crc)
{
	size_t dim = d->base.shape.head_dim, size = kv->k_power ? 1 : d->round ? 2 : 4;

	for (size_t i = 0; i < dim; i++)
		crc = crc32c(crc, (const char *)kv->k + (i * STEP_GRID + j) * size, size);
	crc = crc32c(crc, (const char *)kv->v + j * dim * size, dim * size);
	if (!kv->k_power)
		return crc;
	crc = crc32c(crc, &kv->k_power[j], 1);
	return crc32c(crc, &kv->v_power[j], 1);
}

/* The entries of places pos..pos+n-1 in every decoder layer (not MTP: its entries come
 * after the samples). */
static uint32_t kv_digest(const struct cpu_device *d, const struct run_rows *r)
{
	const struct model_shape *s = &d->base.shape;
	uint32_t layers = d->n_attn - s->n_mtp_layers, crc = 0;

	for (uint32_t k = r->p.pos; k < r->p.pos + r->p.n; k++)
		for (uint32_t h = 0; h < layers * s->n_kv_heads; h++) {
			struct kv_view kv =
				cpu_kv_view(d, h / s->n_kv_heads, r->p.blocks[k / STEP_GRID],
					    h % s->n_kv_heads);

			crc = entry_digest(d, &kv, k % STEP_GRID, crc);
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
