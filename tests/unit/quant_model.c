/* quant_model.c - see quant_model.h. */
#include "tests/unit/quant_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/dequant.h"
#include "tests/unit/unit.h"

static uint32_t mix(uint32_t x)
{
	x = (x ^ x >> 16) * 0x7feb352du;
	x = (x ^ x >> 15) * 0x846ca68bu;
	return x ^ x >> 16;
}

static void *room(struct quant_model *m, size_t n)
{
	void *p = malloc(n);

	assert_non_null(p);
	assert_true(m->n_rooms < sizeof(m->rooms) / sizeof(m->rooms[0]));
	m->rooms[m->n_rooms++] = p;
	return p;
}

/* A finite e4m3 number whose magnitude is in [2^lo, 2^(hi + 1)); never negative when !sign. */
static uint8_t e4m3(uint32_t bits, int lo, int hi, bool sign)
{
	uint32_t exp = (uint32_t)(lo + 7) + (bits >> 8) % (uint32_t)(hi - lo + 1);

	return (uint8_t)((sign ? bits & 0x80 : 0) | exp << 3 | (bits & 7));
}

static void put_scales(struct quant_model *m, struct weight_ref *w, uint32_t key, float size)
{
	size_t n = (size_t)weight_scale_rows(w) * weight_scale_cols(w);
	uint8_t *p = room(m, weight_scale_bytes(w));

	for (size_t i = 0; i < n; i++) {
		uint32_t bits = mix(key ^ (uint32_t)i);
		float s = m->recipe == QUANT_EXACT ? ldexpf(1, (int)(bits % 4) - 2) :
						     0.5f + (float)(bits >> 8) / 16777216.0f;
		uint32_t word;

		s *= size;
		memcpy(&word, &s, 4);
		if (w->scale_format == WF_FP8)
			p[i] = e4m3(bits, -1, 3, false);
		else if (w->scale_format == WF_F32)
			memcpy(p + 4 * i, &word, 4);
		else
			memcpy(p + 2 * i, (uint16_t[]){ (uint16_t)(word >> 16) }, 2);
	}
	w->scale = p;
}

static void describe(const struct quant_model *m, struct weight_ref *w, uint32_t which)
{
	uint32_t spans[5][2] = { { 1, 16 }, { 1, w->cols }, { w->rows, w->cols }, { 128, 128 },
				 { 128, 128 } };
	static const enum weight_format scale[5] = { WF_FP8, WF_BF16, WF_F32, WF_BF16, WF_F32 };
	uint32_t kind = which % (m->recipe == QUANT_EXACT ? 3 : 5);

	if (kind == 0 && w->cols % 16)
		kind = 1;
	if (m->recipe == QUANT_MIXED && w->rows > 256)
		kind = 3 + which % 2;	/* several blocks each way */
	w->format = kind == 0 ? WF_NVFP4 : WF_FP8;
	w->scale_format = scale[kind];
	w->span_rows = spans[kind][0];
	w->span_cols = spans[kind][1];
}

static int find(void *ctx, enum weight_slot slot, uint32_t layer, uint32_t expert,
		struct weight_ref *ret)
{
	struct quant_model *m = ctx;
	uint32_t key = mix((uint32_t)slot * 977u + layer * 31u + expert * 7919u + 5u);
	const struct weight_source *base = random_model_source(m->base);
	int r = base->find(base->ctx, slot, layer, expert, ret);
	/* every sixth stays plain; so do the embedding and the convolution, and vectors */
	bool plain = r < 0 || slot == W_EMBED || slot == W_GDN_CONV ||
		     (ret->rows == 1 && slot != W_SHARED_SCORE);

	if (plain || (key % 6 == 5 && ret->rows <= 256))
		return r;
	/* magnitudes as of the random model: uniform in 2 / sqrt(cols) */
	float size = ldexpf(1, (int)lrintf(log2f(2.0f / sqrtf((float)ret->cols))) - 2);
	describe(m, ret, key / 6);
	size_t n = weight_data_bytes(ret);
	uint8_t *p = room(m, n);
	for (size_t i = 0; i < n; i++)
		p[i] = ret->format == WF_FP8 ? e4m3(mix(key + (uint32_t)i), -3, 1, true) :
					       (uint8_t)mix(key + (uint32_t)i);
	ret->data = p;
	ret->global = ret->format == WF_NVFP4 ? size / 8 : 1;
	put_scales(m, ret, key, size);
	return 0;
}

static int find_twin(void *ctx, enum weight_slot slot, uint32_t layer, uint32_t expert,
		     struct weight_ref *ret)
{
	struct quant_model *m = ctx;
	int r = find(m, slot, layer, expert, ret);

	if (r < 0 || weight_is_plain(ret->format))
		return r;
	float *p = room(m, (size_t)ret->rows * ret->cols * sizeof(*p));
	for (uint32_t i = 0; i < ret->rows; i++)
		dequant_row(ret, i, p + (size_t)i * ret->cols);
	*ret = (struct weight_ref){
		.format = WF_F32, .rows = ret->rows, .cols = ret->cols, .data = p, .name = ret->name
	};
	return 0;
}

void quant_model_init(struct quant_model *m, enum quant_recipe recipe, bool dense)
{
	m->shape = random_shape(dense ? RANDOM_DENSE : RANDOM_MOE);
	m->shape.hidden = 192;	/* a block of 128 columns and a half one */
	OK(random_model_new(&m->shape, WF_F32, 1, &m->base));
	m->recipe = recipe;
	m->source = (struct weight_source){ .ctx = m, .find = find, .total_bytes = 1 };
	m->twin = (struct weight_source){ .ctx = m, .find = find_twin, .total_bytes = 1 };
	m->n_rooms = 0;
}

void quant_model_done(struct quant_model *m)
{
	m->base = random_model_free(m->base);
	for (uint32_t i = 0; i < m->n_rooms; i++)
		free(m->rooms[i]);
	m->n_rooms = 0;
}
