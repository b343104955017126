/* cli_parse.h - the verb `parse` of cli.h. */
#ifndef HEARTH_WORKER_TEXT_CLI_PARSE_H
#define HEARTH_WORKER_TEXT_CLI_PARSE_H

#include "lib/json.h"

/* One line's answer, owned by the caller. */
int cli_parse(const json_t *in, json_t **ret_out, struct err *e);

#endif
