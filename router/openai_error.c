/* openai_error.c - {"error":{"message","type","param","code"}}: always four keys. */
#include <stdio.h>
#include <string.h>

#include "router/openai_request.h"

const char *oa_error_type(int status)
{
	switch (status) {
	case 401:
		return "authentication_error";
	case 403:
		return "permission_error";
	case 404:
		return "not_found_error";
	case 429:
		return "rate_limit_error";
	default:
		return status >= 500 ? "server_error" : "invalid_request_error";
	}
}

int oa_error_set(struct oa_error *e, int status, const char *code, const char *param,
		 const char *fmt, ...)
{
	va_list ap;

	*e = (struct oa_error){ .status = status, .type = oa_error_type(status), .code = code };
	snprintf(e->param, sizeof(e->param), "%s", param ? param : "");
	va_start(ap, fmt);
	vsnprintf(e->message, sizeof(e->message), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

int oa_error_no_model(struct oa_error *e, const char *model)
{
	return oa_error_set(e, 404, "model_not_found", "model",
			    "there is no model '%s' here; GET /v1/models lists those there are", model);
}

static void put_or_null(struct buf *out, const char *s)
{
	if (s && *s)
		jx_put_str(out, s, strlen(s));
	else
		buf_puts(out, "null");
}

void oa_error_put(const struct oa_error *e, struct buf *out)
{
	buf_puts(out, "{\"error\":{\"message\":");
	jx_put_str(out, e->message, strlen(e->message));
	buf_puts(out, ",\"type\":");
	put_or_null(out, e->type);
	buf_puts(out, ",\"param\":");
	put_or_null(out, e->param);
	buf_puts(out, ",\"code\":");
	put_or_null(out, e->code);
	buf_puts(out, "}}");
}
