/* estimate.h - what each configured model would take, asked of the worker's program itself.
 *
 * Only the worker knows models, and what its options make of them: quantize and kv change what
 * a load takes, the CPU back end holds all formats as BF16.  So hearthd runs
 * `hearth-worker serve ... --print-budget`, which loads nothing, once for each model whose memory
 * is not configured; one process at a time, and the loop does not wait.  Until an answer is
 * there, and where there is none, the size of the files stands in for it.
 */
#ifndef HEARTH_DAEMON_ESTIMATE_H
#define HEARTH_DAEMON_ESTIMATE_H

#include "daemon/model_conf.h"

struct event_base;
struct estimate;

/* bytes: never 0.  From the loop's thread, never from inside a call of this header. */
typedef void estimate_said(void *arg, const char *alias, uint64_t bytes);

/* -ENOMEM. */
int estimate_new(struct event_base *base, estimate_said *said, void *arg, struct estimate **ret);
/* Begins anew with the models of this configuration, borrowed until the next call. */
void estimate_ask(struct estimate *s, const struct box_conf *conf);
struct estimate *estimate_free(struct estimate *s);	/* NULL ok; its process is killed */

/* The total of what the worker printed.  -EINVAL: there is none. */
int estimate_parse(const char *text, uint64_t *ret);

#endif
