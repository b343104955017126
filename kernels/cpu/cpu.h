/* cpu.h - the insides of the CPU back end.
 *
 * A step runs on its own thread (cpu_device.c), which shares long loops out to a pool.
 * Activations are float32 arrays whose values are bfloat16 numbers where docs/numerics.md
 * rounds; weights of matrices are bfloat16 (float32 in NUMERICS_F32), packed for path.h.
 *
 * Layout.  A KV block holds for each attention layer K as [kv head][dim][64 positions] and
 * V as [kv head][64 positions][dim]; in FP8 (KV_FP8) the same of codes, and behind each head's
 * K and V the 64 powers of two of its positions (kernels/e4m3.h).  The MTP layer is one more
 * attention layer, whose entry for hidden state t (and token t + 1) stands at place t + 1: so a
 * block depends on the tokens up to its own end only, and can be shared.
 * A state holds for each GDN layer S [value head][dim][dim] and the last width - 1 inputs of
 * the convolution, and at the end the last final-norm row (what MTP will combine with the
 * next token).
 */
#ifndef HEARTH_KERNELS_CPU_CPU_H
#define HEARTH_KERNELS_CPU_CPU_H

#include "kernels/backend.h"
#include "kernels/cpu/path.h"
#include "kernels/cpu/pool.h"
#include "kernels/cpu/sample.h"
#include "kernels/cpu/slab.h"

struct mm_job;

struct layer {
	enum mixer_kind mixer;
	uint32_t place;			/* among the layers of its kind */
	float *input_norm, *post_norm;	/* 1 + w */
	struct mat qkv, z, a, b, out;	/* GDN */
	float *conv;			/* [width][channels] */
	float *a_decay, *dt_bias;	/* -exp(A_log), dt_bias */
	float *gdn_norm;
	struct mat q, k, v, o;		/* attention */
	float *q_norm, *k_norm;
	struct mat router;		/* experts */
	struct mat *gate, *up, *down;	/* n_experts each, then the shared expert; or one: dense */
	struct mat score;
};

struct slot {
	float *state;
	uint32_t last;			/* token sampled last */
	struct sampler *sampler;
};

/* Rows of prompts rounded to NVFP4; all NULL where nothing is (cpu_fp4.c). */
struct fp4_room {
	float *x;
	uint8_t *codes, *scales;	/* of one row */
	struct mm_job *jobs;
};

/* The rows of a step, and rooms for what is computed from them; each [rows][width]. */
struct rooms {
	uint32_t *token, *pos, *run;
	float *x, *xn, *h;		/* hidden */
	float *open;			/* x of a prompt between its parts */
	float *p0, *p1, *p2, *p3;	/* projections: qkv or q; z or k; v; a and b */
	float *mix;			/* what a mixer hands to its output matrix */
	float *y;			/* result of a mixer or an MLP, before it is added */
	float *cos, *sin;		/* rotary_dim / 2 */
	float *route;			/* router logits, then weights */
	uint32_t *chosen;		/* [rows][used] expert */
	uint32_t *where;		/* [rows][used] place among the gathered rows */
	float *ex, *eg, *eu, *ey;	/* [rows * used] gathered: input, gate, up, output */
	float *sg, *su, *sy, *score;	/* shared expert or dense MLP */
	float *mk, *mv;			/* MTP: key and value of the row after a sample */
	float *logits;			/* [n_slots][vocab] */
	float **work;			/* one a thread, for attention and GDN */
	struct mm_job *jobs;		/* of one MLP */
	bool *prompt;			/* the row is of a prompt */
	bool *gathered_prompt;		/* [rows * used], as ex */
	struct fp4_room fp4;
};

struct step;

struct cpu_device {
	struct device base;
	const struct cpu_path *path;
	struct pool *pool;
	bool round;			/* NUMERICS_BF16 */
	char text[128];
	enum fp4_prefill fp4;		/* wished for */
	bool fp4_used;			/* there is such a matrix */
	uint32_t n_gdn, n_attn;		/* layers; MTP counts as attention */
	size_t state_floats;
	size_t kv_part;			/* bytes of a head's K (or V) in a block, with powers */
	size_t block_bytes;
	double *inv_freq;
	float *embed;			/* NULL when embed16 */
	uint16_t *embed16;
	struct mat head, mtp_fc;
	float *final_norm, *mtp_embed_norm, *mtp_hidden_norm, *mtp_norm;
	struct layer *layers;
	struct slot *slots;
	char *kv;			/* n_blocks * block_bytes: uint16_t, float or codes */
	float e4m3[256];		/* what a code is */
	uint8_t *kv_codes;		/* room for a head's, while it is stored */
	struct rooms room;
	struct sample_room sample;
	uint64_t experts_active;	/* distinct, over decoder layers and steps, until they are asked for */
	struct slabs slabs;		/* all that load allocated */
	struct queue *queue;
};

static inline uint32_t pad16(uint32_t n)
{
	return (n + 15) / 16 * 16;
}

/* ---- load (cpu_load.c) --------------------------------------------------------- */

void *cpu_alloc(struct cpu_device *d, size_t n, size_t size);	/* zeroed; freed at close */
/* Rows first.. of a matrix into the layout of path.h, by all threads; the factors of quantised ones too.
 * m has its shape and its memory.  -EINVAL: something that is no finite number; -ENOTSUP. */
int cpu_pack(struct cpu_device *d, const struct weight_ref *part, uint32_t first, struct mat *m,
	     struct err *e);
uint32_t cpu_factors(const struct weight_ref *w);	/* of a group of 16 rows; 0: none */
int cpu_load_weights(struct cpu_device *d, const struct weight_source *w,
		     device_progress *progress, void *ctx, struct err *e);
int cpu_alloc_rooms(struct cpu_device *d);	/* these two: cpu_room.c */
void cpu_budget(const struct device *base, const struct weight_source *source, struct device_budget *ret);

/* ---- operations ------------------------------------------------------------------ */

struct mm_job {
	const struct mat *w;
	const float *x;
	size_t ldx;
	uint32_t n;
	float *out;
	size_t ldo;
	const bool *prompt;		/* [n], which rows of x are of prompts; NULL: none */
};

void cpu_matmul(struct cpu_device *d, const struct mm_job *jobs, uint32_t n_jobs);
/* cpu_fp4.c: whether prompts meet this matrix in FP4; floats a row that rounding takes; the jobs with
 * what is rounded in place of x. */
bool cpu_fp4_takes(struct cpu_device *d, enum weight_slot slot, uint32_t layer,
		   const struct weight_ref *w);
size_t cpu_fp4_room(const struct model_shape *s);
const struct mm_job *cpu_fp4_jobs(struct cpu_device *d, const struct mm_job *jobs, uint32_t n_jobs);
/* path->matmul, and then the scales of a quantised matrix (cpu_scale.c). */
void cpu_matmul_groups(const struct cpu_path *p, const struct mat *w, uint32_t g0, uint32_t g1,
		       const float *x, size_t ldx, uint32_t n_rows, float *out, size_t ldo);
static inline void cpu_matmul1(struct cpu_device *d, const struct mat *w, const float *x,
			       size_t ldx, uint32_t n, float *out, size_t ldo)
{
	struct mm_job j = { w, x, ldx, n, out, ldo, d->room.prompt };

	cpu_matmul(d, &j, 1);
}
/* out[r] = norm of x[r], all rows, width hidden. */
void cpu_norm_rows(struct cpu_device *d, const float *x, const float *w, uint32_t n, float *out,
		   size_t ldo);

/* The keys and values of one KV head in a block (cpu_kv.c). */
struct kv_view {
	void *k, *v;			/* [dim][64], [64][dim] */
	uint8_t *k_power, *v_power;	/* [64], KV_FP8 only */
};

void cpu_kv_init(struct cpu_device *d);		/* sizes, once the layers are counted */
struct kv_view cpu_kv_view(const struct cpu_device *d, uint32_t place, kv_block b, uint32_t head);
/* A block's as float32: [dim][64] and [64][dim], into the rooms or where they are. */
void cpu_kv_read(const struct cpu_device *d, const struct kv_view *kv, float *room_k, float *room_v,
		 const float **ret_k, const float **ret_v);

struct run_rows {		/* a run of the plan, as the operations see it */
	struct plan_run p;
	uint32_t row;		/* its first row */
	float *state;
};

struct step {
	struct run_rows *runs;
	uint32_t n_runs, n_rows;
	uint32_t part, n_parts;		/* of the last run; see step.h */
};

void cpu_gdn(struct cpu_device *d, const struct layer *l, const struct step *s);	/* xn -> y */
void cpu_attention(struct cpu_device *d, const struct layer *l, const struct step *s);
void cpu_mlp(struct cpu_device *d, const struct layer *l, uint32_t n_rows);		/* xn -> y */
void cpu_rope_tables(struct cpu_device *d, uint32_t n_rows);	/* pos -> cos, sin */
/* Keys of rows in p1: norm and rotation; then with the values in p2 into the blocks, row r at
 * `place` of run.  */
void cpu_kv_rows(struct cpu_device *d, const struct layer *l, uint32_t n_rows);
void cpu_kv_store(struct cpu_device *d, const struct layer *l, const kv_block *blocks,
		  uint32_t place, const float *k, const float *v);
void cpu_query_rows(struct cpu_device *d, const struct layer *l, uint32_t n_rows);
/* Row `row` of p0 over the places first..end-1 and, when ek is not NULL, one more key and
 * value; gated result into mix. */
void cpu_attend_row(struct cpu_device *d, const struct layer *l, const kv_block *blocks,
		    uint32_t first, uint32_t end, const float *ek, const float *ev, uint32_t row,
		    uint32_t kv_head, float *work);
/* MTP keys and values of all rows, and the drafts of those that sampled. */
void cpu_mtp(struct cpu_device *d, const struct step *s, struct run_result *results);

void cpu_run_step(struct cpu_device *d, const struct step *s, struct run_result *results);
void cpu_digest(struct cpu_device *d, const struct step *s, const struct run_rows *r,
		const float *logits, struct step_digest *ret);
/* Fills `ret` for one of measure.h; no step runs meanwhile. */
int cpu_measure(struct cpu_device *d, enum measure what, struct device_measures *ret);
/* x[pos] of a table row. */
void cpu_embed_row(const struct cpu_device *d, uint32_t token, float *out);

static inline uint32_t gdn_channels(const struct model_shape *s)
{
	return (2 * s->gdn_k_heads + s->gdn_v_heads) * s->gdn_head_dim;
}

#endif
