/* cli_verbs.h - the verbs of cli.h: one line's answer each.
 *
 * `ret_out` is owned by the caller.  What is wrong with the line is said in `e`; the codes
 * are negative errno.
 */
#ifndef HEARTH_WORKER_TEXT_CLI_VERBS_H
#define HEARTH_WORKER_TEXT_CLI_VERBS_H

#include "lib/json.h"
#include "worker/text/template.h"
#include "worker/text/tokenizer.h"

/* What of the model a verb needs; the rest is NULL. */
struct cli_model {
	struct template *template;
	struct tokenizer *tokenizer;
};

int cli_render(struct cli_model *m, const json_t *in, json_t **ret_out, struct err *e);
int cli_encode(struct cli_model *m, const json_t *in, json_t **ret_out, struct err *e);
int cli_decode(struct cli_model *m, const json_t *in, json_t **ret_out, struct err *e);
int cli_parse(struct cli_model *m, const json_t *in, json_t **ret_out, struct err *e);

#endif
