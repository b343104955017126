/* gdn_prefill.h - Gated DeltaNet, prompt form: chunks of 64 tokens in the WY form
 * (docs/numerics.md; Yang et al., "Parallelizing Linear Transformers with the Delta Rule", 2024,
 * and the gated rule of 2025).
 *
 * Continues the same float32 state and the same convolution window as gdn_step.h, from the same
 * projected rows, and ends with the same gated norm.  Three kernels: convolution and norms; what of
 * a chunk needs no state, every chunk of every key head by itself; and the chunks of a run in order
 * with the state in registers.
 *
 * Rows come in runs: consecutive positions of one sequence, the first at a multiple of 64, n a
 * multiple of
 * 64 unless the run ends the prompt.  A row's bits are a function of its own sequence and that
 * grid: not of how the prompt was cut into runs, of other runs, or of which of the scan's forms the
 * number of runs makes the host choose.
 *
 * Plain C.  Device pointers; borrowed until the stream has passed the call.  Enqueues on `stream`
 * (a cudaStream_t), waits for nothing.
 */
#ifndef HEARTH_KERNELS_CUDA_GDN_PREFILL_H
#define HEARTH_KERNELS_CUDA_GDN_PREFILL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GDN_CHUNK 64		/* tokens */

struct gdn_prefill_run {
	uint32_t slot;		/* whose state */
	uint32_t row;		/* first row in u, z, a, b, o, out */
	uint32_t n;		/* rows, >= 1 */
	uint32_t side;	/* which copy of the window is the present one; the other is written */
	uint32_t first_chunk;	/* out of gdn_prefill_plan() */
};

struct gdn_chunk {
	uint32_t run;		/* place in the runs */
	uint32_t index;		/* of the chunk in its run */
};

/* Host memory.  Fills first_chunk of the runs and at most `room` chunks; returns how many chunks
 * the runs have (more than room: the call needs a longer list, nothing past room was written). */
uint32_t gdn_prefill_plan(struct gdn_prefill_run *runs, uint32_t n_runs, struct gdn_chunk *chunks,
			  uint32_t room);

struct gdn_prefill_args {
	const struct gdn_prefill_run *runs;	/* [n_runs] in device memory, planned */
	const struct gdn_chunk *chunks;		/* [n_chunks] in device memory */
	uint32_t n_runs, n_chunks;
	uint32_t k_heads, v_heads;	/* v_heads 1 to 4 times k_heads */
	uint32_t ld;		/* elements between rows of u, a, b and z; a multiple of 8 */
	const void *u; /* bf16 [rows][ld], (2 k_heads + v_heads) 128 each: q, k, v before the
				 * convolution; 16 byte aligned, as is z */
	const void *a, *b;	/* bf16 [rows][ld], v_heads each */
	const void *z;		/* bf16 [rows][ld], v_heads 128 each: the gate */
	/* bf16 [channels][4]; tap 3 is the current token; 16 byte aligned */
	const void *conv_w;
	const float *a_log, *dt_bias;	/* [v_heads] */
	void *window;		/* bf16 [n_slots][2 sides][3][channels]; in and out */
	float *state;		/* [n_slots][v_heads][128 value][128 key]; in and out */
	const void *norm_w;	/* bf16 [128], plain */
	float eps;
	void *room;		/* gdn_prefill_room() bytes, 128 byte aligned, content lost */
	float *o;	/* NULL, or out [rows][v_heads][128], before the gated norm: for tests */
	void *out;	/* out bf16 [rows][v_heads][128]: bf16((w o r) silu(z)); 16 byte aligned */
	uint32_t form;	/* 0: the host chooses.  GDN_SCAN_*: this one, for tests and measurements */
};

enum gdn_scan_form {
	GDN_SCAN_AUTO,
	GDN_SCAN_APART,		/* every block fetches for itself: any GPU */
	GDN_SCAN_TOGETHER,	/* the four blocks of a head fetch for one another: H100, H200 */
};

/* Bytes for n_chunks chunks. */
size_t gdn_prefill_room(uint32_t k_heads, uint32_t v_heads, uint32_t n_chunks);

/* 0; -EINVAL: a shape or alignment that these kernels do not take, nothing enqueued; -ENODEV:
 * launch failed. */
int gdn_prefill(const struct gdn_prefill_args *a, void *stream);

#ifdef __cplusplus
}
#endif

#endif
