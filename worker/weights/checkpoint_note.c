/* checkpoint_note.c - what is odd about a checkpoint, a line each: see checkpoint.h. */
#include <stdio.h>

#include "worker/weights/checkpoint.h"

typedef bool note(const struct checkpoint_facts *f, char *line, size_t room);

static bool note_method(const struct checkpoint_facts *f, char *line, size_t room)
{
	const char *method = quant_config_method(f->quant);

	if (method)
		snprintf(line, room, "weights quantised by %s%s", method,
			 quant_config_activations(f->quant) ?
				 "; it means activations to be quantised too: they stay bfloat16 here" : "");
	return method != NULL;
}

static bool note_disagree(const struct checkpoint_facts *f, char *line, size_t room)
{
	snprintf(line, room, "%u matrices are not what the configuration says (the first: %s); the "
		 "tensors decide", f->n_disagree, f->first_disagree);
	return f->n_disagree > 0;
}

static bool note_vision(const struct checkpoint_facts *f, char *line, size_t room)
{
	snprintf(line, room, "%u of %u vision tensors are quantised; all are passed over (%llu bytes)",
		 f->n_vision_quantised, f->n_vision, (unsigned long long)f->vision_bytes);
	return f->n_vision_quantised > 0;
}

static bool note_mtp(const struct checkpoint_facts *f, char *line, size_t room)
{
	snprintf(line, room, "no MTP tensors, though config.json has an MTP layer: no drafts");
	return f->mtp_declared && !f->has_mtp;
}

static bool note_kv(const struct checkpoint_facts *f, char *line, size_t room)
{
	snprintf(line, room, "keys and values are meant to be FP8 (%u scales; without one, 1.0): they stay "
		 "bfloat16 here", f->n_kv_scales);
	return f->n_kv_scales > 0 || quant_config_kv(f->quant);
}

static bool note_unused(const struct checkpoint_facts *f, char *line, size_t room)
{
	snprintf(line, room, "%u tensors belong to nothing that this program knows (the first: %s)",
		 f->n_unused, f->first_unused ? f->first_unused : "");
	return f->n_unused > 0;
}

bool checkpoint_note(const struct checkpoint *c, uint32_t i, char *line, size_t room)
{
	static note *const notes[] = { note_method, note_disagree, note_vision, note_mtp, note_kv,
				       note_unused };
	uint32_t n = 0;

	for (size_t k = 0; k < sizeof(notes) / sizeof(notes[0]); k++)
		if (notes[k](checkpoint_facts(c), line, room) && n++ == i)
			return true;
	return false;
}
