/* decode_experts_test.cu - the products with experts compute their experts' W x, and a row's slots are
 * its own.
 *
 * Claims: (1) every format and odd shape agrees with a sum in double to a few float32 epsilons of the
 * sum of magnitudes; (2) a row's expert slots and their sum have the same CRC alone as among any number
 * of other rows; (3) nothing is written outside of y and nothing behind the ends of x is used; (4) the
 * ring form has the narrow form's bits; (5) scales of rows need not be aligned, but for the ring form,
 * which refuses them.
 *
 * Exits 77 without a GPU.  --few: every kernel, but fewer shapes and trials, for the sanitizers.
 */
#include "bench/cuda/given_list.h"
#include "tests/gpu/matmul_cases.h"

struct experts {
	uint32_t n_experts, n_slots, n, k;
	bool per_slot;
	std::vector<struct matrix> m;
	std::vector<float> scale;	/* [n_experts][packed rows] */
	std::vector<uint8_t> packed;
	uint8_t *w;
	float *d_scale;
	uint32_t n_pool;
	halves pool;			/* [n_pool (* n_slots)][k] */
	halves residual;		/* [n_pool][n] */
	std::vector<uint32_t> ids;	/* [n_pool][n_slots] */
	std::vector<float> weight;	/* [n_pool][n_slots] */
	enum matmul_format format;
	char name[64];
};

static void experts_make(struct experts *e, enum matmul_format f)
{
	e->format = f;
	e->m.resize(e->n_experts);
	for (uint32_t i = 0; i < e->n_experts; i++) {
		matrix_make(&e->m[i], f, e->n, e->k);
		e->scale.insert(e->scale.end(), e->m[i].row_scale.begin(), e->m[i].row_scale.end());
		e->packed.insert(e->packed.end(), e->m[i].packed.begin(), e->m[i].packed.end());
	}
	e->w = to_device(e->packed);
	e->d_scale = scales_to_device(e->scale);
	e->pool.resize((size_t)e->n_pool * e->k * (e->per_slot ? e->n_slots : 1));
	for (auto &v : e->pool)
		v = some_bf16();
	e->residual.resize((size_t)e->n_pool * e->n);
	for (auto &v : e->residual)
		v = some_bf16();
	for (uint32_t r = 0; r < e->n_pool; r++) {
		std::vector<uint32_t> all(e->n_experts);

		for (uint32_t i = 0; i < e->n_experts; i++)
			all[i] = i;
		for (uint32_t s = 0; s < e->n_slots; s++) {
			/* Every third row likes the same experts: some get many columns. */
			std::swap(all[s],
				  all[s + below((r % 3 ? e->n_experts : e->n_slots + 1) - s)]);
			e->ids.push_back(all[s]);
			e->weight.push_back((1 + below(100)) / 100.0f);
		}
	}
	snprintf(e->name, sizeof(e->name), "%s %u x [%u, %u]%s", matmul_format_name(f),
		 e->n_experts, e->n, e->k, e->per_slot ? " per slot" : "");
}

/* Gives the slots' sums, and what the combination of each row becomes. */
static struct out experts_run(const struct experts *e, const std::vector<uint32_t> &pick,
			      halves *ret_combined)
{
	const uint32_t rows = (uint32_t)pick.size(), pairs = rows * e->n_slots, ldx = e->k + 8;
	std::vector<uint32_t> ids, x_rows;
	std::vector<float> weight;
	halves residual;
	struct decode_experts_args a = {};
	struct out o;
	void *mem;

	for (uint32_t r : pick)
		for (uint32_t s = 0; s < e->n_slots; s++) {
			ids.push_back(e->ids[r * e->n_slots + s]);
			weight.push_back(e->weight[r * e->n_slots + s]);
			if (e->per_slot || !s)
				x_rows.push_back(e->per_slot ? r * e->n_slots + s : r);
		}
	residual = gather(e->residual, pick, e->n, e->n);
	float *d_weight = to_device(weight);
	uint16_t *x = to_device(gather(e->pool, x_rows, e->k, ldx)),
		 *d_residual = to_device(residual);
	float *y;

	CUDA(cudaMalloc(&mem, expert_list_bytes(rows, e->n_slots, e->n_experts)));
	CUDA(cudaMemset(mem, 0xff, expert_list_bytes(rows, e->n_slots, e->n_experts)));
	struct expert_list list = expert_list_at(mem, rows, e->n_slots, e->n_experts);
	CUDA(given_list(ids, e->n_experts, &list));
	out_make(&o, pairs, e->n);
	a.w = e->w;
	a.row_scale = e->d_scale;
	a.x = x;
	a.y = (float *)o.device + GUARD;
	a.list = &list;
	a.n_rows = rows;
	a.n_slots = e->n_slots;
	a.n_experts = e->n_experts;
	a.n = e->n;
	a.k = e->k;
	a.ldx = ldx;
	a.ldy = o.ldy;
	a.x_per_slot = e->per_slot;
	a.format = e->format;
	claim(decode_experts(&a, NULL) == 0, "launches", e->name, rows, 0);
	out_read(&o);
	claim(out_kept(&o), "writes its slots and nothing else", e->name, rows, 0);

	/* The combination wants rows without gaps. */
	CUDA(cudaMalloc(&y, (size_t)pairs * e->n * 4));
	for (uint32_t i = 0; i < pairs; i++)
		CUDA(cudaMemcpy(y + (size_t)i * e->n, out_row(&o, i), e->n * 4,
				cudaMemcpyHostToDevice));
	struct experts_combine_args c = {y,    d_weight,   d_residual, d_residual,
					 rows, e->n_slots, e->n};
	claim(experts_combine(&c, NULL) == 0, "launches", e->name, rows, 0);
	ret_combined->resize((size_t)rows * e->n);
	CUDA(cudaMemcpy(ret_combined->data(), d_residual, ret_combined->size() * 2,
			cudaMemcpyDeviceToHost));
	for (void *p :
	     {(void *)d_weight, (void *)x, (void *)d_residual, (void *)y, mem})
		CUDA(cudaFree(p));
	return o;
}

static uint32_t slots_crc(const struct experts *e, const struct out *o, uint32_t row)
{
	uint32_t c = 0;

	for (uint32_t s = 0; s < e->n_slots; s++)
		c = c * 31 + crc(out_row(o, row * e->n_slots + s), e->n * 4);
	return c;
}

static void experts_check_values(const struct experts *e, const struct out *o,
				 const halves &combined, const std::vector<uint32_t> &pick)
{
	double worst = 0;
	bool sums = true;

	for (int i = 0; i < (few ? 20 : 200); i++) {
		uint32_t r = below((uint32_t)pick.size()), row = below(e->n);
		float total = 0, weight, value;

		for (uint32_t s = 0; s < e->n_slots; s++) {
			uint32_t at = pick[r] * e->n_slots + s;
			const uint16_t *x = &e->pool[(size_t)(e->per_slot ? at : pick[r]) * e->k];
			double sum, magnitude;

			ref_matmul_dot(&e->m[e->ids[at]].ref, row, x, &sum, &magnitude);
			sum *= e->m[e->ids[at]].scale(row);
			magnitude *= e->m[e->ids[at]].scale(row);
			memcpy(&value, &out_row(o, r * e->n_slots + s)[row], 4);
			weight = e->weight[at];
			total = s ? fmaf(weight, value, total) : weight * value;
			double off = fabs(value - sum) / (magnitude > 0 ? magnitude : 1);
			worst = off == off ? std::max(worst, off) : HUGE_VAL;
		}
		total += ref_bf16(e->residual[(size_t)pick[r] * e->n + row]);
		sums = sums && combined[(size_t)r * e->n + row] == bf16_bits(total);
	}
	claim(worst < 16 * FLT_EPSILON, "a slot is its expert's W x", e->name, o->rows, 0);
	claim(sums, "slots are added in order", e->name, o->rows, 0);
}

static void experts_test(enum matmul_format f, uint32_t n_experts, uint32_t n_slots, uint32_t n,
			 uint32_t k, bool per_slot)
{
	static const uint32_t counts[] = { 3, 17, 1, 2, 8, 24, 64, 100, 200 };	/* the first two for --few */
	struct experts e = {};
	std::vector<uint32_t> alone;
	std::vector<halves> alone_combined;
	uint32_t same = 0, asked = 0;

	e.n_experts = n_experts;
	e.n_slots = n_slots;
	e.n = n;
	e.k = k;
	e.per_slot = per_slot;
	e.n_pool = few ? 3 : 100;
	experts_make(&e, f);
	for (uint32_t r = 0; r < e.n_pool; r++) {
		halves combined;
		struct out o = experts_run(&e, { r }, &combined);

		alone.push_back(slots_crc(&e, &o, 0));
		alone_combined.push_back(combined);
	}
	for (int i = 0; i < (few ? 2 : 9); i++)
		for (int trial = 0; trial < (few ? 1 : 2); trial++) {
			const uint32_t count = counts[i];
			std::vector<uint32_t> pick = some_rows(e.n_pool, count);
			halves combined;
			uint32_t here = 0;

			struct out o = experts_run(&e, pick, &combined);
			for (uint32_t r = 0; r < count; r++)
				here += slots_crc(&e, &o, r) == alone[pick[r]] &&
					!memcmp(&combined[(size_t)r * n],
						alone_combined[pick[r]].data(), n * 2);
			claim(here == count, "a row's slots are its own", e.name, count, 0);
			same += here;
			asked += count;
			if (!trial)
				experts_check_values(&e, &o, combined, pick);
		}
	printf("%-22s %u of %u rows bit-equal to the row alone\n", e.name, same, asked);
	CUDA(cudaFree(e.w));
	CUDA(cudaFree(e.d_scale));
}

/* ---- experts in both forms ------------------------------------------------------------ */

/* y of every slot in one form. */
static std::vector<uint32_t> form_run(const struct decode_experts_args *args, enum matmul_form form,
				      const char *name)
{
	const size_t bytes = (size_t)args->n_rows * args->n_slots * args->ldy *
			     (args->out == MATMUL_OUT_F32 ? 4 : 2);
	struct decode_experts_args a = *args;
	std::vector<uint32_t> y(bytes / 4);

	a.form = form;
	CUDA(cudaMemset(a.y, 0xff, bytes));
	claim(decode_experts(&a, NULL) == 0, "launches", name, a.n_rows, form);
	CUDA(cudaDeviceSynchronize());
	CUDA(cudaMemcpy(y.data(), a.y, bytes, cudaMemcpyDeviceToHost));
	return y;
}

/* Experts with a list, x and y on the device. */
struct forms_case {
	struct experts e;
	uint16_t *x;
	void *y, *mem;
	struct expert_list list;

	forms_case(enum matmul_format f, uint32_t n_experts, uint32_t n_slots, uint32_t n, uint32_t k,
		   bool per_slot, uint32_t most_rows)
		: e()
	{
		e.n_experts = n_experts;
		e.n_slots = n_slots;
		e.n = n;
		e.k = k;
		e.per_slot = per_slot;
		e.n_pool = most_rows;
		experts_make(&e, f);
		x = to_device(e.pool);
		CUDA(cudaMalloc(&y, (size_t)most_rows * n_slots * n * 4));
		CUDA(cudaMalloc(&mem, expert_list_bytes(most_rows, n_slots, n_experts)));
		/* All of a list may be read, also what it does not fill. */
		CUDA(cudaMemset(mem, 0xff, expert_list_bytes(most_rows, n_slots, n_experts)));
	}
	~forms_case()
	{
		for (void *p : { (void *)e.w, (void *)e.d_scale, (void *)x, y, mem })
			CUDA(cudaFree(p));
	}
	/* Of the first `rows` rows, in AUTO. */
	struct decode_experts_args args(uint32_t rows, enum matmul_out out)
	{
		const std::vector<uint32_t> ids(e.ids.begin(), e.ids.begin() + rows * e.n_slots);
		struct decode_experts_args a = {};

		list = expert_list_at(mem, rows, e.n_slots, e.n_experts);
		CUDA(given_list(ids, e.n_experts, &list));
		a.w = e.w;
		a.row_scale = e.d_scale;
		a.x = x;
		a.y = y;
		a.list = &list;
		a.n_rows = rows;
		a.n_slots = e.n_slots;
		a.n_experts = e.n_experts;
		a.n = e.n;
		a.k = a.ldx = e.k;
		a.ldy = out == MATMUL_OUT_SWIGLU ? e.n / 2 : e.n;
		a.x_per_slot = e.per_slot;
		a.format = e.format;
		a.out = out;
		return a;
	}
};

/* The ring form writes what the narrow form writes: all outputs, 1 to 8 slices, with and without
 * chunks of columns, more experts than blocks walk at once and fewer. */
static void experts_forms_test(enum matmul_format f, uint32_t n_experts, uint32_t n_slots,
			       uint32_t n, uint32_t k, bool per_slot)
{
	static const uint32_t counts[] = { 1, 40, 2, 9, 100, 256 };	/* the first two for --few */
	const uint32_t most = few ? 40 : 256;
	struct forms_case c(f, n_experts, n_slots, n, k, per_slot, most);
	uint32_t same = 0, asked = 0;

	for (int i = 0; i < (few ? 2 : 6); i++)
		for (enum matmul_out out : { MATMUL_OUT_F32, MATMUL_OUT_SWIGLU })
			for (int settled = 0; settled < (few ? 1 : 2); settled++) {
				const uint32_t rows = counts[i];
				struct decode_experts_args a = c.args(rows, out);

				a.list_settled = settled;
				const bool here = form_run(&a, MATMUL_RING, c.e.name) ==
						  form_run(&a, MATMUL_NARROW, c.e.name);
				claim(here, "the ring form's bits are the narrow form's", c.e.name,
				      rows, out);
				same += here;
				asked++;
			}
	printf("%-22s %u of %u products the same in both forms\n", c.e.name, same, asked);
}

/* Scales of rows four bytes off. */
static void scales_test(enum matmul_format f)
{
	struct forms_case c(f, 6, 4, 128, 512, false, 40);
	struct decode_experts_args a = c.args(40, MATMUL_OUT_F32);

	if (f == MATMUL_BF16)
		return;
	const std::vector<uint32_t> want = form_run(&a, MATMUL_NARROW, c.e.name);
	std::vector<float> moved = c.e.scale;

	moved.insert(moved.begin(), 1.0f);
	float *scale = to_device(moved);
	a.row_scale = scale + 1;
	claim(form_run(&a, MATMUL_AUTO, c.e.name) == want, "scales off alignment have the bits", c.e.name, 40, 0);
	a.form = MATMUL_RING;
	claim(decode_experts(&a, NULL) == -EINVAL, "the ring form refuses scales off alignment", c.e.name, 40, 0);
	CUDA(cudaFree(scale));
}

/* One to eight slices but four. */
static void all_forms(enum matmul_format f)
{
	for (uint32_t k : { 256u, 1280u, 512u, 768u, 1296u, 1792u, 2048u }) {	/* the first two for --few */
		const bool odd = k == 768 || k == 1280 || k == 1792;

		if (few && k != 256 && k != 1280)
			break;
		experts_forms_test(f, 6, 4, 128, k, false);
		experts_forms_test(f, few || odd ? 24 : 200, 8, 128, k, true);
	}
}

int main(int argc, char **argv)
{
	if (!begin_cases(argc, argv))
		return 77;
	for (enum matmul_format f : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 }) {
		experts_test(f, 12, 4, 40, 528, false);
		experts_test(f, 24, 8, 70, 512, true);
		if (f != MATMUL_BF16)
			all_forms(f);
		scales_test(f);
		if (few)
			continue;
		for (uint32_t k : { 768u, 1280u, 1792u })
			experts_test(f, 12, 4, 48, k, false);
		experts_test(f, 64, 9, 128, 2048, false);
		experts_test(f, 32, 8, 128, 512, true);
	}
	printf("%d claims, %d failed\n", n_claims, n_failed);
	return n_failed ? 1 : 0;
}
