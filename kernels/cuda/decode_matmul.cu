/* decode_matmul.cu - the choice of a form, and the narrow form's launches. */
#include "kernels/cuda/decode_narrow.cuh"

/* ---- narrow ---------------------------------------------------------------- */

/* Warps along K: a power of two that leaves no warp without a slice.  Twice as many, in two blocks,
 * where a block a tile would leave places empty. */
static void narrow_split(struct matmul_params *p, bool clusters)
{
	p->k_warps = NARROW_WARPS;
	while (p->k_warps / 2 >= p->n_slices)
		p->k_warps /= 2;
	p->m_warps = NARROW_WARPS / p->k_warps;
	p->k_blocks = clusters && p->n_slices >= 2 * NARROW_WARPS &&
				      p->n_tiles <= (uint32_t)device_sms() ?
			      2 :
			      1;
	p->k_warps *= p->k_blocks;
	p->groups = (p->n_tiles + p->m_warps - 1) / p->m_warps;
	p->groups_inverse = (uint32_t)(((1ull << 32) + p->groups - 1) / p->groups);
}

static size_t narrow_shared(const struct matmul_params *p, int nt)
{
	return 2 * sizeof(float) * p->n_slices * p->m_warps * 8 * nt * NARROW_COL;
}

/* Lets `kernel` be launched with `shared` bytes beside the `fixed` ones that it declares.  What is
 * more than 48 KB has to be asked for. */
template <typename Kernel> static int allow_shared(Kernel kernel, size_t shared, size_t fixed)
{
	if (shared + fixed > SHARED_MAX)
		return -EINVAL;
	if (shared + fixed <= 48 * 1024)
		return 0;
	return cuda_code(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
					      (int)shared));
}

template <enum matmul_format F, int NT, bool EXPERTS, int DEPTH, int BLOCKS, bool SPLIT = false>
static int narrow_launch(struct matmul_params p, uint32_t most_items, cudaStream_t stream)
{
	auto kernel = narrow_kernel<F, NT, EXPERTS, DEPTH, BLOCKS, SPLIT>;
	const size_t shared = narrow_shared(&p, NT);
	/* GB10 and RTX PRO have 100 KB of shared memory in all: what does not fit twice
	 * queues, which is only slower. */
	const uint32_t blocks =
		min(most_items, (uint32_t)(device_sms() * BLOCKS) / p.k_blocks) * p.k_blocks;
	const int rc = allow_shared(kernel, shared, 0);

	if (rc)
		return rc;
	if (!blocks)
		return -ENODEV;
	return chain_launch(kernel, dim3(blocks), NARROW_WARPS * WARP, shared, p.k_blocks, stream,
			    p);
}

/* Units in flight a warp and blocks an SM: what the registers of units and x allow without
 * spilling; H200 wants about 50 KB in flight an SM, GB10 is content with 5. */
template <enum matmul_format F, bool EXPERTS>
static int narrow_by_cols(const struct matmul_params *p, uint32_t cols, uint32_t items,
			  cudaStream_t stream)
{
	constexpr bool fp4 = F == MATMUL_NVFP4;

	if constexpr (!EXPERTS)
		if (cols > 16 && narrow_shared(p, 3) <= SHARED_MAX)
			return narrow_launch<F, 3, EXPERTS, fp4 ? 3 : 1, 1>(*p, items, stream);
	if (cols > 8 && narrow_shared(p, 2) <= SHARED_MAX)
		return narrow_launch < F, 2, EXPERTS, F == MATMUL_FP8 ? 2 : 1,
		       fp4 ? 2 : 1 > (*p, items, stream);
	if constexpr (!EXPERTS)
		if (p->k_blocks > 1)
			return narrow_launch<F, 1, false, 1, 2, true>(*p, items, stream);
	return narrow_launch<F, 1, EXPERTS, 1, fp4 ? 3 : 2>(*p, items, stream);
}

/* Few tiles of many columns: some of them a block, when all blocks have a place.  And of up to 16 columns
 * what runs beside another kernel: two tiles of columns in a block take all registers of a multiprocessor,
 * which it gets late.  (Not in BF16: measured.) */
static bool narrow_columns_fit(const struct matmul_params *p, enum matmul_format f)
{
	const bool few = f == MATMUL_BF16 && p->n_tiles <= NARROW_FEW_TILES,
		   beside = f != MATMUL_BF16 && p->x_settled && p->n_cols <= 16;
	struct matmul_params split = *p;

	narrow_split(&split, false);
	return p->n_cols > 8 && (few || beside) &&
	       (p->n_cols + 7) / 8 * split.groups <= 2 * (uint32_t)device_sms();
}

/* `each` columns a block, a multiple of eight. */
template <enum matmul_format F>
static int narrow_columns_launch(const struct matmul_params *p, uint32_t each, cudaStream_t stream)
{
	auto kernel = narrow_columns_kernel<F>;
	const size_t shared = narrow_shared(p, 1);
	const int rc = allow_shared(kernel, shared, 0);

	if (rc)
		return rc;
	return chain_launch(kernel, dim3(p->groups, (p->n_cols + each - 1) / each), NARROW_WARPS * WARP,
			    shared, 1, stream, *p, each);
}

/* Experts chosen at the kernel's head. */
template <enum matmul_format F>
static int narrow_choice_launch(const struct matmul_params *p, const struct route_args *choice,
				uint32_t most_items, cudaStream_t stream)
{
	auto kernel = narrow_choice_kernel<F>;
	const size_t shared = narrow_shared(p, 1);
	const uint32_t blocks = min(most_items + choice_teller(p), (uint32_t)device_sms() * CHOICE_BLOCKS);
	const int rc = allow_shared(kernel, shared, sizeof(struct few_list));

	if (rc)
		return rc;
	if (!blocks)
		return -ENODEV;
	return chain_launch(kernel, dim3(blocks), NARROW_WARPS * WARP, shared, 1, stream, *p,
			    *choice);
}

template <enum matmul_format F> static int narrow_dense(const struct matmul_params *p, cudaStream_t stream)
{
	if (narrow_columns_fit(p, F))
		return narrow_columns_launch<F>(p, 8, stream);
	return narrow_by_cols<F, false>(p, p->n_cols, p->groups, stream);
}

int matmul_launch_narrow(const struct decode_matmul_args *a, cudaStream_t stream)
{
	struct matmul_params p = matmul_params_of(a);

	narrow_split(&p, a->n_rows <= 8);
	switch (a->format) {
	case MATMUL_BF16: return narrow_dense<MATMUL_BF16>(&p, stream);
	case MATMUL_FP8: return narrow_dense<MATMUL_FP8>(&p, stream);
	case MATMUL_NVFP4: return narrow_dense<MATMUL_NVFP4>(&p, stream);
	case MATMUL_N_FORMATS: break;
	}
	return -EINVAL;
}

/* Where the square form is faster.  Its blocks want a multiprocessor for themselves, which beside other kernels
 * has to become empty first: in BF16 the shared expert's gain less than the experts beside and behind them lose.
 * FP8's expanding is what takes the narrow form's time, the sooner the taller the matrix. */
static bool square_pays(const struct matmul_params *p, enum matmul_format f)
{
	const bool head = p->n_tiles > 4096, tall = p->n_tiles > 2 * (uint32_t)device_sms();
	const uint32_t units = p->n_tiles * p->n_slices;

	if (!matmul_square_fits(p, f) || units <= (tall ? 1024 : 128))
		return false;
	if (f == MATMUL_BF16)
		return units > 256 && p->n_cols > (tall || units <= 1024 ? 24 : 15);
	return p->n_cols > (head ? 8 : 16);
}

static enum matmul_form auto_form(const struct decode_matmul_args *a)
{
	const struct matmul_params p = matmul_params_of(a);

	if (narrow_columns_fit(&p, a->format))
		return MATMUL_NARROW;
	if (square_pays(&p, a->format))
		return MATMUL_SQUARE;
	/* Up to here weights from memory to registers, and no barrier, are faster. */
	return a->n_rows <= 24 ? MATMUL_NARROW : MATMUL_WIDE;
}

/* ---- two at once ------------------------------------------------------------------ */

static size_t packed_bytes(const struct matmul_params *p, enum matmul_format f)
{
	return (size_t)p->n_tiles * p->n_slices * matmul_unit_bytes(f);
}

/* p's items are at most p_items, its bytes p_bytes; blocks are shared out by bytes when there are
 * more items than places.  NT: tiles of columns of the kernel; more: what it takes besides. */
template <enum matmul_format F2, int NT = 1, typename Kernel, typename... More>
static int pair_launch(Kernel kernel, const struct matmul_params &p, uint32_t p_items,
		       size_t p_bytes, const struct matmul_params &q, cudaStream_t stream,
		       const More &...more)
{
	const size_t shared = max(narrow_shared(&p, NT), narrow_shared(&q, NT)),
		     fixed = sizeof...(more) ? sizeof(struct few_list) : 0,
		     q_bytes = packed_bytes(&q, F2);
	const uint32_t places = (uint32_t)device_sms() * 2 / NT,
		       teller = sizeof...(more) ? choice_teller(&p) : 0;
	const int rc = allow_shared(kernel, shared, fixed);
	uint32_t q_blocks = q.groups;

	if (rc)
		return rc;
	if (!places)
		return -ENODEV;
	p_items += teller;
	if (p_items + q_blocks > places)
		q_blocks = min(q_blocks, min(places - 1 - teller, (uint32_t)(places * q_bytes / (p_bytes + q_bytes)) + 1));
	p_items = min(p_items, places - q_blocks);
	return chain_launch(kernel, dim3(p_items + q_blocks), NARROW_WARPS * WARP, shared, 1,
			    stream, p, q, p_items, more...);
}

/* The second of two that do not need each other: its x is older than the first. */
static int multiply_behind(const struct decode_matmul_args *a, void *stream)
{
	struct decode_matmul_args settled = *a;

	settled.x_settled = 1;
	return decode_matmul(&settled, stream);
}

/* The same behind the square form, whose blocks leave four multiprocessors of an H200 and no room on the others: by
 * columns it is two blocks for each of them, or one a tile, since more would begin when the square form has ended. */
#define BLOCKS_BESIDE_SQUARE 8u
static int multiply_behind_square(const struct decode_matmul_args *a, void *stream)
{
	struct matmul_params p = matmul_params_of(a);

	if (a->format != MATMUL_BF16 || !narrow_columns_fit(&p, a->format))
		return multiply_behind(a, stream);
	p.x_settled = 1;
	narrow_split(&p, false);

	const uint32_t blocks = max(BLOCKS_BESIDE_SQUARE / p.n_tiles, 1u);	/* of a tile */

	return narrow_columns_launch<MATMUL_BF16>(&p, ((p.n_cols + blocks - 1) / blocks + 7) / 8 * 8, (cudaStream_t)stream);
}

static bool two_tiles_fit(const struct decode_matmul_args *a)
{
	struct matmul_params p = matmul_params_of(a);

	narrow_split(&p, false);
	return a->n_rows <= 16 && narrow_shared(&p, 2) <= SHARED_MAX;
}

/* Both in one launch, of at most 8 NT columns. */
template <enum matmul_format F, int NT>
static int pair_at_once(const struct decode_matmul_args *a, const struct decode_matmul_args *b,
			cudaStream_t stream)
{
	struct matmul_params p = matmul_params_of(a), q = matmul_params_of(b);

	narrow_split(&p, false);
	narrow_split(&q, false);
	return pair_launch<MATMUL_BF16, NT>(narrow_pair_kernel<F, false, MATMUL_BF16, NT>, p, p.groups,
					    packed_bytes(&p, F), q, stream);
}

int decode_matmul_pair(const struct decode_matmul_args *a, const struct decode_matmul_args *b,
		       void *stream)
{
	int rc;

	if (!matmul_args_ok(a, MATMUL_MAX_ROWS) || !matmul_args_ok(b, MATMUL_MAX_ROWS) ||
	    a->x_ordered || b->x_ordered)
		return -EINVAL;
	if (a->format == MATMUL_BF16)
		return b->format == MATMUL_BF16 ?
			       decode_matmul(a, stream) ?: multiply_behind(b, stream) :
			       decode_matmul_pair(b, a, stream);
	if (b->format == MATMUL_BF16 && a->n_rows <= 8 && b->n_rows <= 8)
		return a->format == MATMUL_FP8 ?
			       pair_at_once<MATMUL_FP8, 1>(a, b, (cudaStream_t)stream) :
			       pair_at_once<MATMUL_NVFP4, 1>(a, b, (cudaStream_t)stream);
	if (b->format == MATMUL_BF16 && a->format == MATMUL_FP8 && two_tiles_fit(a) && two_tiles_fit(b))
		return pair_at_once<MATMUL_FP8, 2>(a, b, (cudaStream_t)stream);
	rc = decode_matmul(a, stream);
	if (rc)
		return rc;
	return auto_form(a) == MATMUL_SQUARE ? multiply_behind_square(b, stream) : multiply_behind(b, stream);
}

int decode_matmul_orders(const struct decode_matmul_args *a)
{
	const struct matmul_params p = matmul_params_of(a);

	return auto_form(a) == MATMUL_SQUARE && matmul_square_orders(&p);
}

int decode_matmul(const struct decode_matmul_args *a, void *stream)
{
	enum matmul_form form = a->form;

	if (!matmul_args_ok(a, MATMUL_MAX_ROWS))
		return -EINVAL;
	if (form == MATMUL_AUTO)
		form = auto_form(a);
	if (a->x_ordered && form != MATMUL_SQUARE)
		return -EINVAL;
	switch (form) {
	case MATMUL_SQUARE: return matmul_launch_square(a, (cudaStream_t)stream);
	case MATMUL_NARROW: return matmul_launch_narrow(a, (cudaStream_t)stream);
	case MATMUL_WIDE: return matmul_launch_wide(a, (cudaStream_t)stream);
	case MATMUL_AUTO:
	case MATMUL_RING: break;
	}
	return -EINVAL;
}

/* ---- experts ----------------------------------------------------------------- */

/* The list in memory; of experts that are chosen, nothing reads it. */
static const struct expert_list *list_of(const struct decode_experts_args *a)
{
	return a->choice ? &a->choice->list : a->list;
}

template <enum matmul_format F>
static int narrow_experts(const struct matmul_params *p, const struct route_args *choice,
			  uint32_t cols, uint32_t items, void *stream)
{
	if (choice)
		return narrow_choice_launch<F>(p, choice, items, (cudaStream_t)stream);
	return narrow_by_cols<F, true>(p, cols, items, (cudaStream_t)stream);
}

int decode_experts(const struct decode_experts_args *a, void *stream)
{
	const uint32_t pairs = a->n_rows * a->n_slots;
	struct matmul_params p;
	uint32_t most_items, cols;

	if (!matmul_experts_ok(a, MATMUL_MAX_ROWS) || !matmul_list_ok(a) || a->out == MATMUL_OUT_BF16)
		return -EINVAL;
	p = matmul_params_of_experts(a, list_of(a));
	narrow_split(&p, false);

	/* How many experts are active is known on the device only: blocks beyond the work leave
	 * at once.  Column tiles by the mean number of pairs an expert has. */
	most_items = p.groups * min(pairs, a->n_experts);
	cols = pairs >= 5 * a->n_experts ? 16 : 8;
	if (a->form == MATMUL_WIDE)
		return -EINVAL;
	if (a->form == MATMUL_RING ||
	    (a->form == MATMUL_AUTO && matmul_ring_fits(&p, a->format)))
		return matmul_launch_ring(&p, a->choice, a->format, pairs, cols,
					  min(pairs, a->n_experts), (cudaStream_t)stream);
	switch (a->format) {
	case MATMUL_BF16:
		return narrow_experts<MATMUL_BF16>(&p, a->choice, cols, most_items, stream);
	case MATMUL_FP8:
		return narrow_experts<MATMUL_FP8>(&p, a->choice, cols, most_items, stream);
	case MATMUL_NVFP4:
		return narrow_experts<MATMUL_NVFP4>(&p, a->choice, cols, most_items, stream);
	case MATMUL_N_FORMATS: break;
	}
	return -EINVAL;
}

int decode_experts_beside(const struct decode_experts_args *a, const struct decode_matmul_args *b,
			  void *stream)
{
	const uint32_t pairs = a->n_rows * a->n_slots;
	struct matmul_params p, q;
	int rc;

	if (!matmul_experts_ok(a, MATMUL_MAX_ROWS) || !matmul_list_ok(a) || a->out == MATMUL_OUT_BF16 ||
	    !matmul_args_ok(b, MATMUL_MAX_ROWS))
		return -EINVAL;
	/* One launch in the narrow form; of more rows the ring form is the faster by more than that. */
	if (a->format != MATMUL_NVFP4 || b->format != MATMUL_FP8 || b->n_rows > 6 ||
	    pairs >= 5 * a->n_experts) {
		rc = decode_experts(a, stream);
		return rc ? rc : multiply_behind(b, stream);
	}
	p = matmul_params_of_experts(a, list_of(a));
	q = matmul_params_of(b);
	narrow_split(&p, false);
	narrow_split(&q, false);
	const uint32_t items = p.groups * min(pairs, a->n_experts);
	const size_t bytes = packed_bytes(&p, MATMUL_NVFP4) * min(pairs, a->n_experts);

	if (a->choice)
		return pair_launch<MATMUL_FP8>(narrow_pair_choice_kernel<MATMUL_NVFP4, MATMUL_FP8>,
					       p, items, bytes, q, (cudaStream_t)stream,
					       *a->choice);
	return pair_launch<MATMUL_FP8>(narrow_pair_kernel<MATMUL_NVFP4, true, MATMUL_FP8, 1>, p, items,
				       bytes, q, (cudaStream_t)stream);
}
