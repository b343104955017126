/* forward_int.h - what forward.cu (the layers), forward_experts.cu and pass.cu share. */
#ifndef HEARTH_KERNELS_CUDA_FORWARD_INT_H
#define HEARTH_KERNELS_CUDA_FORWARD_INT_H

#include "kernels/cuda/device_int.h"

/* A product with a matrix: x (rows, k) bf16, y (rows, W's rows); ldx, ldy: elements between
 * rows. */

struct product {
	const void *x;
	void *y;
	uint32_t k, ldx, ldy;
	enum matmul_out out;
	uint32_t n_swiglu, ldy_swiglu;	/* and what follows W */
	void *y_swiglu;
};

struct decode_matmul_args product_args(uint32_t rows, const struct matrix &w,
				       const struct product &p);
int multiply(struct cuda_device *d, uint32_t rows, const struct matrix &w, const struct product &p);

/* Whether the products that begin a layer take normed rows in the order of steps (decode_matmul_orders());
 * of a layer that there is not: no.  The same of the head and its rows, ws.hn. */
bool mixer_orders(const struct cuda_device *d, uint32_t rows, uint32_t layer);
bool head_orders(const struct cuda_device *d, uint32_t n);
/* The products that begin a layer, of ws.h into ws.u; answers how many, at most STACK_MAX. */
uint32_t mixer_in_args(const struct cuda_device *d, uint32_t rows, uint32_t layer, struct decode_matmul_args *ret);
/* The product that ends a layer's mixer, of ws.og or ws.ao into ws.y. */
struct decode_matmul_args mixer_out_args(const struct cuda_device *d, uint32_t rows, uint32_t layer);
/* x += what lies in y (or in the experts' outputs), h = norm of it. */
int pass_add(struct cuda_device *d, uint32_t rows, const void *norm, struct residual_add_args a);
/* Embedding and all layers; d->ws.h is normed for the head. */
int pass_layers(struct cuda_device *d, const struct pass *pass);
/* What attention is launched for: a longer bound decides no bit; powers of two keep graphs few. */
uint32_t pass_length_bound(const struct cuda_device *d, uint32_t length);

/* forward_experts.cu: what the kernels of a layer's experts want to find cleared, for the residual that
 * comes before them; then router, experts and the shared one; next_norm: of the layer that follows. */
void expert_clear(const struct cuda_device *d, uint32_t rows, uint32_t layer,
		  struct residual_add_args *ret);
int expert_layer(struct cuda_device *d, uint32_t rows, uint32_t layer, const void *next_norm);
/* Whether in a pass of so many rows what ends a mixer is one kernel in every layer: its last product, the residual and
 * its norm, router and the shared expert's gate and up; and that kernel. */
bool expert_ends_mixers(const struct cuda_device *d, uint32_t rows);
int expert_mixer_end(struct cuda_device *d, uint32_t rows, uint32_t layer);
/* Whether the experts of the layer before have done this layer's first products as well. */
bool expert_began(const struct cuda_device *d, uint32_t rows, uint32_t layer);

#endif
