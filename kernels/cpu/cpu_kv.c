/* cpu_kv.c - keys and values in their blocks: where they lie, in which format, and back to float32.
 *
 * The layout is in cpu.h.  Everything that reads them goes through cpu_kv_read(), which gives the
 * numbers of docs/numerics.md: those of bfloat16, or e4m3 times a power of two, which are exact in
 * bfloat16 as well.
 */
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dequant.h"
#include "kernels/e4m3.h"

static bool is_fp8(const struct cpu_device *d)
{
	return d->base.limits.kv == KV_FP8;
}

static size_t elements(const struct cpu_device *d)
{
	return (size_t)STEP_GRID * d->base.shape.head_dim;
}

void cpu_kv_init(struct cpu_device *d)
{
	size_t heads = (size_t)d->n_attn * d->base.shape.n_kv_heads;

	d->kv_part = is_fp8(d) ? elements(d) + STEP_GRID : elements(d) * (d->round ? 2 : 4);
	d->block_bytes = heads * 2 * d->kv_part;
	for (unsigned i = 0; i < 256; i++)
		d->e4m3[i] = dequant_e4m3((uint8_t)i);
}

struct kv_view cpu_kv_view(const struct cpu_device *d, uint32_t place, kv_block b, uint32_t head)
{
	size_t i = (size_t)place * d->base.shape.n_kv_heads + head;
	char *k = d->kv + b * d->block_bytes + i * 2 * d->kv_part, *v = k + d->kv_part;
	struct kv_view view = { .k = k, .v = v };

	if (is_fp8(d)) {
		view.k_power = (uint8_t *)k + elements(d);
		view.v_power = (uint8_t *)v + elements(d);
	}
	return view;
}

/* ---- in -------------------------------------------------------------------------- */

static void store_fp8(const struct kv_view *kv, uint32_t j, uint32_t dim, const float *k,
		      const float *v, uint8_t *codes)
{
	kv->k_power[j] = e4m3_head(k, dim, codes);
	for (uint32_t i = 0; i < dim; i++)
		((uint8_t *)kv->k)[i * STEP_GRID + j] = codes[i];
	kv->v_power[j] = e4m3_head(v, dim, (uint8_t *)kv->v + (size_t)j * dim);
}

void cpu_kv_store(struct cpu_device *d, const struct layer *l, const kv_block *blocks,
		  uint32_t place, const float *k, const float *v)
{
	const struct model_shape *s = &d->base.shape;
	uint32_t dim = s->head_dim, j = place % STEP_GRID;

	for (uint32_t h = 0; h < s->n_kv_heads; h++, k += dim, v += dim) {
		struct kv_view kv = cpu_kv_view(d, l->place, blocks[place / STEP_GRID], h);

		if (is_fp8(d)) {
			store_fp8(&kv, j, dim, k, v, d->kv_codes);
			continue;
		}
		for (uint32_t i = 0; i < dim; i++)
			if (d->round) {
				((uint16_t *)kv.k)[i * STEP_GRID + j] = bf16_bits(k[i]);
				((uint16_t *)kv.v)[j * dim + i] = bf16_bits(v[i]);
			} else {
				((float *)kv.k)[i * STEP_GRID + j] = k[i];
				((float *)kv.v)[j * dim + i] = v[i];
			}
	}
}

/* ---- out ------------------------------------------------------------------------- */

static void read_fp8(const struct cpu_device *d, const struct kv_view *kv, float *k, float *v)
{
	const uint8_t *kc = kv->k, *vc = kv->v;
	uint32_t dim = d->base.shape.head_dim;
	float power[STEP_GRID];

	for (uint32_t j = 0; j < STEP_GRID; j++)
		power[j] = e4m3_power(kv->k_power[j]);
	for (uint32_t i = 0; i < dim; i++)
		for (uint32_t j = 0; j < STEP_GRID; j++)
			k[i * STEP_GRID + j] = d->e4m3[kc[i * STEP_GRID + j]] * power[j];
	for (uint32_t j = 0; j < STEP_GRID; j++) {
		power[0] = e4m3_power(kv->v_power[j]);
		for (uint32_t i = 0; i < dim; i++)
			v[j * dim + i] = d->e4m3[vc[j * dim + i]] * power[0];
	}
}

void cpu_kv_read(const struct cpu_device *d, const struct kv_view *kv, float *room_k, float *room_v,
		 const float **ret_k, const float **ret_v)
{
	*ret_k = room_k;
	*ret_v = room_v;
	if (is_fp8(d)) {
		read_fp8(d, kv, room_k, room_v);
	} else if (d->round) {
		d->path->widen(kv->k, elements(d), room_k);
		d->path->widen(kv->v, elements(d), room_v);
	} else {
		*ret_k = kv->k;
		*ret_v = kv->v;
	}
}
