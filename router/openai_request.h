/* openai_request.h - the body of POST /v1/chat/completions and /v1/completions, checked.
 *
 * Every field a client may send is accepted, refused with a status and `param`, or (when
 * it is not known) ignored and listed.  null counts as absent.  Pure: no sockets.
 */
#ifndef HEARTH_ROUTER_OPENAI_REQUEST_H
#define HEARTH_ROUTER_OPENAI_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/json.h"
#include "proto/wire.h"

enum oa_kind { OA_CHAT, OA_COMPLETION };

enum { OA_MAX_STOPS = 4, OA_MAX_CHOICES = 128, OA_MAX_CHAIN = 8 };

struct oa_error {
	int status;
	const char *type;		/* static */
	const char *code;		/* static, or NULL */
	char param[96];			/* "" : null */
	char message[512];
	uint32_t retry_after_ms;	/* 0: none */
	bool no_retry;			/* a status that clients retry, and nothing to hope for */
};

struct oa_request {
	enum oa_kind kind;
	json_t *body;			/* the whole request */
	char *model;
	bool stream, include_usage;
	uint32_t needs;			/* enum route_able */
	Hw__Sampling sampling;		/* bias entries are owned */
	bool has_max_tokens, ignore_eos, echo;
	uint32_t max_tokens, n;
	char *stop[OA_MAX_STOPS];
	uint32_t n_stop;
	uint32_t *stop_token;
	uint32_t n_stop_token;
	char *prompt;			/* completions: text, or */
	size_t n_prompt;
	uint32_t *token;		/* ids */
	uint32_t n_token;
	char *chain[OA_MAX_CHAIN];	/* `models`/`fallbacks`: more aliases to try */
	uint32_t n_chain;
	bool rewritten;			/* chat bytes differ from the client's: use `chat` */
	struct buf chat;
	struct buf ignored;		/* "name, name" for x-hearth-ignored */
};

/* 0, or -EINVAL with e filled (any status), -ENOMEM (a 503 in e).  On failure nothing
 * is owned.  Success: oa_request_done(). */
int oa_request_parse(enum oa_kind kind, const char *body, size_t n, struct oa_request *ret,
		     struct oa_error *e);
void oa_request_done(struct oa_request *r);

/* Fills e and answers -EINVAL. */
int oa_error_set(struct oa_error *e, int status, const char *code, const char *param,
		 const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* A name that nobody has. */
int oa_error_no_model(struct oa_error *e, const char *model);
/* {"error":{...}} with its four keys. */
void oa_error_put(const struct oa_error *e, struct buf *out);
/* The `type` of errors with this status. */
const char *oa_error_type(int status);

#endif
