/* checkpoint.h - the weights of a model folder as a struct weight_source.
 *
 * Resolves every weight that the shape asks for before anything is allocated for it: all spellings
 * of the names (with and without the language_model prefix, experts fused or one by one, the MTP
 * layer under mtp. or model.mtp., in a file of its own or not), all shapes, and for each matrix
 * by itself its format (module.h): plain, FP8 or NVFP4, mixed as the exporter liked.  Vision tensors are
 * passed over, quantised or not.
 *
 * Headers and single numbers are read past the page cache; matrices are by the source's stream, in
 * the way that checkpoint_read_by() chose.  What find() points to is mapped: whoever reads there does it
 * through the page cache, and checkpoint_drop() takes it out again.
 *
 * Thread: once open it is read-only, but for one stream at a time.
 */
#ifndef HEARTH_WORKER_WEIGHTS_CHECKPOINT_H
#define HEARTH_WORKER_WEIGHTS_CHECKPOINT_H

#include "kernels/model.h"
#include "lib/err.h"
#include "worker/weights/hf_config.h"
#include "worker/weights/piece_stream.h"
#include "worker/weights/quant_config.h"

struct checkpoint;

/* A checkpoint without any mtp.* tensor (Hugging Face drops them when it saves) opens with
 * config->shape.n_mtp_layers set to 0.  -ENOENT: no weights there; -EINVAL: broken, one
 * line with file, tensor, expected and found; -ENOTSUP: a format that is not known; -ENOMEM. */
int checkpoint_open(const char *dir, struct hf_config *config, struct checkpoint **ret,
		    struct err *e);
struct checkpoint *checkpoint_close(struct checkpoint *c);	/* NULL ok */

/* Valid while c is open. */
const struct weight_source *checkpoint_source(const struct checkpoint *c);

/* How its stream reads; READ_AUTO when nobody says.  READ_MAPPED: it has no stream.  -ENOTSUP: not on
 * this machine (one line). */
int checkpoint_read_by(struct checkpoint *c, enum read_how how, struct err *e);
/* After a load: how it was read, in words. */
void checkpoint_read_text(const struct checkpoint *c, char *line, size_t room);
const struct read_stats *checkpoint_read_stats(const struct checkpoint *c);
/* What was read through find()'s pointers leaves the page cache, unless READ_MAPPED was asked for. */
void checkpoint_drop(const struct checkpoint *c);
/* File i of n_files, for whoever reads them all; NULL behind the last. */
const char *checkpoint_file(const struct checkpoint *c, uint32_t i, uint64_t *ret_bytes);

/* What a person may want to know of the folder, and nothing else depends on. */
struct checkpoint_facts {
	uint32_t n_files, n_tensors;		/* vision included */
	uint32_t n_vision, n_vision_quantised;	/* passed over */
	uint64_t vision_bytes;
	uint32_t n_unused;			/* nobody asks for them */
	const char *first_unused;
	uint32_t n_kv_scales;			/* for keys and values in FP8; not read */
	bool mtp_declared, has_mtp;		/* in config.json; among the tensors */
	/* matrices whose format is not what the configuration says; the tensors are right */
	uint32_t n_disagree;
	char first_disagree[256];
	const struct quant_config *quant;
};

/* Valid while c is open. */
const struct checkpoint_facts *checkpoint_facts(const struct checkpoint *c);
/* The facts that deserve a line, in words: line i = 0, 1, ...; false behind the last. */
bool checkpoint_note(const struct checkpoint *c, uint32_t i, char *line, size_t room);

#endif
