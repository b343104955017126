/* digest.cu - CRC-32C of what a run computed, on the host, for tests of exactness. */
#include <errno.h>

#include "kernels/crc32c.h"
#include "kernels/cuda/forward_int.h"
#include "kernels/cuda/prefill_matmul.h"

namespace {

/* Adds `bytes` of device memory. */
int add(uint32_t *crc, const void *device, size_t bytes)
{
	std::vector<char> host(bytes);

	if (cudaMemcpy(host.data(), device, bytes, cudaMemcpyDeviceToHost) != cudaSuccess)
		return -ENODEV;
	*crc = crc32c(*crc, host.data(), bytes);
	return 0;
}

/* What position `offset` has in a head of a block: 256 numbers, or codes and their power. */
int head_digest(const struct cuda_device *d, const char *head, uint32_t offset, uint32_t *crc)
{
	const size_t each = ATTN_DIM * (d->limits.kv == KV_FP8 ? 1 : 2);
	int rc = add(crc, head + offset * each, each);

	if (d->limits.kv == KV_FP8)
		rc = rc ? rc : add(crc, head + ATTN_PAGE * each + offset, 1);
	return rc;
}

/* Position after position, so that a run's digest is that of its parts in a row. */
int kv_digest(struct cuda_device *d, const struct piece &p, const std::vector<struct qk_row> &rows,
	      uint32_t *crc)
{
	const size_t head = attn_head_bytes(d->limits.kv);

	for (uint32_t i = 0; i < p.n; i++)
		for (uint32_t l = 0; l < d->n_attn; l++)
			for (uint32_t h = 0; h < 2 * d->m.n_kv_heads; h++) {
				const struct qk_row &r = rows[p.row + i];
				size_t at = ((size_t)r.block * d->m.n_kv_heads + h / 2) * head;

				if (head_digest(d, kv_at(d, l, (int)(h % 2)) + at, r.offset, crc))
					return -ENODEV;
			}
	return 0;
}

/* The tokens beside a layer's state, the next one's position being pos. */
int kept_digest(struct cuda_device *d, uint32_t layer, uint32_t slot, uint32_t pos, uint32_t *crc)
{
	const uint32_t end = pos % GDN_PERIOD, begin = end - d->n_kept[slot];
	std::vector<struct gdn_kept> heads(d->m.gdn_v_heads);

	if (begin == end)
		return 0;
	if (cudaMemcpy(heads.data(), kept_at(d, layer, slot), kept_slot(d), cudaMemcpyDeviceToHost) != cudaSuccess)
		return -ENODEV;
	for (const struct gdn_kept &k : heads) {
		*crc = crc32c(*crc, k.key[begin], (end - begin) * sizeof(k.key[0]));
		*crc = crc32c(*crc, k.delta[begin], (end - begin) * sizeof(k.delta[0]));
		*crc = crc32c(*crc, &k.decay[begin], (end - begin) * sizeof(k.decay[0]));
	}
	return 0;
}

/* pos: of the next token. */
int state_digest(struct cuda_device *d, uint32_t slot, uint32_t pos, uint32_t *crc)
{
	for (uint32_t l = 0; l < d->n_gdn; l++)
		if (add(crc, state_at(d, l, slot), d->state_slot) ||
		    add(crc, window_at(d, l, slot, d->side[slot]), d->window_side) ||
		    kept_digest(d, l, slot, pos, crc))
			return -ENODEV;
	return 0;
}

/* A row for the head, its columns as they are numbered. */
int hidden_digest(const struct cuda_device *d, uint32_t row, bool ordered, uint32_t *crc)
{
	const uint32_t width = d->m.hidden;
	std::vector<uint16_t> host(width), plain(width);

	if (cudaMemcpy(host.data(), (char *)d->ws.hn + (size_t)row * width * 2, width * 2,
		       cudaMemcpyDeviceToHost) != cudaSuccess)
		return -ENODEV;
	for (uint32_t i = 0; i < width; i++)
		plain[i] = host[ordered ? prefill_column(i) : i];
	*crc = crc32c(*crc, plain.data(), width * 2);
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
		const size_t vocab = (size_t)d->m.vocab_rows * 4;
		const uint32_t last = p.head + p.n_head - 1;

		if (kv_digest(d, p, rows, &g->kv))
			return -ENODEV;
		if (p.last && (hidden_digest(d, last, head_orders(d, pass->n_head), &g->hidden) ||
			       add(&g->logits, (char *)d->ws.raw_logits + last * vocab, vocab) ||
			       state_digest(d, p.slot, p.pos + p.n, &g->state)))
			return -ENODEV;
	}
	return 0;
}
