/* openai_field.h - one field of a request's body: its name, its limits, what takes it.
 *
 * Each file of fields has a table of them; openai_request.c looks a client's fields up in all.
 */
#ifndef HEARTH_ROUTER_OPENAI_FIELD_H
#define HEARTH_ROUTER_OPENAI_FIELD_H

#include "router/openai_request.h"

enum {
	OA_FIELD_CHAT = 1 << OA_CHAT,
	OA_FIELD_COMPLETION = 1 << OA_COMPLETION,
	OA_FIELD_BOTH = OA_FIELD_CHAT | OA_FIELD_COMPLETION,
};

struct oa_field;

typedef int oa_field_fn(struct oa_request *r, const struct oa_field *f, const json_t *v,
			struct oa_error *e);

struct oa_field {
	const char *name;
	unsigned kinds;			/* OA_FIELD_CHAT and so on */
	oa_field_fn *take;		/* NULL: accepted, means nothing here */
	double min, max;
	size_t offset;			/* of the value in Hw__Sampling, its has_ in has */
	size_t has;
};

/* Each ends with a NULL name. */
extern const struct oa_field oa_chat_fields[];		/* openai_chat.c */
extern const struct oa_field oa_sampling_fields[];	/* openai_sampling.c */

/* 0, or -EINVAL with e filled. */
int oa_get_bool(const struct oa_field *f, const json_t *v, bool *ret, struct oa_error *e);
int oa_get_int(const struct oa_field *f, const json_t *v, int64_t *ret, struct oa_error *e);
/* At most max token ids; *ret is the caller's to free.  -ENOMEM, too. */
int oa_get_ids(const struct oa_field *f, const json_t *v, size_t max, uint32_t **ret,
	       uint32_t *ret_n, struct oa_error *e);

int oa_bad(struct oa_error *e, const struct oa_field *f, const char *what);	/* -EINVAL */
int oa_no_memory(struct oa_error *e);						/* -ENOMEM */
oa_field_fn oa_take_absent;	/* refuses what is not done here */
void oa_note_ignored(struct oa_request *r, const char *name);

#endif
