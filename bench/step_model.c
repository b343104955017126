/* step_model.c - see step_model.h. */
#include "bench/step_model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "worker/weights/hf_config.h"
#include "worker/weights/hf_dir.h"

/* What Qwen3.6's two sizes share: three Gated DeltaNet layers, then one of attention, and so on. */
static struct model_shape family(uint32_t n_layers)
{
	struct model_shape s = { .n_layers = n_layers, .vocab_rows = 248320, .n_token_ids = 248077, .norm_eps = 1e-6f,
				 .max_positions = 262144, .head_dim = 256, .rotary_dim = 64, .rope_theta = 1e7,
				 .mrope_section = { 11, 11, 10 }, .yarn_factor = 1, .yarn_attention_factor = 1,
				 .gdn_k_heads = 16, .gdn_head_dim = 128, .gdn_conv_width = 4 };

	for (uint32_t l = 3; l < n_layers; l += 4)
		s.mixer[l] = MIXER_ATTENTION;
	return s;
}

static struct model_shape shape_35b(void)
{
	struct model_shape s = family(40);

	s.hidden = 2048;
	s.n_q_heads = 16;
	s.n_kv_heads = 2;
	s.gdn_v_heads = 32;
	s.n_experts = 256;
	s.n_experts_used = 8;
	s.expert_inter = s.shared_inter = 512;
	return s;
}

static struct model_shape shape_27b(void)
{
	struct model_shape s = family(64);

	s.hidden = 5120;
	s.n_q_heads = 24;
	s.n_kv_heads = 4;
	s.gdn_v_heads = 48;
	s.dense_inter = 17408;
	return s;
}

static int shape_named(const char *name, struct model_shape *ret, struct err *e)
{
	struct hf_config config;
	int r;

	if (strcmp(name, "35b") == 0) {
		*ret = shape_35b();
		return 0;
	}
	if (strcmp(name, "27b") == 0) {
		*ret = shape_27b();
		return 0;
	}
	r = hf_config_open(name, &config, e);
	if (r < 0)
		return r;
	*ret = config.shape;
	ret->n_mtp_layers = 0;
	return 0;
}

static int open_dummy(const char *recipe, const char *shape, struct step_model *m, struct err *e)
{
	m->dummy.seed = DUMMY_SEED;
	if (dummy_recipe_of(recipe, &m->dummy.recipe) < 0)
		return err_set(e, -EINVAL, "--dummy %s: there are bf16, fp8, nvfp4 and nvfp4-fp8", recipe);
	int r = shape_named(shape, &m->shape, e);
	m->dummy.shape = m->shape;
	m->plain = dummy_source(&m->dummy);
	return r;
}

static int open_checkpoint(const char *name, struct step_model *m, struct err *e)
{
	CLEANUP(freep) char *dir = NULL;
	struct hf_config config;
	int r = hf_dir_find(name, &dir, e);

	if (r == 0)
		r = hf_config_open(dir, &config, e);
	if (r == 0)
		r = checkpoint_open(dir, &config, &m->checkpoint, e);
	if (r < 0)
		return r;
	m->shape = config.shape;
	m->plain = *checkpoint_source(m->checkpoint);
	return 0;
}

int step_model_open(const char *name, const char *dummy, const char *shape, enum quantize quantize,
		    struct step_model *m, struct err *e)
{
	int r;

	*m = (struct step_model){ .checkpoint = NULL };
	r = name ? open_checkpoint(name, m, e) : open_dummy(dummy, shape, m, e);
	if (r == 0 && (r = quantized_new(&m->shape, &m->plain, quantize, &m->quantized)) < 0)
		err_set(e, r, "out of memory");
	if (r < 0) {
		step_model_close(m);
		return r;
	}
	m->source = *quantized_source(m->quantized);
	r = traffic_count(&m->shape, &m->source, &m->traffic);
	if (r < 0) {
		step_model_close(m);
		return err_set(e, r, "the weights cannot be counted");
	}
	return 0;
}

void step_model_close(struct step_model *m)
{
	m->quantized = quantized_free(m->quantized);
	m->checkpoint = checkpoint_close(m->checkpoint);
}

void step_model_formats(const struct step_model *m, char *ret, size_t room)
{
	size_t at = 0;

	*ret = '\0';
	for (int c = 0; c < TRAFFIC_N; c++)
		for (int k = 0; k < KIND_N; k++) {
			const uint32_t n = m->traffic.row[c].matrices[k];

			if (n && at < room)
				at += (size_t)snprintf(ret + at, room - at, "%s%s %u %s", at ? "; " : "",
						       traffic_class_name((enum traffic_class)c), n,
						       traffic_kind_name((enum traffic_kind)k));
		}
}
