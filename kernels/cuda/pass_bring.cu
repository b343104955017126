/* pass_bring.cu - what kernels read about a decode pass, from pinned memory to the device's.
 *
 * By a kernel: a copy engine's copies would stand between one step's last kernel and the next one's first,
 * and each is waited for longer than it takes.  Only rows that the pass has travel. */
#include <errno.h>
#include <stddef.h>

#include <algorithm>

#include "kernels/cuda/device_int.h"

namespace {

constexpr uint32_t THREADS = 256, MOST_BLOCKS = 64, N_ARRAYS = 9;

struct array {
	const uint4 *from;
	uint4 *to;
	uint32_t n;	/* of 16 bytes */
};

struct bring_args {
	struct array array[N_ARRAYS];
};

/* Block y: array y. */
__global__ void __launch_bounds__(THREADS) bring_kernel(const __grid_constant__ bring_args a)
{
	const struct array &own = a.array[blockIdx.y];
	const uint32_t step = gridDim.x * THREADS;
	uint32_t i = blockIdx.x * THREADS + threadIdx.x;
	uint4 v = i < own.n ? own.from[i] : uint4{};

	chain_wait();	/* the pass before reads what is written over */
	chain_release();
	for (; i < own.n; i += step) {
		own.to[i] = v;
		if (i + step < own.n)
			v = own.from[i + step];
	}
}

#define BEGINS(name) static_assert(offsetof(struct pass_meta, name) % 16 == 0, "copied by 16 bytes")
BEGINS(out);
BEGINS(embed);
BEGINS(qk);
BEGINS(attn);
BEGINS(gdn);
BEGINS(sample);
BEGINS(head);
BEGINS(token);
static_assert(sizeof(struct pass_meta) % 16 == 0, "and so is the last array's end");

/* Arrays begin on 16 bytes and have room up to the next. */
template <typename T> struct array array_of(const T *from, T *to, uint32_t n)
{
	return { (const uint4 *)from, (uint4 *)to, (uint32_t)((n * sizeof(T) + 15) / 16) };
}

} /* namespace */

int pass_bring(struct cuda_device *d, const struct pass *pass, const struct staging *s)
{
	const struct pass_meta *from = s->meta;
	struct pass_meta *to = d->ws.meta;
	const uint32_t rows = pass->n_rows;
	const struct bring_args a = { {
		array_of(&from->out, &to->out, 1),
		array_of(from->embed, to->embed, rows),
		array_of(from->qk, to->qk, rows),
		array_of(from->attn, to->attn, rows),
		array_of(from->gdn, to->gdn, (uint32_t)pass->pieces.size()),
		array_of(from->sample, to->sample, pass->n_sample),
		array_of(from->head, to->head, pass->n_head),
		array_of(from->token, to->token, rows),
		array_of(s->table, d->ws.table, pass->n_table),
	} };
	uint32_t most = 1;

	for (const struct array &x : a.array)
		most = std::max(most, x.n);
	return chain_launch(bring_kernel, dim3(std::min((most + THREADS - 1) / THREADS, MOST_BLOCKS), N_ARRAYS),
			    THREADS, 0, 1, d->stream, a);
}
