/* prompt_chat.c - the prompt of a chat body; see prompt.h. */
#include <errno.h>
#include <string.h>

#include "lib/own.h"
#include "worker/prompt.h"

int prompt_from_chat(const struct text_model *m, const char *body, size_t n, struct prompt *ret,
		     const char **ret_param, struct err *e)
{
	(void)body;
	(void)n;
	(void)ret;
	*ret_param = NULL;
	if (!m->chat)
		return err_set(e, -ENOTSUP, "this model has no chat template");
	return -ENOTSUP;
}
