/* request.h - an OpenAI chat request made fit for a chat template.
 *
 * Templates are written for the messages their authors had at hand; clients send what
 * the API allows.  Between the two:
 *
 *  - the role `developer` becomes `system`;
 *  - `reasoning` becomes `reasoning_content` where that is absent;
 *  - `arguments` of a tool call, JSON in a string, become the object; a string of white space
 *    or null is {}, and an object written as JSON twice is that object.  Whatever else they are
 *    (cut off, no JSON, JSON that is no object) becomes the one parameter "invalid_arguments":
 *    the JSON value, or the text as it was sent.  They are never a reason to refuse: clients
 *    send their history back as it came, so such a conversation could never go on;
 *  - system messages that stand together at the start become one, joined by a blank line;
 *  - a later system message becomes a user's, or is refused (templates raise on it).
 *
 * All else passes unchanged, tool definitions to the order of their keys.  What has a
 * wrong type is refused with a message that names the field, as
 * "messages[3].content: must be a string, a list of parts or null".
 */
#ifndef HEARTH_WORKER_TEXT_REQUEST_H
#define HEARTH_WORKER_TEXT_REQUEST_H

#include <stdbool.h>

#include "lib/err.h"
#include "lib/json.h"

/* The parameter under which a call shows arguments that are no object. */
#define REQUEST_BROKEN_ARGUMENTS "invalid_arguments"

struct request_options {
	bool refuse_late_system;
};

struct request_notes {
	size_t n_late_system;	/* that became user messages; the client is told */
};

/* A new request in *ret (json_decref); the one given is not changed, but parts of it are
 * shared.  `o` and `ret_notes` may be NULL.  -EINVAL: for the client; -ENOMEM. */
int request_normalise(const json_t *request, const struct request_options *o, json_t **ret,
		      struct request_notes *ret_notes, struct err *e);

#endif
