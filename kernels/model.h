/* model.h - the shape of a Qwen3.5 / Qwen3.6 decoder, and where its weights come from.
 *
 * Plain C, no CUDA: worker/weights fills these from a checkpoint, the back ends
 * read them.  Everything here was checked by whoever filled it: a back end may
 * believe a shape, and must answer -ENOTSUP for one that it cannot run.
 *
 * Matrices are row-major [rows, cols] = [out, in]; y[r] = sum_c W[r][c] x[c].
 */
#ifndef HEARTH_KERNELS_MODEL_H
#define HEARTH_KERNELS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

#define MODEL_MAX_LAYERS 256

enum mixer_kind { MIXER_GDN, MIXER_ATTENTION };

struct model_shape {
	uint32_t hidden;		/* width of the residual stream */
	uint32_t n_layers;		/* decoder layers, without the MTP layer */
	uint8_t mixer[MODEL_MAX_LAYERS];/* enum mixer_kind of each layer */
	uint32_t vocab_rows;		/* rows of embedding and head, padding included */
	uint32_t n_token_ids;		/* ids with a string; ids from here on are never sampled */
	float norm_eps;
	uint32_t max_positions;

	/* gated attention */
	uint32_t n_q_heads, n_kv_heads;	/* query head h reads KV head h / (n_q / n_kv) */
	uint32_t head_dim;
	uint32_t rotary_dim;		/* the first dims of a head, rotate-half inside them */
	double rope_theta;
	uint32_t mrope_section[3];	/* of rotary_dim / 2 frequencies, interleaved T H W */
	double yarn_factor;		/* 1: plain RoPE */
	uint32_t yarn_original;		/* positions the model was trained for */
	double yarn_attention_factor;	/* on cos and sin; 1 without YaRN */

	/* Gated DeltaNet */
	uint32_t gdn_k_heads, gdn_v_heads;	/* value head h uses key head h / (v / k) */
	uint32_t gdn_head_dim;			/* of keys and of values */
	uint32_t gdn_conv_width;

	/* feed-forward: experts when n_experts > 0, else dense */
	uint32_t n_experts, n_experts_used;
	uint32_t expert_inter, shared_inter;	/* shared_inter 0: no shared expert */
	uint32_t dense_inter;

	uint32_t n_mtp_layers;		/* 0 or 1; its layer index below is n_layers */
};

/* What a weight is.  The layer of those above W_PER_LAYER is 0. */
enum weight_slot {
	W_EMBED,		/* [vocab_rows, hidden] */
	W_HEAD,			/* [vocab_rows, hidden]; the embedding when the model ties them */
	W_FINAL_NORM,		/* [hidden]; zero-centred (1 + w), as all norms but W_GDN_NORM */
	W_MTP_FC,		/* [hidden, 2 hidden]: columns embedding first, then hidden */
	W_MTP_EMBED_NORM, W_MTP_HIDDEN_NORM, W_MTP_NORM,	/* [hidden] */
	W_PER_LAYER,		/* not a weight: from here on one per layer */
	W_INPUT_NORM = W_PER_LAYER, W_POST_NORM,		/* [hidden] */
	W_GDN_QKV,		/* [(2 k_heads + v_heads) dim, hidden]: q heads, k heads, v heads */
	W_GDN_Z,		/* [v_heads dim, hidden] */
	W_GDN_A, W_GDN_B,	/* [v_heads, hidden] */
	W_GDN_CONV,		/* [channels of QKV, conv_width]; the last tap is the current token */
	W_GDN_A_LOG, W_GDN_DT_BIAS,	/* [v_heads] */
	W_GDN_NORM,		/* [dim], plain w */
	W_GDN_OUT,		/* [hidden, v_heads dim] */
	W_Q,			/* [q_heads 2 head_dim, hidden]: per head query, then gate */
	W_K, W_V,		/* [kv_heads head_dim, hidden] */
	W_O,			/* [hidden, q_heads head_dim] */
	W_Q_NORM, W_K_NORM,	/* [head_dim] */
	W_ROUTER,		/* [experts, hidden] */
	W_EXPERT_GATE, W_EXPERT_UP,	/* [expert_inter, hidden], one per expert */
	W_EXPERT_DOWN,			/* [hidden, expert_inter], one per expert */
	W_SHARED_GATE, W_SHARED_UP,	/* [shared_inter, hidden] */
	W_SHARED_DOWN,			/* [hidden, shared_inter] */
	W_SHARED_SCORE,			/* [1, hidden]: sigmoid of it scales the shared expert */
	W_MLP_GATE, W_MLP_UP,		/* [dense_inter, hidden] */
	W_MLP_DOWN,			/* [hidden, dense_inter] */
	W_N_SLOTS
};

/* What the bytes of a matrix are.  Vectors (rows == 1 by the list above) and the embedding
 * are always plain; any matrix may be quantised, each in its own format. */
enum weight_format {
	WF_F32, WF_F16, WF_BF16,	/* plain: data[r][c] is the weight */
	WF_FP8,				/* e4m3fn bytes: weight = e4m3(data[r][c]) * scale */
	WF_NVFP4,			/* e2m1, two in a byte: weight = e2m1(code) * scale * global */
	WF_N
};

const char *weight_slot_name(enum weight_slot s);
const char *weight_format_name(enum weight_format f);	/* "BF16", "NVFP4" */
static inline bool weight_is_plain(enum weight_format f)
{
	return f <= WF_BF16;
}

/* One matrix (or vector: rows == 1) as it lies in a checkpoint.
 *
 * All pointers are borrowed from the source, valid while it is open, little-endian, maybe
 * unaligned.  `data` is row-major; column c of an NVFP4 row is in byte c / 2, the even column in
 * the low nibble (bit 3 of a nibble is the sign), and cols is a multiple of 16.
 *
 * The scales of a quantised matrix are an array of its own, row-major [weight_scale_rows()]
 * [weight_scale_cols()], not swizzled; the scale of element (r, c) is
 * scale[r / span_rows][c / span_cols], always a multiplier.  What occurs:
 *
 *	format	  span_rows  span_cols	scale_format	  written by
 *	WF_FP8	  128	     128	WF_BF16, WF_F32   official Qwen FP8 (weight_scale_inv)
 *	WF_FP8	  1	     cols	the same, WF_F16  compressed-tensors, per channel
 *	WF_FP8	  rows	     cols	the same	  per tensor: ModelOpt, compressed-tensors
 *	WF_NVFP4  1	     16		WF_FP8 (e4m3)	  both
 *
 * `global` is NVFP4's second factor, a multiplier whatever the checkpoint keeps: ModelOpt's
 * weight_scale_2 as it is, 1.0f / weight_global_scale of compressed-tensors (one float32 division, here
 * and nowhere else).  It belongs to this matrix alone: q, k and v, gate and up, and every expert
 * have their own.  1 in every other format that comes out of a checkpoint.
 *
 * e4m3(data) and e2m1(code) * scale are exact in bfloat16; what is left (global, and the FP8
 * scales) is applied to float32 sums as docs/numerics.md says.  `global` is finite and not
 * negative.  NaN among bytes and scales is not looked for when a checkpoint is opened, since that
 * would read all of it: whoever repacks a matrix meets every byte, and refuses it by name.
 * Scales for activations are not here: activations stay bfloat16.
 */
struct weight_ref {
	enum weight_format format;
	uint32_t rows, cols;
	const void *data;	/* weight_data_bytes() */
	const char *name;	/* tensor name, for messages */
	const char *file;	/* path of the file it lies in, likewise; NULL: in none */
	/* the rest counts only when !weight_is_plain(format) */
	enum weight_format scale_format;
	uint32_t span_rows, span_cols;	/* of the matrix, that one scale covers */
	const void *scale;	/* weight_scale_bytes() */
	const char *scale_file;	/* as file; a shard may end between a matrix and its scales */
	float global;
	bool streamed;	/* of any format: data and scale are NULL until a stream makes them */
};

size_t weight_row_bytes(enum weight_format f, uint32_t cols);	/* of one row of data */
size_t weight_data_bytes(const struct weight_ref *w);
uint32_t weight_scale_rows(const struct weight_ref *w);		/* 0 for a plain matrix */
uint32_t weight_scale_cols(const struct weight_ref *w);
size_t weight_scale_bytes(const struct weight_ref *w);

/* Puts `file`, a weight's or its scales', before the text in e; NULL: leaves it.  Answers code.  Of 42
 * shards it is one that must be fetched again. */
int weight_in_file(const char *file, int code, struct err *e);

struct weight_stream;
struct weight_piece;
struct weight_room;

struct weight_source {
	void *ctx;
	/* 0; -ENOENT: this model has no such weight.  `expert` counts only for
	 * W_EXPERT_*, else 0. */
	int (*find)(void *ctx, enum weight_slot slot, uint32_t layer, uint32_t expert,
		    struct weight_ref *ret);
	uint64_t total_bytes;		/* of all weights, for progress */
	/* The bytes in an order that the caller chooses, read ahead: weight_stream.h, which is how to call
	 * it.  NULL: there is no faster way than what find() points to. */
	int (*stream)(void *ctx, const struct weight_piece *pieces, size_t n,
		      const struct weight_room *room, struct weight_stream **ret, struct err *e);
};

#endif
