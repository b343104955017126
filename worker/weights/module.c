/* module.c - see module.h. */
#include "worker/weights/module.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum part {
	PART_WEIGHT, PART_PACKED, PART_SCALE, PART_SCALE_INV, PART_SCALE_2, PART_GLOBAL,
	PART_N,
	PART_IGNORED,	/* about activations, which stay bfloat16 */
	PART_REFUSED
};

struct parts {
	struct tensor *at[PART_N];
};

static enum part part_of(const char *suffix)
{
	static const struct {
		const char *suffix;
		enum part part;
	} known[] = {
		{ "weight", PART_WEIGHT },
		{ "weight_packed", PART_PACKED },
		{ "weight_scale", PART_SCALE },
		{ "weight_scale_inv", PART_SCALE_INV },
		{ "weight_scale_2", PART_SCALE_2 },
		{ "weight_global_scale", PART_GLOBAL },
		{ "input_scale", PART_IGNORED },
		{ "input_global_scale", PART_IGNORED },
		{ "output_scale", PART_IGNORED },
		{ "activation_scale", PART_IGNORED },
		{ "k_scale", PART_IGNORED },
		{ "v_scale", PART_IGNORED },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(suffix, known[i].suffix) == 0)
			return known[i].part;
	return PART_REFUSED;
}

bool module_ignores(const char *canon)
{
	static const char *const suffix[] = { "input_scale", "input_global_scale", "output_scale",
					      "activation_scale", "k_scale", "v_scale", "q_scale",
					      "prob_scale", ".inv_freq" };
	size_t n = strlen(canon);

	for (size_t i = 0; i < sizeof(suffix) / sizeof(suffix[0]); i++) {
		size_t m = strlen(suffix[i]);

		if (n >= m && strcmp(canon + n - m, suffix[i]) == 0)
			return true;
	}
	return false;
}

static bool is_type(const struct tensor *x, const char *dtype)
{
	return x && strcmp(x->t->dtype, dtype) == 0;
}

static int collect(const struct tensor_set *s, const char *name, struct parts *ret, struct err *e)
{
	char prefix[200];
	uint32_t n;

	*ret = (struct parts){ 0 };
	snprintf(prefix, sizeof(prefix), "%s.", name);
	struct tensor *x = tensor_set_below(s, prefix, &n);
	for (uint32_t i = 0; i < n; i++) {
		enum part p = part_of(x[i].canon + strlen(prefix));

		/* I32: GPTQ, AWQ, and the integer formats of compressed-tensors */
		if (p == PART_REFUSED || is_type(&x[i], "I32"))
			return err_set(e, -ENOTSUP, "%s: tensor %s (%s) belongs to a format that is not known "
				       "here; BF16, F16, F32, FP8 and NVFP4 are", st_path(x[i].file),
				       x[i].t->name, x[i].t->dtype);
		x[i].used = true;
		if (p < PART_N)
			ret->at[p] = &x[i];
	}
	return 0;
}

/* ---- shapes and types -------------------------------------------------------------- */

/* The dims without the ones of size 1, against `dims` without its own. */
static bool same_shape(const struct st_tensor *t, const uint32_t dims[3])
{
	uint32_t i = 0;

	for (uint32_t k = 0; k < 3; k++) {
		if (dims[k] == 1)
			continue;
		while (i < t->n_dims && t->dim[i] == 1)
			i++;
		if (i == t->n_dims || t->dim[i++] != dims[k])
			return false;
	}
	while (i < t->n_dims && t->dim[i] == 1)
		i++;
	return i == t->n_dims;
}

static int expect_shape(const struct tensor *x, const uint32_t dims[3], struct err *e)
{
	char found[200];

	if (same_shape(x->t, dims))
		return 0;
	tensor_print_shape(x->t, found, sizeof(found));
	return err_set(e, -EINVAL, "%s: tensor %s: expected [%u, %u, %u], found %s", st_path(x->file),
		       x->t->name, dims[0], dims[1], dims[2], found);
}

static int expect_type(const struct tensor *x, const char *dtype, struct err *e)
{
	if (is_type(x, dtype))
		return 0;
	return err_set(e, -EINVAL, "%s: tensor %s: expected %s, found %s", st_path(x->file), x->t->name,
		       dtype, x->t->dtype);
}

static int plain_type(const struct tensor *x, enum weight_format *ret, struct err *e)
{
	for (enum weight_format f = WF_F32; weight_is_plain(f); f++)
		if (is_type(x, weight_format_name(f))) {
			*ret = f;
			return 0;
		}
	return err_set(e, -EINVAL, "%s: tensor %s: expected F32, BF16 or F16, found %s",
		       st_path(x->file), x->t->name, x->t->dtype);
}

static void refer(const struct tensor *x, enum weight_format f, const uint32_t dims[3],
		  struct weight_ref *ret)
{
	*ret = (struct weight_ref){ .format = f, .rows = dims[1], .cols = dims[2], .data = x->t->data,
				    .name = x->t->name, .file = st_path(x->file), .global = 1 };
}

/* The one number of x. */
static int read_scalar(const struct tensor *x, float *ret, struct err *e)
{
	static const uint32_t one[3] = { 1, 1, 1 };
	int r = expect_type(x, "F32", e);

	if (r == 0)
		r = expect_shape(x, one, e);
	return r == 0 ? st_read(x->file, x->t, ret, sizeof(*ret), e) : r;
}

static int no_such(const struct tensor_set *s, const char *name, const char *what, struct err *e)
{
	return err_set(e, -EINVAL, "%s: tensor %s.%s is missing", s->dir, name, what);
}

/* ---- FP8 ---------------------------------------------------------------------------- */

static uint32_t blocks(uint32_t n)
{
	return n / FP8_BLOCK + (n % FP8_BLOCK != 0);
}

/* A shape is taken for what it is; one number, then one a row, then blocks. */
static int fp8_spans(const struct tensor *scale, uint32_t n, struct weight_ref *ret, struct err *e)
{
	const uint32_t one[3] = { 1, 1, 1 }, each[3] = { n, ret->rows, 1 };
	const uint32_t block[3] = { n, blocks(ret->rows), blocks(ret->cols) };
	char found[200];

	ret->span_cols = ret->cols;
	if (n == 1 && same_shape(scale->t, one)) {
		ret->span_rows = ret->rows;
	} else if (same_shape(scale->t, each)) {
		ret->span_rows = 1;
	} else if (same_shape(scale->t, block)) {
		ret->span_rows = FP8_BLOCK;
		ret->span_cols = FP8_BLOCK;
	} else {
		tensor_print_shape(scale->t, found, sizeof(found));
		return err_set(e, -EINVAL, "%s: tensor %s: %s scales for a matrix [%u, %u]; one, one for "
			       "each row or [%u, %u] can be", st_path(scale->file), scale->t->name, found,
			       ret->rows, ret->cols, block[1], block[2]);
	}
	return 0;
}

/* n matrices, one after the other. */
static int take_fp8(const struct tensor *w, const struct tensor *scale, const uint32_t dims[3],
		    struct weight_ref *ret, struct err *e)
{
	int r = expect_shape(w, dims, e);

	refer(w, WF_FP8, dims, ret);
	if (r == 0)
		r = plain_type(scale, &ret->scale_format, e);
	if (r == 0)
		r = fp8_spans(scale, dims[0], ret, e);
	ret->scale = scale->t->data;
	ret->scale_file = st_path(scale->file);
	return r;
}

/* ---- NVFP4 -------------------------------------------------------------------------- */

static int take_global(const struct tensor *x, bool divides, float *ret, struct err *e)
{
	float g = 0;
	int r = read_scalar(x, &g, e);

	if (r < 0)
		return r;
	*ret = divides ? 1.0f / g : g;
	if (isfinite(g) && isfinite(*ret) && *ret >= 0)
		return 0;
	return err_set(e, -EINVAL, "%s: tensor %s is %g, which cannot be a scale", st_path(x->file),
		       x->t->name, (double)g);
}

static int take_nvfp4(const struct tensor *codes, const struct parts *p, bool divides, uint32_t rows,
		      uint32_t cols, struct weight_ref *ret, struct err *e)
{
	const uint32_t packed[3] = { 1, rows, cols / 2 }, scales[3] = { 1, rows, cols / 16 };
	const uint32_t dims[3] = { 1, rows, cols };
	const struct tensor *scale = p->at[PART_SCALE];
	int r = expect_type(codes, "U8", e);

	if (r == 0 && cols % 16)
		r = err_set(e, -EINVAL, "%s: tensor %s: NVFP4, but %u columns are not whole blocks of 16",
			    st_path(codes->file), codes->t->name, cols);
	if (r == 0)
		r = expect_shape(codes, packed, e);
	if (r == 0)
		r = expect_type(scale, "F8_E4M3", e);
	if (r == 0)
		r = expect_shape(scale, scales, e);
	refer(codes, WF_NVFP4, dims, ret);
	ret->scale_format = WF_FP8;
	ret->span_rows = 1;
	ret->span_cols = 16;
	ret->scale = scale->t->data;
	ret->scale_file = st_path(scale->file);
	return r == 0 ? take_global(p->at[divides ? PART_GLOBAL : PART_SCALE_2], divides, &ret->global, e) :
			r;
}

/* ---- a module ------------------------------------------------------------------------- */

static uint64_t bytes_of(const struct parts *p)
{
	uint64_t n = 0;

	for (int i = 0; i < PART_N; i++)
		n += p->at[i] ? p->at[i]->t->bytes : 0;
	return n;
}

/* Exactly the parts of `mask` are there. */
static int only_parts(const struct tensor_set *s, const char *name, const struct parts *p,
		      unsigned mask, struct err *e)
{
	static const char *const suffix[PART_N] = { "weight", "weight_packed", "weight_scale",
						    "weight_scale_inv", "weight_scale_2",
						    "weight_global_scale" };

	for (unsigned i = 0; i < PART_N; i++) {
		if (p->at[i] && !(mask >> i & 1))
			return err_set(e, -EINVAL, "%s: tensor %s contradicts the module's other tensors",
				       st_path(p->at[i]->file), p->at[i]->t->name);
		if (!p->at[i] && (mask >> i & 1))
			return no_such(s, name, suffix[i], e);
	}
	return 0;
}

#define BIT(part) (1u << (part))

int module_matrix(const struct tensor_set *s, const char *name, uint32_t rows, uint32_t cols,
		  struct weight_ref *ret, uint64_t *ret_bytes, struct err *e)
{
	const uint32_t dims[3] = { 1, rows, cols };
	struct parts p;
	int r = collect(s, name, &p, e);

	if (r < 0)
		return r;
	*ret_bytes = bytes_of(&p);
	const struct tensor *w = p.at[PART_WEIGHT];
	if (p.at[PART_PACKED]) {
		r = only_parts(s, name, &p, BIT(PART_PACKED) | BIT(PART_SCALE) | BIT(PART_GLOBAL), e);
		return r ? r : take_nvfp4(p.at[PART_PACKED], &p, true, rows, cols, ret, e);
	}
	if (is_type(w, "U8")) {
		r = only_parts(s, name, &p, BIT(PART_WEIGHT) | BIT(PART_SCALE) | BIT(PART_SCALE_2), e);
		return r ? r : take_nvfp4(w, &p, false, rows, cols, ret, e);
	}
	if (is_type(w, "F8_E4M3")) {
		enum part scale = p.at[PART_SCALE_INV] ? PART_SCALE_INV : PART_SCALE;

		r = only_parts(s, name, &p, BIT(PART_WEIGHT) | BIT(scale), e);
		return r ? r : take_fp8(w, p.at[scale], dims, ret, e);
	}
	/* its type first: where that is wrong, the scales beside it are not what contradicts */
	enum weight_format f = WF_BF16;
	if (w && plain_type(w, &f, NULL) < 0)
		return err_set(e, -EINVAL, "%s: tensor %s: expected F32, BF16, F16, or F8_E4M3 or U8 with "
			       "scales, found %s", st_path(w->file), w->t->name, w->t->dtype);
	if (r == 0)
		r = only_parts(s, name, &p, BIT(PART_WEIGHT), e);
	if (r == 0)
		r = expect_shape(w, dims, e);
	if (r < 0)
		return r;
	refer(w, f, dims, ret);
	return 0;
}

int module_plain(const struct tensor_set *s, const char *canon, const uint32_t dims[3],
		 struct weight_ref *ret, uint64_t *ret_bytes, struct err *e)
{
	struct tensor *x = tensor_set_find(s, canon);
	enum weight_format f = WF_BF16;

	if (!x)
		return err_set(e, -EINVAL, "%s: tensor %s [%u, %u] is missing", s->dir, canon,
			       dims[0] * dims[1], dims[2]);
	x->used = true;
	*ret_bytes = x->t->bytes;
	int r = plain_type(x, &f, e);
	if (r == 0)
		r = expect_shape(x, dims, e);
	refer(x, f, dims, ret);
	return r;
}

/* ---- experts in one tensor -------------------------------------------------------------- */

int module_fused(const struct tensor_set *s, const char *canon, const uint32_t dims[3],
		 struct weight_ref *ret, uint64_t *ret_bytes, struct err *e)
{
	struct tensor *w = tensor_set_find(s, canon), *scale;
	char name[200];

	if (!is_type(w, "F8_E4M3"))
		return module_plain(s, canon, dims, ret, ret_bytes, e);
	snprintf(name, sizeof(name), "%s_scale_inv", canon);
	scale = tensor_set_find(s, name);
	if (!scale)
		return err_set(e, -EINVAL, "%s: tensor %s is missing", s->dir, name);
	w->used = scale->used = true;
	*ret_bytes = w->t->bytes + scale->t->bytes;
	return take_fp8(w, scale, dims, ret, e);
}

int module_part(const struct weight_ref *whole, uint64_t first, uint32_t n, struct weight_ref *ret)
{
	*ret = *whole;
	ret->rows = n;
	ret->data = (const char *)whole->data + weight_row_bytes(whole->format, whole->cols) * first;
	if (weight_is_plain(whole->format))
		return 0;
	if (first % whole->span_rows || n % whole->span_rows)
		return -EINVAL;
	ret->scale = (const char *)whole->scale + first / whole->span_rows *
		     weight_row_bytes(whole->scale_format, weight_scale_cols(whole));
	return 0;
}
