/* quant_config_fuzz.c - any bytes as config.json or hf_quant_config.json: rules, or a refusal. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "worker/weights/quant_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const char *const modules[] = { "lm_head", "layers.0.mlp.experts.3.gate_proj",
					       "mtp.fc" };
	struct quant_config *q = NULL;
	struct err e;
	char *text;

	if (n < 1 || !(text = malloc(n)))
		return 0;
	memcpy(text, p + 1, n - 1);
	text[n - 1] = '\0';
	if (quant_config_parse(p[0] & 1 ? "{}" : text, p[0] & 1 ? text : NULL, &q, &e) == 0)
		for (size_t i = 0; i < sizeof(modules) / sizeof(modules[0]); i++)
			for (int f = 0; f < WF_N; f++) {
				const char *says = NULL;

				if (!quant_config_agrees(q, modules[i], (enum weight_format)f,
							 &says) &&
				    !says)
					abort();
			}
	quant_config_close(q);
	free(text);
	return 0;
}
