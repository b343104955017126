/* device_int.h - the inside of the CUDA back end, shared by device.cu, slot.cu, submit.cu, plan.cu,
 * forward.cu, prefill.cu and their like.
 *
 * A step is one or more *passes* through all layers: of decode and replay rows, PASS_ROWS at most,
 * by the decode kernels (forward.cu), and of prompt rows, prefill_rows_liked() at most, by the prefill
 * kernels (prefill.cu).  A decode pass is described by fixed arrays (struct pass_meta) that one
 * kernel brings (pass_bring.cu); kernels find all that changes from step to step there, at places
 * that do not, so that a pass can be replayed as a graph.
 */
#ifndef HEARTH_KERNELS_CUDA_DEVICE_INT_H
#define HEARTH_KERNELS_CUDA_DEVICE_INT_H

#include <cuda_runtime.h>

#include <map>
#include <string>
#include <vector>

#include "kernels/cuda/attn_decode.h"
#include "kernels/cuda/attn_prefill.h"
#include "kernels/cuda/decode_matmul.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/gdn_prefill.h"
#include "kernels/cuda/gdn_step.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prefill_fp4.h"
#include "kernels/cuda/prefill_matmul.h"
#include "kernels/cuda/residual.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sample.h"
#include "kernels/cuda/weights.h"

#define PASS_ROWS MATMUL_MAX_ROWS
#define PREFILL_RUNS PASS_ROWS
#define PREFILL_SLOTS 128	/* partial results of attention over long contexts */

/* Rows of a prefill pass; what they need of workspace is reserved.  More of them fill the experts' tiles better
 * (3 to 4 % of a prompt of 32,768 on an H200), and keep whoever comes behind waiting for longer: so twice as
 * many only where 8,192 are done in a tenth of a second. */
#define PREFILL_ROWS 8192
static inline uint32_t prefill_rows_liked(void)
{
	return device_major() == 9 ? 2 * PREFILL_ROWS : PREFILL_ROWS;
}

struct pass_meta {
	alignas(16) struct sample_out *out;	/* where samples are reported: in pinned memory, the pass's own */
	uint64_t pad;				/* brought by 16 bytes (pass_bring.cu) */
	struct embed_row embed[PASS_ROWS];
	struct qk_row qk[PASS_ROWS];
	struct attn_row attn[PASS_ROWS];
	struct gdn_run gdn[PASS_ROWS];
	struct sample_row sample[PASS_ROWS];
	uint32_t head[PASS_ROWS];	/* rows that need logits */
	uint32_t token[PASS_ROWS];	/* for the output counts of a replay */
};

/* The same for a prefill pass: arrays in one piece of memory, sized for what the limits allow. */
struct prefill_meta {
	char *blob;
	size_t bytes;
	struct embed_row *embed;
	struct qk_row *qk;
	struct gdn_prefill_run *gdn;
	struct gdn_chunk *chunk;
	struct attn_tile *tile;
	struct sample_row *sample;
	uint32_t *head;			/* rows that are sampled or digested */
	uint32_t *table;
};

/* A run's part of a pass. */
struct piece {
	uint32_t run, slot, row, n, pos;
	bool first, last;		/* of its run */
	int32_t head;			/* its first row among the head rows; -1: none */
	uint32_t n_head;		/* 1 (the last row) or n; in a prefill pass 1 at most */
	float *logits;			/* where the caller wants them */
	bool count;
};

struct pass {
	bool prefill;
	uint32_t part, n_parts;		/* of a prompt in parts (step.h); 0, 0: whole */
	uint32_t n_chunks, n_tiles;	/* prefill: known once it is described */
	uint32_t n_rows, n_head, n_sample, max_length, n_table;
	std::vector<struct piece> pieces;
	std::vector<uint32_t> sample_run;	/* sample i belongs to this run of the plan */
};

/* Pinned memory of one pass in flight. */
struct staging {
	struct prefill_meta prefill;
	struct pass_meta *meta;
	uint32_t *table;
	struct sample_out *out;
};

struct flight {
	std::vector<struct pass> passes;
	std::vector<struct run_result> results;
	std::vector<struct staging> staging;	/* as many as a step can have passes */
	cudaEvent_t done;
};

/* Device memory of a pass; sizes in workspace_layout(). */
struct workspace {
	char *slab;
	size_t bytes;
	struct pass_meta *meta;
	struct prefill_meta prefill;
	void *gdn_room, *prefill_list, *fp4;	/* fp4: rows of x for the FP4 product */
	float *attn_slots;
	uint32_t *table;
	uint64_t *keys, *active;		/* active: distinct experts, summed */
	void *prompt_x, *prompt_h;	/* x and h of a prefill pass: between the parts of a prompt there are
					 * decode passes, to which all else is free */
	void *x, *h, *hn, *u, *og, *q, *gate, *ao, *act, *shared_act;
	float *y, *router, *choice_weight, *expert_y, *logits, *attn;
	float *raw_logits;	/* for digests: sampling writes over the others */
	uint32_t *choice;
	void *list;
	uint32_t *row_room;	/* expert_room_words() */
	uint32_t *end_room;	/* mixer_end_room_words() */
	uint64_t attn_floats;
};

/* A prompt that is taken in parts: what pass_describe() wrote and found for the first holds for all.
 * Pinned memory in turns: one that was given up may still be on its way when the next begins. */
struct open_prompt {
	struct prefill_meta meta[STEP_AHEAD];
	unsigned turn;
	uint32_t n_chunks, n_tiles;
};

struct mark {
	enum cuda_class c;
	cudaEvent_t at;
};

struct cuda_device {
	int ordinal;
	bool lost, loaded, profile;
	cudaError_t lost_code;	/* of the call that told; cudaSuccess: not kept */
	char lost_text[160];
	struct model_shape m;
	struct device_limits limits;
	std::string numeric_text, load_note;
	enum fp4_prefill fp4;	/* what is done of limits.fp4 */
	cudaStream_t stream;
	struct weights w;
	bool ends_mixers[END_MAX_ROWS + 1];	/* expert_plan_load(): by rows of a pass */

	uint32_t pass_rows, prefill_rows, table_entries, max_passes, n_gdn, n_attn, channels, value;
	uint32_t index[MODEL_MAX_LAYERS];	/* of a layer among those of its mixer */

	/* KV and states */
	char *kv, *state, *window;
	struct gdn_kept *kept;
	size_t kv_layer, kv_half, state_slot, window_side;	/* bytes */
	void *cos, *sin;

	/* slots */
	struct sample_params *params;
	struct sample_bias *bias;
	uint32_t *counts, *last_sample;
	std::vector<uint8_t> side, penalise;
	std::vector<uint32_t> n_kept;	/* of a slot: tokens beside its states (gdn_step.h) */
	uint32_t *begin_ids[2];			/* pinned, max_context each */
	struct sample_bias *begin_bias[2];	/* pinned */
	cudaEvent_t begin_done[2];
	unsigned begin_next;

	struct workspace ws;
	struct flight flights[STEP_AHEAD];
	unsigned oldest, n_flights;
	struct open_prompt open;
	std::map<std::vector<uint32_t>, cudaGraphExec_t> graphs;
	std::vector<struct mark> marks;
	struct cuda_stats stats;
};

/* device.cu: 0, or -ENODEV: a call that must not fail while the device is there did; it is lost. */
int device_code(struct cuda_device *d, cudaError_t e);

/* rotation.cu: of one of the two tables; both, into d->cos and d->sin. */
size_t rotation_bytes(const struct cuda_device *d);
int rotation_load(struct cuda_device *d);

/* forward_experts.cu: words of the rooms through which blocks give each other what they made: one row's experts; mixers' ends
 * of few rows, all zeros between passes. */
uint32_t expert_room_words(const struct cuda_device *d);
uint32_t mixer_end_room_words(const struct cuda_device *d);
/* And, once weights and workspace have their places: in which passes mixers end in one kernel. */
void expert_plan_load(struct cuda_device *d);

/* plan.cu: 0 and the passes, or -EINVAL/-ENOTSUP.  Changes nothing of d. */
int plan_cut(const struct cuda_device *d, const struct plan *p, std::vector<struct pass> *ret);
/* Writes what the kernels read about a pass; of a prefill pass also n_chunks and n_tiles. */
int pass_describe(const struct cuda_device *d, const struct plan *p, struct pass *pass,
		  const struct staging *to);
/* Lays the arrays out from `blob` on (NULL: only the size). */
void prefill_meta_layout(const struct cuda_device *d, char *blob, struct prefill_meta *ret);

/* pass_bring.cu: enqueues the copy of a decode pass's description to where its kernels read it. */
int pass_bring(struct cuda_device *d, const struct pass *pass, const struct staging *s);
/* pass.cu: enqueues a pass from embedding to sample. */
int pass_forward(struct cuda_device *d, const struct pass *pass);
/* The pass comes to the last layer, and samples. */
static inline bool pass_ends(const struct pass *p)
{
	return p->part + 1 >= p->n_parts;
}
/* prefill.cu: the same for a prefill pass, or the part of it; `from` is what pass_describe() wrote. */
int prefill_forward(struct cuda_device *d, const struct pass *pass, const struct staging *from);

/* forward.cu, forward_experts.cu, pass.cu: what both use. */
/* after work of a class was enqueued */
void pass_mark(struct cuda_device *d, enum cuda_class c);
/* what a mixer's first matrix gives, side by side: q k v z b a */
uint32_t gdn_width(const struct cuda_device *d);
uint32_t gdn_ld(const struct cuda_device *d);		/* its rows are so far apart */
uint32_t attention_width(const struct cuda_device *d);	/* q with gates, k, v */
uint32_t slots_of(const struct cuda_device *d);		/* experts of a row, the shared one last */
/* logits = head of the gathered rows; hn holds them. */
int pass_head(struct cuda_device *d, const void *h, const uint32_t *rows, uint32_t n);
/* out: pinned memory; NULL: where the pass's description says. */
int pass_samples(struct cuda_device *d, const struct sample_row *rows, uint32_t n, struct sample_out *out);
struct strided {
	char *at;
	uint32_t ld;	/* elements between rows */
};
/* Where the shared expert's gated activations are. */
struct strided shared_act(const struct cuda_device *d);
/* One product gives both what the router says and the shared expert's activations. */
static inline bool shared_in_follows(const struct layer_weights *w)
{
	return w->shared_in.n && w->router.format == MATMUL_BF16 &&
	       w->shared_in.format == MATMUL_BF16;
}
/* fp4_load.cu: before the workspace is laid out, whether the chip can do limits.fp4; after loading, whether what
 * it does is right: d->fp4, d->load_note, the numeric text. */
void fp4_ask(struct cuda_device *d);
int fp4_load(struct cuda_device *d, struct err *e);	/* -ENODEV: the check broke the device */
/* workspace.cu: lays the arrays out from `slab` on (NULL: only the size). */
void workspace_layout(const struct cuda_device *d, char *slab, struct workspace *ret);

/* digest.cu: waits for the stream, then adds a pass to its runs' digests. */
int pass_digest(struct cuda_device *d, const struct pass *pass, struct run_result *results);

/* Partial results that attention over long contexts keeps; 0: no sequence is that long. */
static inline uint32_t attn_slots(const struct cuda_device *d)
{
	const uint32_t segments = attn_prefill_segments(d->limits.max_context);

	return !d->n_attn || segments == 1 ? 0 :
	       segments > PREFILL_SLOTS	   ? segments :
					     PREFILL_SLOTS;
}

static inline char *kv_at(const struct cuda_device *d, uint32_t layer, int half)
{
	return d->kv + d->kv_layer * layer + d->kv_half * (size_t)half;
}

static inline char *state_at(const struct cuda_device *d, uint32_t layer, uint32_t slot)
{
	return d->state + ((size_t)layer * d->limits.n_slots + slot) * d->state_slot;
}

static inline size_t kept_slot(const struct cuda_device *d)	/* bytes, a layer's */
{
	return d->m.gdn_v_heads * sizeof(struct gdn_kept);
}

/* The first head's. */
static inline struct gdn_kept *kept_at(const struct cuda_device *d, uint32_t layer, uint32_t slot)
{
	return d->kept + ((size_t)layer * d->limits.n_slots + slot) * d->m.gdn_v_heads;
}

static inline char *window_at(const struct cuda_device *d, uint32_t layer, uint32_t slot,
			      uint32_t side)
{
	return d->window + (((size_t)layer * d->limits.n_slots + slot) * 2 + side) * d->window_side;
}

#endif
