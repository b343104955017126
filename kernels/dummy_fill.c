/* dummy_fill.c - the numbers of made-up weights: see dummy.h.  tests/golden/dummy_weights.py makes
 * the same bytes.
 *
 * The random word i of a matrix is word i % 4 of noise_philox(key: seed; counter: i / 4 low,
 * i / 4 high, stream, kind), stream = slot + (layer << 6) + (expert << 15), kind 1 for data and 2
 * for scales.  A matrix takes its words in row-major order, low bits first:
 *
 *	BF16		16 bits h an element: u = (2 h + 1) / 2^16 - 1, in (-1, 1);
 *			the weight is bf16(base + spread * u)
 *	FP8		8 bits an element, the byte itself; a NaN (0x7f, 0xff) has its last bit
 *			turned: +-448
 *	NVFP4		the bytes themselves, two elements each
 *	scales of FP8	16 bits h each: bf16(s * (1 + h / 2^16)), s so that weights have the
 *			deviation below
 *	scales of NVFP4	8 bits b each: the e4m3 0x38 | (b & 7), which is 1 + (b & 7) / 8;
 *			`global` does the rest
 *
 * Matrices have a mean square of gain^2 / cols, so that activations keep their size.  The head's
 * gain makes logits of a deviation of 4: one id in two hundred thousand then has a chance that can
 * be told from another's, as after training.  The norms of query and key make scores that are no
 * plain mean over all keys; the router's gain makes the last of the chosen experts matter less
 * than the first.
 *
 * What mixers and experts add to the residual is small beside the embedding, for two reasons.  Gated
 * DeltaNet sums values that SiLU made mostly positive, so its outputs have a large part that is the
 * same for all tokens and draws their routes together: 64 rows took 0.94 of the experts that
 * independent rows would take, where no output had a gain.  And a random model whose layers count as
 * much as the embedding is chaos: after 40 of them float32 and bfloat16 have nothing to do with one
 * another (Hugging Face's own: KL 2.6 nats), since every expert that a rounding exchanges exchanges
 * others further down.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/dequant.h"
#include "kernels/cpu/path.h"
#include "kernels/dummy.h"
#include "kernels/noise.h"
#include "kernels/weight_stream.h"

#define HEAD_GAIN 4.0
#define ROUTER_GAIN 2.0
#define GDN_OUT_GAIN 0.1875
#define OUT_GAIN 0.25

enum kind { KIND_DATA = 1, KIND_SCALE = 2 };

/* Where words come from. */
struct spring {
	uint64_t seed;
	uint32_t stream;
	enum kind kind;
};

/* Words 4 i .. 4 i + 3. */
static struct noise_words words(const struct spring *s, uint64_t i)
{
	return noise_philox(s->seed, (uint32_t)i, (uint32_t)(i >> 32), s->stream, s->kind);
}

double dummy_gain(enum weight_slot slot)
{
	switch (slot) {
	case W_HEAD:
		return HEAD_GAIN;
	case W_ROUTER:
		return ROUTER_GAIN;
	case W_GDN_OUT:
		return GDN_OUT_GAIN;
	case W_O: case W_EXPERT_DOWN: case W_SHARED_DOWN: case W_MLP_DOWN:
		return OUT_GAIN;
	default:
		return 1;
	}
}

struct range {
	float base, spread;
};

/* A uniform number in (-1, 1) has a mean square of 1/3. */
static struct range range_of(enum weight_slot slot, uint32_t cols)
{
	switch (slot) {
	case W_EMBED:
		return (struct range){ 0, 1 };
	case W_FINAL_NORM: case W_INPUT_NORM:
	case W_MTP_EMBED_NORM: case W_MTP_HIDDEN_NORM: case W_MTP_NORM:
	case W_POST_NORM:
		return (struct range){ 0, 0.25f };
	case W_Q_NORM: case W_K_NORM:
		return (struct range){ 0.5f, 0.5f };
	case W_GDN_NORM:
		return (struct range){ 1, 0.25f };
	case W_GDN_A_LOG:
		return (struct range){ 0.5f, 1 };
	case W_GDN_DT_BIAS:
		return (struct range){ -3, 1 };
	default:
		return (struct range){ 0, (float)(dummy_gain(slot) * sqrt(3.0 / cols)) };
	}
}

/* ---- plain weights: 16 bits each, eight in four words ------------------------------------ */

/* All eight of a group: the size of a model is made here, so no branch. */
static void plain_group(const struct noise_words *w, struct range r, uint16_t ret[8])
{
	for (uint32_t i = 0; i < 8; i++) {
		const int32_t h = (int32_t)(w->w[i / 2] >> 16 * (i % 2) & 0xffff);
		const float u = (float)(2 * h + 1) * (1.0f / 65536.0f) - 1.0f;
		const union {
			float f;
			uint32_t u;
		} x = { .f = r.base + r.spread * u };

		ret[i] = (uint16_t)((x.u + 0x7fff + (x.u >> 16 & 1)) >> 16);
	}
}

static void fill_plain(const struct spring *s, struct range r, uint64_t begin, uint64_t end,
		       uint16_t *ret)
{
	uint16_t group[8];

	for (uint64_t i = begin, n; i < end; i += n, ret += n) {
		const struct noise_words w = words(s, i / 8);

		n = 8 - i % 8 < end - i ? 8 - i % 8 : end - i;
		if (n == 8) {
			plain_group(&w, r, ret);
			continue;
		}
		plain_group(&w, r, group);
		memcpy(ret, group + i % 8, n * sizeof(*ret));
	}
}

/* ---- bytes: sixteen in four words -------------------------------------------------------- */

static uint8_t no_nan(uint8_t byte)
{
	return (byte & 0x7f) == 0x7f ? byte ^ 1 : byte;
}

static uint8_t scale_of_nvfp4(uint8_t byte)
{
	return 0x38 | (byte & 7);
}

static uint8_t as_it_is(uint8_t byte)
{
	return byte;
}

static void fill_bytes(const struct spring *s, uint8_t (*made)(uint8_t), uint64_t begin,
		       uint64_t end, uint8_t *ret)
{
	for (uint64_t i = begin; i < end;) {
		const struct noise_words w = words(s, i / 16);
		const uint64_t stop = i / 16 * 16 + 16 < end ? i / 16 * 16 + 16 : end;

		for (; i < stop; i++)
			*ret++ = made((uint8_t)(w.w[i % 16 / 4] >> 8 * (i % 4)));
	}
}

/* ---- FP8's scales ------------------------------------------------------------------------ */

/* Mean square of e4m3 made of random bytes, times that of 1 + u. */
static double mean_square_fp8(void)
{
	double sum = 0;

	for (int i = 0; i < 128; i++) {
		const double v = (double)dequant_e4m3(no_nan((uint8_t)i));

		sum += v * v;
	}
	return sum / 128 * 7 / 3;
}

static void fill_fp8_scales(const struct spring *s, float least, uint64_t begin, uint64_t end,
			    uint16_t *ret)
{
	for (uint64_t i = begin; i < end; i++) {
		const struct noise_words w = words(s, i / 8);
		const uint32_t h = w.w[i % 8 / 2] >> 16 * (i % 2) & 0xffff;

		*ret++ = bf16_bits(least * ((float)(65536 + h) * (1.0f / 65536.0f)));
	}
}

static void fill_scales(const struct spring *s, const struct weight_ref *w,
			const struct weight_piece *p, void *ret)
{
	const uint64_t cols = weight_scale_cols(w), begin = p->first / w->span_rows * cols;
	const uint64_t end = begin + ((uint64_t)p->rows + w->span_rows - 1) / w->span_rows * cols;

	if (w->format == WF_NVFP4)
		fill_bytes(s, scale_of_nvfp4, begin, end, ret);
	else
		fill_fp8_scales(s, (float)(dummy_gain(p->slot) / sqrt(w->cols * mean_square_fp8())),
				begin, end, ret);
}

void dummy_fill(const struct dummy *d, const struct weight_ref *w, const struct weight_piece *p,
		void *data, void *scale)
{
	_Static_assert(W_N_SLOTS <= 64 && MODEL_MAX_LAYERS <= 512,
		       "six and nine bits of a stream's number");
	struct spring s = { d->seed, (uint32_t)p->slot | p->layer << 6 | p->expert << 15,
			    KIND_DATA };
	const uint64_t row =
		weight_is_plain(w->format) ? w->cols : weight_row_bytes(w->format, w->cols);
	const uint64_t begin = p->first * row, end = begin + p->rows * row;

	if (w->format == WF_BF16)
		fill_plain(&s, range_of(p->slot, w->cols), begin, end, data);
	else
		fill_bytes(&s, w->format == WF_FP8 ? no_nan : as_it_is, begin, end, data);
	s.kind = KIND_SCALE;
	if (!weight_is_plain(w->format))
		fill_scales(&s, w, p, scale);
}
