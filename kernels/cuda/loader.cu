/* loader.cu - see loader.h.
 *
 * Pieces come from the source's stream into pinned memory, go to a staging area on the device as they lie in the
 * checkpoint, and a kernel packs them: a thread has a lane's fragment, as pack_lane.h says.  Scales of FP8 blocks are laid
 * out by the host, one for each eight rows and 128 columns. */
#include "kernels/cuda/loader.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include <algorithm>
#include <thread>

extern "C" {
#include "lib/err.h"
}
#include "kernels/cpu/dequant.h"
#include "kernels/cuda/decode_matmul.h"
#include "kernels/cuda/pack_lane.h"

namespace {

typedef __nv_bfloat16 bf16;

constexpr size_t STAGING = (size_t)64 << 20, ALIGN = 256;
constexpr size_t SCALES_AT = STAGING / 2;	/* data before, scales from here on */
constexpr size_t PIECE = (size_t)8 << 20;	/* of one tensor: several are read ahead */
constexpr uint32_t PIECE_ROWS = 128;		/* whole blocks of FP8's scales */
static_assert(MATMUL_BF16_UNIT % ALIGN == 0, "BF16 matrices follow one another without a gap");

/* Stacked rows of one format; refs are what find() says of the parts. */
struct piece {
	std::vector<part> parts;
	std::vector<weight_ref> refs;
	uint32_t layer;
	enum matmul_format format;
	enum layout layout;
	uint32_t rows, cols;

	uint32_t slices() const { return (cols + MATMUL_SLICE - 1) / MATMUL_SLICE; }
	uint32_t tiles() const { return (rows + MATMUL_TILE - 1) / MATMUL_TILE; }
	size_t bytes() const
	{
		return layout == LAYOUT_ROWS ? (size_t)rows * cols * 2 : matmul_packed_bytes(format, rows, cols);
	}
};

uint32_t ceil_div(uint32_t a, uint32_t b)
{
	return (a + b - 1) / b;
}

/* ---- kernels ----------------------------------------------------------------------- */

/* A thread has (unit, step, lane); 512 a unit. */
__device__ bool place_of(size_t count, uint32_t slices, size_t *ret_unit, uint32_t *ret_step, uint32_t *ret_lane,
			 struct pack_place *ret)
{
	const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;

	if (i >= count)
		return false;
	*ret_unit = i / 512;
	*ret_step = i / 32 % 16;
	*ret_lane = i % 32;
	*ret = pack_place_of((uint32_t)(*ret_unit / slices), (uint32_t)(*ret_unit % slices), *ret_step, *ret_lane);
	return true;
}

__global__ void pack_bf16_kernel(struct pack_rows m, uint32_t slices, char *out, size_t count)
{
	struct pack_place at;
	uint32_t step, lane, v[4];
	size_t unit;

	if (!place_of(count, slices, &unit, &step, &lane, &at))
		return;
	pack_bf16_lane(&m, &at, v);
	((uint4 *)(out + unit * MATMUL_BF16_UNIT))[step * 32 + lane] = make_uint4(v[0], v[1], v[2], v[3]);
}

/* scales: [unit][low 0, low 1, high 0, high 1] of pack.h, before pack_fp8_scale(). */
__global__ void pack_fp8_kernel(struct pack_rows m, const float4 *scales, uint32_t slices, char *out, size_t count,
				uint32_t *bad, uint32_t index)
{
	struct pack_place at;
	uint32_t step, lane, v[2];
	size_t unit;

	if (!place_of(count, slices, &unit, &step, &lane, &at))
		return;
	const float4 s = scales[unit];
	const float scale[2] = { step < 8 ? s.x : s.y, step < 8 ? s.z : s.w };
	char *to = out + unit * MATMUL_FP8_UNIT;

	if (pack_fp8_lane(&m, &at, scale, v))
		atomicMin(bad, index);
	*(uint2 *)(to + (step / 2 * 32 + lane) * 16 + step % 2 * 8) = make_uint2(v[0], v[1]);
	if (step == 0 && lane == 0)
		*(float4 *)(to + 4096) = make_float4(pack_fp8_scale(s.x), pack_fp8_scale(s.y), pack_fp8_scale(s.z),
						     pack_fp8_scale(s.w));
}

__global__ void pack_nvfp4_kernel(struct pack_rows m, const uint8_t *scales, uint32_t slices, char *out, size_t count,
				  uint32_t *bad, uint32_t index)
{
	struct pack_place at;
	uint32_t step, lane;
	size_t unit;

	if (!place_of(count, slices, &unit, &step, &lane, &at))
		return;
	const uint32_t i = step * 32 + lane;
	char *to = out + unit * MATMUL_NVFP4_UNIT;

	*(uint32_t *)(to + (step / 4 * 32 + lane) * 16 + step % 4 * 4) = pack_nvfp4_lane(&m, scales, &at);
	if (i >= 256)
		return;
	const uint8_t s = pack_nvfp4_unit_scale(&m, scales, (uint32_t)(unit / slices), (uint32_t)(unit % slices), i);

	if (pack_e4m3_nan(s))
		atomicMin(bad, index);
	to[2048 + i] = (char)pack_scale_code(s);
}

/* ---- small things --------------------------------------------------------------------- */

int fail(struct loader *k, cudaError_t code)
{
	return err_set(k->e, -ENODEV, "loading weights: %s", cudaGetErrorString(code));
}

int code_of(struct loader *k, cudaError_t code)
{
	return code == cudaSuccess ? 0 : fail(k, code);
}

char *take(struct loader *k, size_t bytes)
{
	char *at = k->slab ? k->slab + k->used : NULL;

	k->used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
	return at;
}

int tell(struct loader *k, uint64_t bytes)
{
	k->done += bytes;
	return k->progress ? k->progress(k->ctx, k->done, k->total) : 0;
}

bool in_blocks(const struct weight_ref &r)
{
	return r.span_rows == 128 && r.span_cols == 128;
}

bool has_row_scale(const struct piece &p)
{
	return p.format == MATMUL_NVFP4 ||
	       (p.format == MATMUL_FP8 && !std::all_of(p.refs.begin(), p.refs.end(), in_blocks));
}

/* Where a stacked row stands in the packed matrix: pack_source_row() the other way round. */
uint32_t packed_row(const struct piece &p, uint32_t rows, uint32_t row)
{
	const uint32_t half = rows / 2, i = row % half;

	return p.layout == LAYOUT_TURNS ? i / 8 * 16 + i % 8 + row / half * 8 : row;
}

/* ---- to the staging area ------------------------------------------------------------------ */

int stage(struct loader *k, size_t at, const void *from, size_t bytes)
{
	return code_of(k, cudaMemcpy(k->staging + at, from, bytes, cudaMemcpyHostToDevice));
}

/* Rows begin..end of a piece as BF16: each weight rounded once. */
void expand_rows(const struct weight_ref &r, uint32_t begin, uint32_t end, uint16_t *ret)
{
	std::vector<float> row(r.cols);

	for (uint32_t i = begin; i < end; i++, ret += r.cols) {
		dequant_row(&r, i, row.data());
		std::transform(row.begin(), row.end(), ret,
			       [](float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); });
	}
}

/* All of it, by as many threads as there are processors. */
std::vector<uint16_t> expand(const struct weight_ref &r)
{
	std::vector<uint16_t> ret((size_t)r.rows * r.cols);
	const uint32_t n = std::max(1u, std::min(std::thread::hardware_concurrency(), r.rows / 16));
	const uint32_t each = ceil_div(r.rows, n);
	std::vector<std::thread> threads;

	for (uint32_t from = 0; from < r.rows; from += each)
		threads.emplace_back(expand_rows, std::cref(r), from, std::min(from + each, r.rows),
				     ret.data() + (size_t)from * r.cols);
	for (std::thread &t : threads)
		t.join();
	return ret;
}

size_t row_bytes(const struct piece &p)
{
	return p.format == MATMUL_BF16 ? (size_t)p.cols * 2 : p.format == MATMUL_FP8 ? p.cols : p.cols / 2;
}

/* A chunk of a matrix on its way: rows first..first+n of each half (PACKED: of the whole). */
struct chunk {
	const struct piece *p;
	uint32_t first, n, halves;
	std::vector<float> fp8_scales;	/* as pack_fp8_kernel() wants them */
	float *row_scales;		/* of the whole matrix, packed; or NULL */
};

/* Calls each(part, begin, end, at) for the rows begin..end of a part that stand at row `at` of the staging area, in the order
 * in which they are listed and read. */
template <class Each> int each_part(const struct chunk &c, Each each)
{
	const uint32_t half = c.p->rows / c.halves;

	for (uint32_t h = 0; h < c.halves; h++) {
		const uint32_t first = h * half + c.first;
		uint32_t begin = 0;

		for (const part &x : c.p->parts) {
			const uint32_t from = std::max(first, begin), end = std::min(begin + x.rows, first + c.n);
			int rc = from < end ? each(x, from - begin, end - begin, h * c.n + from - first) : 0;

			if (rc)
				return rc;
			begin += x.rows;
		}
	}
	return 0;
}

/* Calls each(chunk) for all of a matrix. */
template <class Each> int each_chunk(const struct piece &p, float *row_scales, Each each)
{
	const uint32_t halves = p.layout == LAYOUT_TURNS ? 2 : 1, all = p.rows / halves;
	const uint32_t most = std::max((uint32_t)(PIECE / row_bytes(p) / PIECE_ROWS) * PIECE_ROWS, PIECE_ROWS);
	int rc = 0;

	for (uint32_t first = 0; !rc && first < all; first += most) {
		struct chunk c = { &p, first, std::min(all - first, most), halves, {}, row_scales };

		rc = each(c);
	}
	return rc;
}

/* FP8's block scales of a piece: one for eight rows, at the place of their group. */
int lay_fp8_scales(struct loader *k, struct chunk *c, const struct weight_ref &r, uint32_t at)
{
	const uint32_t slices = c->p->slices();

	for (uint32_t row = 0; row < r.rows; row += 8) {
		const uint32_t group = packed_row(*c->p, c->n * c->halves, at + row) / 8;

		for (uint32_t block = 0; block < weight_scale_cols(&r); block++) {
			const size_t from = (size_t)(row / 128) * weight_scale_cols(&r) + block;
			const float v = dequant_element(r.scale, r.scale_format, from);

			if (!isfinite(v))
				return weight_in_file(r.scale_file,
						      err_set(k->e, -EINVAL, "%s: a scale is not finite", r.name), k->e);
			c->fp8_scales[((size_t)(group / 2) * slices + block / 2) * 4 + group % 2 * 2 + block % 2] = v;
		}
	}
	return 0;
}

/* The factors of a piece's rows, the first of which is `stacked` of the matrix. */
void lay_row_scales(const struct chunk &c, const struct weight_ref &r, uint32_t stacked)
{
	for (uint32_t row = 0; c.row_scales && row < r.rows; row++) {
		float *to = &c.row_scales[packed_row(*c.p, c.p->rows, stacked + row)];

		if (c.p->format == MATMUL_NVFP4)
			*to = r.global;
		else if (!in_blocks(r))
			*to = dequant_element(r.scale, r.scale_format, row / r.span_rows);
	}
}

/* The next piece of the stream, to row `at` of the staging area. */
int stage_next(struct loader *k, struct chunk *c, uint32_t n, uint32_t at, uint32_t stacked)
{
	const struct piece &p = *c->p;
	const size_t bytes = row_bytes(p);
	struct weight_ref r;
	int rc = weight_stream_next(k->in, &r, k->e);

	if (rc)
		return rc;
	if (p.format == MATMUL_BF16 && r.format != WF_BF16)
		rc = stage(k, at * bytes, expand(r).data(), n * bytes);
	else
		rc = stage(k, at * bytes, r.data, n * bytes);
	if (!rc && p.format == MATMUL_NVFP4)
		rc = stage(k, SCALES_AT + (size_t)at * p.cols / 16, r.scale, (size_t)n * p.cols / 16);
	if (!rc && p.format == MATMUL_FP8 && in_blocks(r))
		rc = lay_fp8_scales(k, c, r, at);
	lay_row_scales(*c, r, stacked);
	weight_stream_done(k->in);
	return rc;
}

int stage_chunk(struct loader *k, struct chunk *c)
{
	int rc;

	if (c->p->format == MATMUL_FP8)
		c->fp8_scales.assign((size_t)ceil_div(c->n * c->halves, MATMUL_TILE) * c->p->slices() * 4, 1.0f);
	rc = each_part(*c, [&](const part &, uint32_t begin, uint32_t end, uint32_t at) {
		const uint32_t stacked = at / c->n * (c->p->rows / c->halves) + c->first + at % c->n;

		return stage_next(k, c, end - begin, at, stacked);
	});
	if (!rc && !c->fp8_scales.empty())
		rc = stage(k, SCALES_AT, c->fp8_scales.data(), c->fp8_scales.size() * 4);
	return rc;
}

/* ---- from there to its place ---------------------------------------------------------------- */

/* The n rows in the staging area. */
int pack(struct loader *k, const struct piece &p, uint32_t n, char *to)
{
	const struct pack_rows m = { k->staging, n, p.cols, p.layout == LAYOUT_TURNS };
	const size_t count = (size_t)ceil_div(n, MATMUL_TILE) * p.slices() * 512;
	const uint32_t blocks = (uint32_t)((count + 255) / 256), index = (uint32_t)k->packed.size() - 1;
	const char *scales = k->staging + SCALES_AT;

	switch (p.format) {
	case MATMUL_FP8:
		pack_fp8_kernel<<<blocks, 256>>>(m, (const float4 *)scales, p.slices(), to, count, k->bad, index);
		break;
	case MATMUL_NVFP4:
		pack_nvfp4_kernel<<<blocks, 256>>>(m, (const uint8_t *)scales, p.slices(), to, count, k->bad, index);
		break;
	default:
		pack_bf16_kernel<<<blocks, 256>>>(m, p.slices(), to, count);
	}
	return code_of(k, cudaGetLastError());
}

/* Row scales of padding, and of what is in blocks, are 1. */
int upload(struct loader *k, const struct piece &p, char *to, float *row_scales)
{
	if (p.format != MATMUL_BF16)
		k->packed.push_back(p.refs);
	return each_chunk(p, row_scales, [&](struct chunk &c) {
		const uint32_t n = c.n * c.halves;
		int rc = stage_chunk(k, &c);

		if (!rc && p.layout == LAYOUT_ROWS)
			rc = code_of(k, cudaMemcpy(to, k->staging, n * row_bytes(p), cudaMemcpyDeviceToDevice));
		else
			rc = rc ? rc : pack(k, p, n, to);
		to += p.layout == LAYOUT_ROWS ? n * row_bytes(p) : matmul_packed_bytes(p.format, n, p.cols);
		return rc ? rc : tell(k, n * row_bytes(p));
	});
}

/* What upload() will ask for. */
void list(struct loader *k, const struct piece &p)
{
	each_chunk(p, NULL, [&](struct chunk &c) {
		return each_part(c, [&](const part &x, uint32_t begin, uint32_t end, uint32_t) {
			k->pieces.push_back({ x.slot, p.layer, x.expert, begin, end - begin });
			return 0;
		});
	});
}

/* The weights of a piece; its row scales, if it has any, to `scales`. */
int put_piece(struct loader *k, const struct piece &p, char *to, float *scales)
{
	if (!k->slab) {
		list(k, p);
		return 0;
	}
	if (scales)
		std::fill_n(scales, p.tiles() * MATMUL_TILE, 1.0f);
	return upload(k, p, to, scales);
}

/* ---- what a matrix is made of --------------------------------------------------------------- */

/* All parts, in one format. */
int piece_of(struct loader *k, uint32_t layer, const std::vector<part> &parts, uint32_t cols, enum layout l, struct piece *ret)
{
	ret->parts = parts;
	ret->refs.clear();
	ret->layer = layer;
	ret->layout = l;
	ret->rows = 0;
	ret->cols = cols;
	for (const part &p : parts) {
		weight_ref ref = {};
		int rc = loader_find(k, p.slot, layer, p.expert, p.rows, cols, &ref);

		if (rc)
			return rc;
		const enum matmul_format f = l == LAYOUT_ROWS ? MATMUL_BF16 : loader_format(&ref);

		if (ret->refs.empty())
			ret->format = f;
		else if (ret->format != f)
			ret->format = MATMUL_BF16;
		ret->refs.push_back(ref);
		ret->rows += p.rows;
	}
	return 0;
}

void count_expanded(struct loader *k, const struct piece &p)
{
	for (const weight_ref &r : p.refs)
		k->expanded += p.format == MATMUL_BF16 && !weight_is_plain(r.format);
}

/* n matrices of p's size and format, one after the other, then their row scales; to `host` go n times the scales. */
void take_matrices(struct loader *k, const struct piece &p, uint32_t n, struct matrix *ret, std::vector<float> *host)
{
	const size_t scales = (size_t)n * p.tiles() * MATMUL_TILE;

	ret->w = take(k, n * p.bytes());
	ret->row_scale = NULL;
	ret->format = p.format;
	ret->n = p.rows;
	if (!has_row_scale(p))
		return;
	ret->row_scale = (float *)(void *)take(k, scales * 4);
	if (k->slab)
		host->resize(scales);
}

int send_scales(struct loader *k, const struct matrix *m, const std::vector<float> &host)
{
	return host.empty() ? 0 : code_of(k, cudaMemcpy(m->row_scale, host.data(), host.size() * 4, cudaMemcpyHostToDevice));
}

int put_one(struct loader *k, const struct piece &p, struct matrix *ret)
{
	std::vector<float> scales;
	int rc;

	count_expanded(k, p);
	take_matrices(k, p, 1, ret, &scales);
	rc = put_piece(k, p, (char *)ret->w, scales.empty() ? NULL : scales.data());
	return rc ? rc : send_scales(k, ret, scales);
}

/* The format of n experts' matrices: BF16 unless all have the same. */
int experts_format(struct loader *k, uint32_t layer, uint32_t n, std::vector<part> parts, uint32_t cols, enum layout l,
		   enum matmul_format *ret)
{
	struct piece p;

	for (uint32_t e = 0; e < n; e++) {
		int rc;

		for (part &x : parts)
			x.expert = e;
		rc = piece_of(k, layer, parts, cols, l, &p);
		if (rc)
			return rc;
		if (!e)
			*ret = p.format;
		else if (*ret != p.format)
			*ret = MATMUL_BF16;
	}
	return 0;
}

/* The tensor among stacked ones that has a NaN, by looking at all of it. */
const char *nan_name(const std::vector<weight_ref> &refs)
{
	for (const weight_ref &r : refs) {
		if (r.streamed)		/* made from numbers, just now */
			continue;
		const bool fp8 = r.format == WF_FP8;
		const uint8_t *at = (const uint8_t *)(fp8 ? r.data : r.scale);
		const size_t n = fp8 ? weight_data_bytes(&r) : weight_scale_bytes(&r);

		if (std::any_of(at, at + n, [](uint8_t b) { return pack_e4m3_nan(b); }))
			return r.name;
	}
	return refs[0].name;
}

} /* namespace */

enum matmul_format loader_format(const struct weight_ref *r)
{
	if (r->format == WF_NVFP4)
		return MATMUL_NVFP4;
	if (r->format != WF_FP8 || r->cols % 16)
		return MATMUL_BF16;
	return in_blocks(*r) || r->span_cols >= r->cols ? MATMUL_FP8 : MATMUL_BF16;
}

int loader_begin(struct loader *k)
{
	k->room.bytes = WEIGHT_ROOM;
	if (cudaMalloc((void **)&k->staging, STAGING) != cudaSuccess || cudaMalloc((void **)&k->bad, 4) != cudaSuccess ||
	    cudaMemset(k->bad, 0xff, 4) != cudaSuccess)
		return err_set(k->e, -ENOMEM, "no %zu bytes of device memory to load with", STAGING);
	if (k->pieces.empty())
		return 0;
	if (cudaMallocHost(&k->room.p, k->room.bytes) != cudaSuccess)
		return err_set(k->e, -ENOMEM, "no %zu bytes of pinned memory to load with", k->room.bytes);
	return weight_stream_open(k->source, k->pieces.data(), k->pieces.size(), &k->room, &k->in, k->e);
}

int loader_end(struct loader *k, int rc)
{
	uint32_t bad = UINT32_MAX;

	if (!rc)
		rc = code_of(k, cudaDeviceSynchronize()) ?: code_of(k, cudaMemcpy(&bad, k->bad, 4, cudaMemcpyDeviceToHost));
	if (!rc && bad < k->packed.size())
		rc = err_set(k->e, -EINVAL, "%s: a weight or a scale is NaN", nan_name(k->packed[bad]));
	k->in = weight_stream_close(k->in);
	cudaFreeHost(k->room.p);
	cudaFree(k->staging);
	cudaFree(k->bad);
	return rc;
}

int loader_find(struct loader *k, enum weight_slot slot, uint32_t layer, uint32_t expert, uint32_t rows, uint32_t cols,
		struct weight_ref *ret)
{
	int rc = k->source->find(k->source->ctx, slot, layer, expert, ret);

	if (rc)
		return err_set(k->e, rc, "%s of layer %u: not in the model", weight_slot_name(slot), layer);
	if (cols == 1 ? (uint64_t)ret->rows * ret->cols != rows : ret->rows != rows || ret->cols != cols)
		return err_set(k->e, -EINVAL, "%s: %u x %u, not %u x %u", ret->name, ret->rows, ret->cols, rows, cols);
	return 0;
}

int put_vector(struct loader *k, enum weight_slot slot, uint32_t layer, uint32_t n, bool wide,
	       void **ret)
{
	const size_t bytes = (size_t)n * (wide ? 4 : 2);
	struct weight_ref ref = {};
	int rc;

	*ret = take(k, bytes);
	rc = loader_find(k, slot, layer, 0, n, 1, &ref);
	if (!rc && !k->slab)
		k->pieces.push_back({ slot, layer, 0, 0, ref.rows });
	if (rc || !k->slab)
		return rc;
	std::vector<float> f(n);
	std::vector<bf16> h(n);
	rc = weight_stream_next(k->in, &ref, k->e);
	for (uint32_t i = 0; !rc && i < n; i++)
		f[i] = dequant_element(ref.data, ref.format, i);
	weight_stream_done(k->in);
	for (uint32_t i = 0; i < n; i++)
		h[i] = __float2bfloat16_rn(f[i]);
	rc = rc ? rc : code_of(k, cudaMemcpy(*ret, wide ? (void *)f.data() : (void *)h.data(), bytes, cudaMemcpyHostToDevice));
	return rc ? rc : tell(k, bytes);
}

int put_rows(struct loader *k, enum weight_slot slot, uint32_t rows, uint32_t cols, void **ret)
{
	struct matrix m;
	struct piece p;
	int rc = piece_of(k, 0, { { slot, 0, rows } }, cols, LAYOUT_ROWS, &p);

	rc = rc ? rc : put_one(k, p, &m);
	*ret = rc ? NULL : m.w;
	return rc;
}

int put_matrix(struct loader *k, uint32_t layer, const std::vector<part> &parts, uint32_t cols, enum layout l,
	       struct matrix *ret)
{
	struct piece p;
	int rc = piece_of(k, layer, parts, cols, l, &p);

	return rc ? rc : put_one(k, p, ret);
}

int put_stack(struct loader *k, uint32_t layer, const std::vector<part> &parts, uint32_t cols, struct stack *ret)
{
	struct piece all = {};
	int rc = 0;

	ret->n_parts = 0;
	for (size_t i = 0; i < parts.size(); i++) {
		struct piece p;

		rc = piece_of(k, layer, { parts[i] }, cols, LAYOUT_PACKED, &p);
		if (rc)
			return rc;
		/* A tile of FP8 has one scale for eight rows, and pieces are whole blocks: neither across two tensors. */
		if (i && (p.format != all.format || (p.format == MATMUL_FP8 && all.rows % PIECE_ROWS))) {
			rc = put_one(k, all, &ret->part[ret->n_parts++]);
			if (rc)
				return rc;
			all = {};
		}
		if (all.refs.empty())
			all = p;
		else
			all.parts.push_back(parts[i]), all.refs.push_back(p.refs[0]), all.rows += p.rows;
	}
	return put_one(k, all, &ret->part[ret->n_parts++]);
}

int put_experts(struct loader *k, uint32_t layer, uint32_t n, const std::vector<part> &parts,
		const std::vector<part> *shared, uint32_t cols, enum layout l, struct matrix *ret)
{
	std::vector<part> own = parts;
	std::vector<float> scales;
	enum matmul_format f;
	struct piece p;
	int rc = experts_format(k, layer, n, parts, cols, l, &f);

	for (uint32_t e = 0; !rc && e < n + (shared ? 1 : 0); e++) {
		for (part &x : own)
			x.expert = e;
		rc = piece_of(k, layer, e < n ? own : *shared, cols, l, &p);
		if (rc)
			return rc;
		p.format = f;
		count_expanded(k, p);
		if (!e)
			take_matrices(k, p, n + (shared ? 1 : 0), ret, &scales);
		rc = put_piece(k, p, (char *)ret->w + e * p.bytes(),
			       scales.empty() ? NULL : scales.data() + (size_t)e * p.tiles() * MATMUL_TILE);
	}
	return rc ? rc : send_scales(k, ret, scales);
}
