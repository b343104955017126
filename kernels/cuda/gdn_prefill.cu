/* gdn_prefill.cu - see gdn_prefill.h: the list of chunks, the checks, the three launches. */
#include "kernels/cuda/gdn_prefill.cuh"

#include <errno.h>

uint32_t gdn_prefill_plan(struct gdn_prefill_run *runs, uint32_t n_runs, struct gdn_chunk *chunks,
			  uint32_t room)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < n_runs; i++) {
		runs[i].first_chunk = n;
		for (uint32_t k = 0; k * GDN_CHUNK < runs[i].n; k++, n++)
			if (n < room)
				chunks[n] = { i, k };
	}
	return n;
}

size_t gdn_prefill_room(uint32_t k_heads, uint32_t v_heads, uint32_t n_chunks)
{
	return gdn::room{ NULL, n_chunks, k_heads, v_heads }.bytes();
}

static bool aligned(const void *p)
{
	return (uintptr_t)p % 16 == 0;
}

int gdn_prefill(const struct gdn_prefill_args *a, void *stream)
{
	int rc;

	if (!a->n_runs || a->n_runs > 65535 || !a->n_chunks || a->n_chunks > 65535 || !a->k_heads ||
	    !a->v_heads || a->v_heads % a->k_heads || a->v_heads / a->k_heads > 4 ||
	    a->v_heads > 4096 || a->ld % 8 || a->ld < (2 * a->k_heads + a->v_heads) * GDN_DIM)
		return -EINVAL;
	if (!aligned(a->u) || !aligned(a->z) || !aligned(a->conv_w) || !aligned(a->window) ||
	    !aligned(a->out) || (uintptr_t)a->room % 128 || a->form > GDN_SCAN_TOGETHER)
		return -EINVAL;
	rc = gdn::convolve(a, (cudaStream_t)stream);
	rc = rc ? rc : gdn::prepare(a, (cudaStream_t)stream);
	return rc ? rc : gdn::scan(a, (cudaStream_t)stream);
}
