/* state_copy.cu - states of slots and blocks of KV, out to the host and in again. */
#include <errno.h>

#include "kernels/cuda/device_int.h"

size_t cuda_state_bytes(const struct cuda_device *d)
{
	return d->n_gdn * (d->state_slot + d->window_side);
}

size_t cuda_block_bytes(const struct cuda_device *d)
{
	return d->n_attn * 2 * (d->kv_half / d->limits.n_blocks);
}

/* On the stream and waited for: a plain cudaMemcpy() in may return before it has arrived. */
static int copy(struct cuda_device *d, void *device, void *host, size_t bytes, bool save)
{
	const cudaMemcpyKind way = save ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice;
	void *to = save ? host : device;
	const void *from = save ? device : host;

	return device_code(d, cudaMemcpyAsync(to, from, bytes, way, d->stream)) ?:
	       device_code(d, cudaStreamSynchronize(d->stream));
}

static int state_copy(struct cuda_device *d, uint32_t slot, char *host, bool save)
{
	if (!d->loaded || slot >= d->limits.n_slots)
		return -EINVAL;
	if (d->lost)
		return -ENODEV;
	if (save && d->n_kept[slot])
		return -EINVAL;		/* not on the grid: the state is not all there is */
	if (!save)
		d->n_kept[slot] = 0;
	for (uint32_t l = 0; l < d->n_gdn; l++) {
		if (copy(d, state_at(d, l, slot), host, d->state_slot, save) ||
		    copy(d, window_at(d, l, slot, d->side[slot]), host + d->state_slot,
			 d->window_side, save))
			return -ENODEV;
		host += d->state_slot + d->window_side;
	}
	return 0;
}

static int block_copy(struct cuda_device *d, kv_block b, char *host, bool save)
{
	const size_t each = d->kv_half / d->limits.n_blocks;

	if (!d->loaded || b >= d->limits.n_blocks)
		return -EINVAL;
	if (d->lost)
		return -ENODEV;
	for (uint32_t l = 0; l < d->n_attn; l++)
		for (int half = 0; half < 2; half++, host += each)
			if (copy(d, kv_at(d, l, half) + each * b, host, each, save))
				return -ENODEV;
	return 0;
}

int cuda_state_save(struct cuda_device *d, uint32_t slot, void *ret)
{
	return state_copy(d, slot, (char *)ret, true);
}

int cuda_state_restore(struct cuda_device *d, uint32_t slot, const void *from)
{
	return state_copy(d, slot, (char *)from, false);
}

int cuda_block_save(struct cuda_device *d, kv_block b, void *ret)
{
	return block_copy(d, b, (char *)ret, true);
}

int cuda_block_restore(struct cuda_device *d, kv_block b, const void *from)
{
	return block_copy(d, b, (char *)from, false);
}
