/* scan.c - see scan.h. */
#include "worker/weights/scan.h"

#include <string.h>

#define CHUNK 4096	/* elements looked at before one is asked which it was */

/* True when one of n elements is NaN or infinite; without a branch an element, for the compiler. */
static bool bad8(const uint8_t *p, size_t n)
{
	unsigned any = 0;

	for (size_t i = 0; i < n; i++)
		any |= (p[i] & 0x7f) == 0x7f;	/* e4m3 has no infinity */
	return any;
}

static bool bad16(const uint8_t *p, size_t n, uint16_t exponent)
{
	unsigned any = 0;

	for (size_t i = 0; i < n; i++) {
		uint16_t x;

		memcpy(&x, p + 2 * i, 2);
		any |= (x & exponent) == exponent;
	}
	return any;
}

static bool bad32(const uint8_t *p, size_t n)
{
	unsigned any = 0;

	for (size_t i = 0; i < n; i++) {
		uint32_t x;

		memcpy(&x, p + 4 * i, 4);
		any |= (x & 0x7f800000u) == 0x7f800000u;
	}
	return any;
}

static bool bad(const uint8_t *p, size_t n, enum weight_format f)
{
	switch (f) {
	case WF_F32:
		return bad32(p, n);
	case WF_F16:
		return bad16(p, n, 0x7c00);
	case WF_BF16:
		return bad16(p, n, 0x7f80);
	case WF_FP8:
		return bad8(p, n);
	case WF_NVFP4:	/* every code is a number */
	case WF_N:
		break;
	}
	return false;
}

static int scan_array(const void *data, size_t n, enum weight_format f, const char *name,
		      const char *what, struct err *e)
{
	const uint8_t *p = data;
	size_t each = weight_row_bytes(f, 1);

	if (f == WF_NVFP4)
		return 0;
	for (size_t at = 0; at < n; at += CHUNK) {
		size_t m = n - at < CHUNK ? n - at : CHUNK;

		if (!bad(p + at * each, m, f))
			continue;
		while (!bad(p + at * each, 1, f))
			at++;
		return err_set(e, -EINVAL, "%s: %s %zu is not a finite number", name, what, at);
	}
	return 0;
}

static int scan_one(const struct weight_ref *w, struct err *e)
{
	size_t n = (size_t)weight_scale_rows(w) * weight_scale_cols(w);
	int r = scan_array(w->data, (size_t)w->rows * w->cols, w->format, w->name, "element", e);

	return r < 0 || n == 0 ? r : scan_array(w->scale, n, w->scale_format, w->name, "scale", e);
}

int scan_weights(const struct model_shape *s, const struct weight_source *w, uint64_t *ret_bytes,
		 struct err *e)
{
	*ret_bytes = 0;
	for (int slot = 0; slot < W_N_SLOTS; slot++) {
		uint32_t layers = slot < W_PER_LAYER ? 1 : s->n_layers + s->n_mtp_layers;
		uint32_t each = slot >= W_EXPERT_GATE && slot <= W_EXPERT_DOWN ? s->n_experts : 1;

		for (uint32_t l = 0; l < layers; l++)
			for (uint32_t x = 0; x < each; x++) {
				struct weight_ref ref;

				if (w->find(w->ctx, (enum weight_slot)slot, l, x, &ref) < 0)
					continue;
				int r = scan_one(&ref, e);
				if (r < 0)
					return r;
				*ret_bytes += weight_data_bytes(&ref) + weight_scale_bytes(&ref);
			}
	}
	return 0;
}
