/* conf_check.c - a value's text: what it says, and whether its key allows it. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/conf_int.h"

int conf_parse_bool(const char *s, bool *ret)
{
	static const char *const yes[] = { "yes", "true", "on", "1" };
	static const char *const no[] = { "no", "false", "off", "0" };

	for (size_t i = 0; i < 4; i++) {
		if (!strcasecmp(s, yes[i]) || !strcasecmp(s, no[i])) {
			*ret = !strcasecmp(s, yes[i]);
			return 0;
		}
	}
	return -EINVAL;
}

int conf_parse_int(const char *s, int64_t *ret)
{
	char *end;
	long long x;

	errno = 0;
	x = strtoll(s, &end, 10);
	if (errno || end == s || *end)
		return -EINVAL;
	*ret = x;
	return 0;
}

static bool is_choice(const char *choices, const char *s)
{
	size_t n = strlen(s);

	for (const char *p = choices; *p; p += strcspn(p, "|"), p += *p == '|')
		if (strcspn(p, "|") == n && !strncmp(p, s, n))
			return true;
	return false;
}

int conf_check_value(const struct conf_key *k, const char *text, struct err *e)
{
	int64_t x;
	bool b;

	switch (k->type) {
	case CONF_BOOL:
		if (conf_parse_bool(text, &b) < 0)
			return err_set(e, -EINVAL, "%s: '%.60s' is neither yes nor no", k->key,
				       text);
		return 0;
	case CONF_INT:
		if (conf_parse_int(text, &x) < 0)
			return err_set(e, -EINVAL, "%s: '%.60s' is not a whole number", k->key,
				       text);
		if (x < k->min || x > k->max)
			return err_set(e, -EINVAL,
				       "%s: %" PRId64 " is not in %" PRId64 "..%" PRId64, k->key, x,
				       k->min, k->max);
		return 0;
	case CONF_CHOICE:
		if (!is_choice(k->choices, text))
			return err_set(e, -EINVAL, "%s: '%.60s' is not one of %s", k->key, text,
				       k->choices);
		return 0;
	case CONF_TEXT:
		break;
	}
	x = (int64_t)strlen(text);
	if (k->max && (x < k->min || x > k->max))
		return err_set(e, -EINVAL, "%s: %" PRId64 " bytes are not in %" PRId64 "..%" PRId64,
			       k->key, x, k->min, k->max);
	return 0;
}
