/* step_model.h - the weights that are measured: a checkpoint, or none with a real model's shape. */
#ifndef HEARTH_BENCH_STEP_MODEL_H
#define HEARTH_BENCH_STEP_MODEL_H

#include "kernels/dummy.h"
#include "kernels/model.h"
#include "kernels/quantize.h"
#include "lib/err.h"
#include "worker/traffic.h"
#include "worker/weights/checkpoint.h"

struct step_model {
	struct model_shape shape;
	struct weight_source source;	/* what is loaded: converted, if that was asked for */
	struct weight_source plain;	/* the same before */
	struct quantized *quantized;
	struct checkpoint *checkpoint;	/* NULL: made up */
	struct dummy dummy;		/* plain.ctx then */
	struct traffic traffic;		/* of the source's formats */
};

/* name: a model folder or hub id; or NULL, and then weights of recipe `dummy` in shape `shape`
 * ("35b", "27b", a folder with config.json), without MTP.  quantize: kernels/quantize.h.  *ret must
 * stay where it is.  -EINVAL: no such recipe; what config.json and checkpoint say. */
int step_model_open(const char *name, const char *dummy, const char *shape, enum quantize quantize,
		    struct step_model *ret, struct err *e);
void step_model_close(struct step_model *m);
/* "experts 30720 NVFP4; head 1 BF16; ..." */
void step_model_formats(const struct step_model *m, char *ret, size_t room);

#endif
