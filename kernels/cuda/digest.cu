/* digest.cu - CRC-32C of what a run computed, on the host, for tests of exactness. */
#include <errno.h>

#include "kernels/cuda/device_int.h"

namespace {

/* Bitwise: the tables of a fast one would be more text than tests need. */
uint32_t crc32c(uint32_t crc, const void *data, size_t n)
{
	const unsigned char *p = (const unsigned char *)data;

	crc = ~crc;
	while (n--) {
		crc ^= *p++;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

/* Adds `bytes` of device memory. */
int add(uint32_t *crc, const void *device, size_t bytes)
{
	std::vector<char> host(bytes);

	if (cudaMemcpy(host.data(), device, bytes, cudaMemcpyDeviceToHost) != cudaSuccess)
		return -ENODEV;
	*crc = crc32c(*crc, host.data(), bytes);
	return 0;
}

/* Position after position, so that a run's digest is that of its parts in a row. */
int kv_digest(struct cuda_device *d, const struct piece &p, const std::vector<struct qk_row> &rows,
	      uint32_t *crc)
{
	const size_t each = ATTN_DIM * 2;

	for (uint32_t i = 0; i < p.n; i++)
		for (uint32_t l = 0; l < d->n_attn; l++)
			for (uint32_t h = 0; h < 2 * d->m.n_kv_heads; h++) {
				const struct qk_row &r = rows[p.row + i];
				size_t at =
					(((size_t)r.block * d->m.n_kv_heads + h / 2) * STEP_GRID +
					 r.offset) *
					each;

				if (add(crc, kv_at(d, l, (int)(h % 2)) + at, each))
					return -ENODEV;
			}
	return 0;
}

int state_digest(struct cuda_device *d, uint32_t slot, uint32_t *crc)
{
	for (uint32_t l = 0; l < d->n_gdn; l++)
		if (add(crc, state_at(d, l, slot), d->state_slot) ||
		    add(crc, window_at(d, l, slot, d->side[slot]), d->window_side))
			return -ENODEV;
	return 0;
}

} /* namespace */

int pass_digest(struct cuda_device *d, const struct pass *pass, struct run_result *results)
{
	std::vector<struct qk_row> rows(pass->n_rows);

	if (cudaStreamSynchronize(d->stream) != cudaSuccess ||
	    cudaMemcpy(rows.data(), pass->prefill ? d->ws.prefill.qk : d->ws.meta->qk,
		       rows.size() * sizeof(struct qk_row), cudaMemcpyDeviceToHost) != cudaSuccess)
		return -ENODEV;
	for (const struct piece &p : pass->pieces) {
		struct step_digest *g = &results[p.run].digest;
		const size_t width = (size_t)d->m.hidden * 2, vocab = (size_t)d->m.vocab_rows * 4;
		const size_t last = (size_t)p.head + p.n_head - 1;

		if (kv_digest(d, p, rows, &g->kv))
			return -ENODEV;
		if (p.last && (add(&g->hidden, (char *)d->ws.hn + last * width, width) ||
			       add(&g->logits, (char *)d->ws.logits + last * vocab, vocab) ||
			       state_digest(d, p.slot, &g->state)))
			return -ENODEV;
	}
	return 0;
}
