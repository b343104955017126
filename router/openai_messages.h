/* openai_messages.h - the parts of a chat request that have parts themselves. */
#ifndef HEARTH_ROUTER_OPENAI_MESSAGES_H
#define HEARTH_ROUTER_OPENAI_MESSAGES_H

#include "router/openai_request.h"

/* Each adds to *needs (enum route_able); 0 or -EINVAL with e filled. */
int oa_check_messages(const json_t *v, uint32_t *needs, struct oa_error *e);
int oa_check_tools(const json_t *v, uint32_t *needs, struct oa_error *e);
int oa_check_tool_choice(const json_t *v, const json_t *tools, uint32_t *needs,
			 struct oa_error *e);
int oa_check_format(const json_t *v, uint32_t *needs, struct oa_error *e);

/* Chat templates know one spelling of some things that clients write in two: role
 * "developer" becomes "system", an assistant's `reasoning` becomes `reasoning_content`,
 * reasoning_effort "none" becomes the template argument enable_thinking: false.  Where
 * nothing is to change, *ret_rewritten is false and the client's bytes are used as they
 * are.  0 or -ENOMEM. */
int oa_rewrite_chat(const json_t *body, bool *ret_rewritten, struct buf *out);

#endif
