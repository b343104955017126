/* loader_test.cu - the CUDA loader puts every weight of a checkpoint where a kernel looks for it, on a device that is this
 * process (fake_cudart.c): no GPU is needed.
 *
 * What is read back is decoded from the packed layouts by pack.h's description, not by the code that packs. */
#include <errno.h>

#include <string>

#include "kernels/cuda/weights.h"
#include "kernels/quantize.h"
#include "kernels/weight_stream.h"
#include "tests/gpu/reference_model.h"

/* ---- a weight from its packed place ----------------------------------------------------- */

struct spot {
	size_t unit;
	uint32_t step, lane, pair, odd, group;	/* pair 0..3, odd element of it; group: of 32 columns in the unit */
	uint32_t g, q, low;
};

static struct spot spot_of(uint32_t row, uint32_t col, uint32_t slices)
{
	const uint32_t in = col % 256, e = in % 8;
	struct spot s;

	s.unit = (size_t)(row / 16) * slices + col / 256;
	s.group = in / 32;
	s.q = in % 32 / 8;
	s.g = row % 8;
	s.low = row % 16 / 8;		/* rows g + 8 */
	s.lane = 4 * s.g + s.q;
	s.step = 2 * s.group + e / 4;
	s.pair = e % 4 / 2 * 2 + s.low;
	s.odd = e % 2;
	return s;
}

static double bf16_at(const unsigned char *unit, const struct spot &s)
{
	uint16_t h;

	memcpy(&h, unit + (s.step * 32 + s.lane) * 16 + s.pair * 4 + s.odd * 2, 2);
	return (double)dequant_bf16(h);
}

static double fp8_at(const unsigned char *unit, const struct spot &s)
{
	uint32_t w, h;
	float scale;

	memcpy(&w, unit + (s.step / 2 * 32 + s.lane) * 16 + s.step % 2 * 8 + s.pair / 2 * 4, 4);
	memcpy(&scale, unit + 4096 + s.low * 8 + s.step / 8 * 4, 4);
	w = s.pair % 2 ? w >> 4 ^ w << 4 : w;
	h = s.odd ? w >> 16 : w & 0xffff;
	return (double)dequant_e4m3((uint8_t)((h >> 15) << 7 | (h >> 4 & 0x7f))) * (double)scale;
}

static uint32_t turned(uint32_t w, uint32_t by)
{
	return w >> by | w << (32 - by);
}

static double nvfp4_at(const unsigned char *unit, const struct spot &s)
{
	const unsigned char code = unit[2048 + s.g * 32 + s.q / 2 * 16 + s.group / 2 * 4 + s.low * 2 + s.group % 2];
	uint32_t w, v, h;

	memcpy(&w, unit + (s.step / 4 * 32 + s.lane) * 16 + s.step % 4 * 4, 4);
	v = s.pair == 0 ? w & 0x81c081c0 : s.pair == 1 ? turned(w, 6) & 0x81c081c0 : s.pair == 2 ? w << 6 & 0x81c081c0
		: (w >> 4 ^ w << 4) & 0x81c081c0;
	h = s.odd ? v >> 16 : v & 0xffff;
	return (double)dequant_e2m1((uint8_t)((h >> 15) << 3 | (h >> 6 & 7))) * ldexp(1 + (code & 7) / 8.0, (code >> 3) - 9);
}

static double packed_at(const struct matrix &m, uint32_t expert, uint32_t row, uint32_t col, uint32_t cols)
{
	const uint32_t slices = (cols + 255) / 256, tiles = (m.n + 15) / 16;
	const struct spot s = spot_of(row, col, slices);
	const unsigned char *unit = (const unsigned char *)m.w + expert * matmul_packed_bytes(m.format, m.n, cols) +
				    s.unit * matmul_unit_bytes(m.format);
	const double scale = m.row_scale ? (double)m.row_scale[expert * tiles * 16 + row] : 1;

	return scale * (m.format == MATMUL_FP8 ? fp8_at(unit, s) : m.format == MATMUL_NVFP4 ? nvfp4_at(unit, s) : bf16_at(unit, s));
}

/* ---- whole matrices ------------------------------------------------------------------------ */

static uint32_t n_wrong, n_seen;

/* Tensors stand one below the other from packed row `first` on; rounded: became BF16. */
static void same(const struct matrix &m, uint32_t expert, uint32_t first, bool turns, std::vector<const tensor *> t, bool rounded)
{
	const uint32_t cols = t[0]->cols;
	uint32_t stacked = 0, rows = 0;

	for (const tensor *x : t)
		rows += x->rows;
	for (const tensor *x : t)
		for (uint32_t r = 0; r < x->rows; r++, stacked++)
			for (uint32_t c = 0; c < cols; c++) {
				const uint32_t half = rows / 2, i = stacked % half;
				const uint32_t row = turns ? i / 8 * 16 + i % 8 + stacked / half * 8 : stacked;
				const double want = x->at((size_t)r * cols + c), got = packed_at(m, expert, first + row, c, cols);

				n_seen++;
				n_wrong += !(fabs(got - want) <= fabs(want) * (rounded ? 1.0 / 256 : 1e-6));
			}
}

static void same_stack(const struct model &m, const struct stack &s, uint32_t l, std::vector<int> slots, bool rounded)
{
	uint32_t part = 0, first = 0;

	for (int slot : slots) {
		const tensor &t = m.get(slot, l);

		if (part < s.n_parts && first == s.part[part].n)
			part++, first = 0;
		if (part == s.n_parts) {
			n_wrong++;
			return;
		}
		same(s.part[part], 0, first, false, { &t }, rounded);
		first += t.rows;
	}
	n_wrong += part + 1 != s.n_parts || first != s.part[part].n;
}

static void same_layer(const struct model &m, const struct weights &w, uint32_t l, bool rounded)
{
	const struct layer_weights &x = w.layer[l];

	if (m.shape.mixer[l] == MIXER_GDN) {
		same_stack(m, x.mixer_in, l, { W_GDN_QKV, W_GDN_Z, W_GDN_B, W_GDN_A }, rounded);
		same(x.mixer_out, 0, 0, false, { &m.get(W_GDN_OUT, l) }, rounded);
	} else {
		same_stack(m, x.mixer_in, l, { W_Q, W_K, W_V }, rounded);
		same(x.mixer_out, 0, 0, false, { &m.get(W_O, l) }, rounded);
	}
	same(x.router, 0, 0, false, { &m.get(W_ROUTER, l), &m.get(W_SHARED_SCORE, l) }, rounded);
	same(x.shared_in, 0, 0, true, { &m.get(W_SHARED_GATE, l), &m.get(W_SHARED_UP, l) }, rounded);
	same(x.down, 0, 0, false, { &m.get(W_SHARED_DOWN, l) }, rounded);
	for (uint32_t e = 0; e < m.shape.n_experts; e++) {
		same(x.expert_gate_up, e, 0, true, { &m.get(W_EXPERT_GATE, l, e), &m.get(W_EXPERT_UP, l, e) }, rounded);
		same(x.expert_down, e, 0, false, { &m.get(W_EXPERT_DOWN, l, e) }, rounded);
	}
	for (uint32_t i = 0; i < m.shape.hidden; i++) {
		uint16_t h;

		memcpy(&h, (uint16_t *)x.input_norm + i, 2);
		n_wrong += (double)dequant_bf16(h) != m.get(W_INPUT_NORM, l).at(i);
	}
}

static uint64_t told;

static int progress(void *, uint64_t done, uint64_t)
{
	told = done;
	return 0;
}

static bool load(const struct model_shape &shape, const struct weight_source &s, struct weights *w,
		 struct err *e, enum quantize what = QUANTIZE_NONE)
{
	struct quantized *q;
	bool ok = quantized_new(&shape, &s, what, &q) == 0;

	ok = ok && weights_load(&shape, quantized_source(q), progress, NULL, w, e) == 0 &&
	     w->bytes == weights_bytes(&shape, quantized_source(q));
	quantized_free(q);
	return ok;
}

static void whole(const char *name, struct model *m, const struct weight_source &s,
		  uint32_t expanded, bool rounded, enum quantize what = QUANTIZE_NONE)
{
	struct weights w = {};
	struct err e = {};

	printf("%s\n", name);
	n_wrong = n_seen = 0;
	if (!load(m->shape, s, &w, &e, what)) {
		fprintf(stderr, "%s\n", e.text);
		claim("loads", false);
		return;
	}
	for (uint32_t l = 0; l < m->shape.n_layers; l++)
		same_layer(*m, w, l, rounded);
	same(w.head, 0, 0, false, { &m->get(W_HEAD) }, rounded);
	for (size_t i = 0; i < (size_t)m->shape.vocab_rows * m->shape.hidden; i++)
		n_wrong += (double)dequant_bf16(((uint16_t *)w.embed)[i]) != m->get(W_EMBED).at(i);
	printf("%u weights looked at, %u wrong\n", n_seen, n_wrong);
	claim("every weight stands where it is looked for", n_seen > 1000000 && !n_wrong);
	claim("what became BF16 is counted, and progress told", w.expanded == expanded && told);
	weights_free(&w);
}

/* The head is cut into pieces, an FP8 stack too: more rows than one piece has. */
static void tall(struct model *m)
{
	m->shape.vocab_rows = 25000;
	m->put(W_EMBED, 0, 0, m->shape.vocab_rows, m->shape.hidden, 1);
	m->put(W_HEAD, 0, 0, m->shape.vocab_rows, m->shape.hidden, 0.1f);
	quantise_fp8(&m->weights.at(std::make_tuple((int)W_HEAD, 0u, 0u)), 128, 128);
}

/* What a tensor becomes by the rule of kernels/e4m3.h: codes by the nearest value, ties to even, a
 * float32 scale a row. */
static void convert(tensor *t)
{
	tensor q = *t;

	q.wide = true;
	q.full.resize((size_t)t->rows * t->cols);
	for (uint32_t r = 0; r < t->rows; r++) {
		const float s = std::max((float)largest(*t, r, 1, 0, t->cols) / 448, 0x1p-126f);

		for (uint32_t c = 0; c < t->cols; c++) {
			const size_t at = (size_t)r * t->cols + c;
			const double x = t->at(at) / (double)s;
			uint8_t code = nearest(x, 8);
			const double next = (double)dequant_e4m3((uint8_t)((code & 0x7f) + 1));

			if (code % 2 &&
			    fabs(x) - fabs((double)dequant_e4m3(code)) == next - fabs(x))
				code++;
			q.full[at] = dequant_e4m3(code) * s;
		}
	}
	*t = q;
}

/* Converted while it is loaded: the same weights as those of a checkpoint that has what the rule
 * says.  `head` alone, of several pieces, and all of it. */
static void converted(void)
{
	static const int dense[] = {
		W_GDN_QKV, W_GDN_Z, W_GDN_OUT,	   W_Q,		W_K,
		W_V,	   W_O,	    W_SHARED_GATE, W_SHARED_UP, W_SHARED_DOWN
	};

	for (int what : { QUANTIZE_HEAD, QUANTIZE_HEAD_DENSE }) {
		struct model m, want;
		struct weights small = {};
		struct err e = {};

		model_fill(&m, 1);
		if (what == QUANTIZE_HEAD) {
			m.shape.vocab_rows = 25000;
			m.put(W_EMBED, 0, 0, m.shape.vocab_rows, m.shape.hidden, 1);
			m.put(W_HEAD, 0, 0, m.shape.vocab_rows, m.shape.hidden, 0.1f);
		}
		want = m;
		for (auto &w : want.weights) {
			const int slot = std::get<0>(w.first);

			if ((slot == W_HEAD && (what & QUANTIZE_HEAD)) ||
			    (std::find(std::begin(dense), std::end(dense), slot) !=
				     std::end(dense) &&
			     (what & QUANTIZE_DENSE)))
				convert(&w.second);
		}
		const struct weight_source s = m.source();
		whole(quantize_name((enum quantize)what), &want, s, 0, false, (enum quantize)what);
		const enum matmul_format dense_is =
			what & QUANTIZE_DENSE ? MATMUL_FP8 : MATMUL_BF16;

		claim("in the formats asked for, and smaller",
		      load(m.shape, s, &small, &e, (enum quantize)what) &&
			      small.bytes < weights_bytes(&m.shape, &s) &&
			      small.head.format == MATMUL_FP8 &&
			      small.layer[3].mixer_out.format == dense_is &&
			      small.layer[0].shared_in.format == dense_is &&
			      small.layer[0].router.format == MATMUL_BF16 &&
			      small.layer[0].expert_down.format == MATMUL_BF16);
		weights_free(&small);
	}
}

/* Weights that come by the stream alone (kernels/dummy.h): the model gets the numbers that the
 * bytes mean. */
static void made_up(enum dummy_recipe recipe)
{
	struct model m;

	model_fill(&m, 1);
	struct dummy d = { m.shape, recipe, 3 };
	const struct weight_source s = dummy_source(&d);
	for (auto &w : m.weights) {
		tensor &t = w.second;
		weight_piece p = { (enum weight_slot)std::get<0>(w.first), std::get<1>(w.first),
				   std::get<2>(w.first), 0, 0 };
		weight_ref r = {};

		if (s.find(s.ctx, p.slot, p.layer, p.expert, &r))
			continue;
		p.rows = r.rows;
		std::vector<char> data(weight_data_bytes(&r)), scale(weight_scale_bytes(&r));
		dummy_fill(&d, &r, &p, data.data(), scale.data());
		r.data = data.data();
		r.scale = scale.data();
		t.wide = true;
		t.full.resize((size_t)r.rows * r.cols);
		for (uint32_t i = 0; i < r.rows; i++)
			dequant_row(&r, i, t.full.data() + (size_t)i * r.cols);
	}
	whole(("made up as " + std::string(dummy_recipe_name(recipe))).c_str(), &m, s, 0, false);
}

static void refused(void)
{
	struct weights w = {};
	struct err e = {};
	struct model m;

	model_fill(&m, 1);
	model_quantise(&m, DUMMY_NVFP4_FP8);
	tensor &t = m.weights.at(std::make_tuple((int)W_EXPERT_UP, 2u, 3u));
	t.scale[5] = 0x7f;
	claim("a NaN scale is refused by name",
	      !load(m.shape, m.source(), &w, &e) && strstr(e.text, weight_slot_name(W_EXPERT_UP)) &&
		      strstr(e.text, "NaN"));
	t.scale[5] = 0;
	m.weights.at(std::make_tuple((int)W_O, 3u, 0u)).packed.rows = 100;
	e = {};
	claim("another shape is refused by name",
	      !load(m.shape, m.source(), &w, &e) && strstr(e.text, weight_slot_name(W_O)));
	m.weights.erase(std::make_tuple((int)W_Q_NORM, 3u, 0u));
	m.weights.at(std::make_tuple((int)W_O, 3u, 0u)).packed.rows = m.shape.hidden;
	e = {};
	claim("a missing weight is refused by name",
	      !load(m.shape, m.source(), &w, &e) && strstr(e.text, weight_slot_name(W_Q_NORM)));

	struct model bf16;
	model_fill(&bf16, 1);
	bf16.weights.at(std::make_tuple((int)W_Q, 3u, 0u)).half[5] = 0x7fc0;
	e = {};
	claim("a NaN that should become FP8 is refused by name and place",
	      !load(bf16.shape, bf16.source(), &w, &e, QUANTIZE_DENSE) &&
		      strstr(e.text, weight_slot_name(W_Q)) && strstr(e.text, "[0, 5]"));
}

int main(void)
{
	static const char *const names[DUMMY_N] = { "BF16", "FP8 in blocks", "NVFP4", "NVFP4, FP8 by channel and tensor" };

	for (int r = 0; r < DUMMY_N; r++) {
		struct model m;

		model_fill(&m, 1);
		model_quantise(&m, (enum dummy_recipe)r);
		if (r == DUMMY_FP8)
			tall(&m);
		whole(names[r], &m, m.source(), 0, false);
		made_up((enum dummy_recipe)r);
	}
	struct model m;
	model_fill(&m, 1);
	quantise_nvfp4(&m.weights.at(std::make_tuple((int)W_EXPERT_DOWN, 1u, 3u)));
	quantise_fp8(&m.weights.at(std::make_tuple((int)W_SHARED_UP, 2u, 0u)), 128, 128);
	quantise_fp8(&m.weights.at(std::make_tuple((int)W_GDN_Z, 0u, 0u)), 64, 128);
	whole("several formats where there can be one", &m, m.source(), 3, true);
	converted();
	refused();
	return n_failed != 0;
}
