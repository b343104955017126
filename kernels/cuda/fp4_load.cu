/* fp4_load.cu - whether prompts are multiplied in FP4: asked for, possible on this chip, and found
 * right there.
 *
 * A wish that cannot be granted costs nothing but the speed it hoped for: the worker says so,
 * loudly, and goes on without. */
#include <errno.h>

#include "kernels/cuda/device_int.h"

extern "C" {
#include "lib/err.h"
}

static void give_up(struct cuda_device *d, const std::string &why)
{
	d->fp4 = FP4_PREFILL_OFF;
	d->load_note = std::string("prefill-fp4 ") + fp4_prefill_name(d->limits.fp4) +
		       " is NOT in use: " + why + "; prompts are multiplied in bfloat16";
}

void fp4_ask(struct cuda_device *d)
{
	d->fp4 = d->limits.fp4;
	if (d->fp4 != FP4_PREFILL_OFF && !prefill_fp4_here())
		give_up(d,
			"this chip has no block-scaled FP4 product (RTX PRO 6000 and GB10 have)");
}

/* The wish is for NVFP4 weights alone. */
static bool any_nvfp4(const struct cuda_device *d)
{
	for (uint32_t l = 0; l < d->m.n_layers; l++) {
		const struct layer_weights &w = d->w.layer[l];

		for (const struct matrix *m : { &w.expert_gate_up, &w.gate_up, &w.shared_in })
			if (m->n && m->format == MATMUL_NVFP4)
				return true;
		if (d->fp4 != FP4_PREFILL_ALL)
			continue;
		for (const struct matrix *m : { &w.mixer_out, &w.expert_down, &w.down })
			if (m->n && m->format == MATMUL_NVFP4)
				return true;
		for (uint32_t i = 0; i < w.mixer_in.n_parts; i++)
			if (w.mixer_in.part[i].format == MATMUL_NVFP4)
				return true;
	}
	return false;
}

int fp4_load(struct cuda_device *d, struct err *e)
{
	char text[PREFILL_FP4_TEXT];
	int rc;

	if (d->fp4 == FP4_PREFILL_OFF)
		return 0;
	if (!any_nvfp4(d)) {
		give_up(d, "no such matrix of this model is NVFP4");
		return 0;
	}
	rc = prefill_fp4_check(text, d->stream);
	if (rc == -ENODEV)
		return err_set(e, -ENODEV, "cuda:%d: prefill-fp4: %s", d->ordinal, text);
	if (rc)
		give_up(d, rc == -EIO ?
				   std::string("this chip's FP4 product is not the reference's (") +
					   text + ")" :
				   text);
	else
		d->numeric_text += std::string(" prefill-fp4=") + fp4_prefill_name(d->fp4);
	return 0;
}
