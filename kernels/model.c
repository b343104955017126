/* model.c - names and sizes of what model.h lists. */
#include "kernels/model.h"

size_t weight_row_bytes(enum weight_format f, uint32_t cols)
{
	switch (f) {
	case WF_F32:
		return (size_t)cols * 4;
	case WF_F16:
	case WF_BF16:
		return (size_t)cols * 2;
	case WF_NVFP4:
		return ((size_t)cols + 1) / 2;
	case WF_FP8:
	case WF_N:
		break;
	}
	return cols;
}

size_t weight_data_bytes(const struct weight_ref *w)
{
	return weight_row_bytes(w->format, w->cols) * w->rows;
}

static uint32_t spans(uint32_t n, uint32_t span)
{
	return span ? n / span + (n % span != 0) : 0;
}

uint32_t weight_scale_rows(const struct weight_ref *w)
{
	return weight_is_plain(w->format) ? 0 : spans(w->rows, w->span_rows);
}

uint32_t weight_scale_cols(const struct weight_ref *w)
{
	return weight_is_plain(w->format) ? 0 : spans(w->cols, w->span_cols);
}

size_t weight_scale_bytes(const struct weight_ref *w)
{
	return weight_row_bytes(w->scale_format, weight_scale_cols(w)) * weight_scale_rows(w);
}

int weight_in_file(const char *file, int code, struct err *e)
{
	return file ? err_prefix(e, code, "%s", file) : code;
}

static const char *const slot_names[W_N_SLOTS] = {
	[W_EMBED] = "embedding",
	[W_HEAD] = "head",
	[W_FINAL_NORM] = "final norm",
	[W_MTP_FC] = "MTP projection",
	[W_MTP_EMBED_NORM] = "MTP embedding norm",
	[W_MTP_HIDDEN_NORM] = "MTP hidden norm",
	[W_MTP_NORM] = "MTP norm",
	[W_INPUT_NORM] = "input norm",
	[W_POST_NORM] = "post-attention norm",
	[W_GDN_QKV] = "GDN qkv",
	[W_GDN_Z] = "GDN z",
	[W_GDN_A] = "GDN a",
	[W_GDN_B] = "GDN b",
	[W_GDN_CONV] = "GDN convolution",
	[W_GDN_A_LOG] = "GDN A_log",
	[W_GDN_DT_BIAS] = "GDN dt_bias",
	[W_GDN_NORM] = "GDN norm",
	[W_GDN_OUT] = "GDN output",
	[W_Q] = "query and gate",
	[W_K] = "key",
	[W_V] = "value",
	[W_O] = "attention output",
	[W_Q_NORM] = "query norm",
	[W_K_NORM] = "key norm",
	[W_ROUTER] = "router",
	[W_EXPERT_GATE] = "expert gate",
	[W_EXPERT_UP] = "expert up",
	[W_EXPERT_DOWN] = "expert down",
	[W_SHARED_GATE] = "shared expert gate",
	[W_SHARED_UP] = "shared expert up",
	[W_SHARED_DOWN] = "shared expert down",
	[W_SHARED_SCORE] = "shared expert score",
	[W_MLP_GATE] = "MLP gate",
	[W_MLP_UP] = "MLP up",
	[W_MLP_DOWN] = "MLP down",
};

const char *weight_slot_name(enum weight_slot s)
{
	return (unsigned)s < W_N_SLOTS ? slot_names[s] : "no such weight";
}

const char *weight_format_name(enum weight_format f)
{
	static const char *const names[WF_N] = { [WF_F32] = "F32", [WF_F16] = "F16",
						 [WF_BF16] = "BF16", [WF_FP8] = "FP8",
						 [WF_NVFP4] = "NVFP4" };

	return (unsigned)f < WF_N ? names[f] : "no such format";
}
