/* pair_word.c - see pair.h. */
#include <stdio.h>
#include <string.h>

#include "ctl/pair.h"

static const char prefix[] = "hearth1";

bool pair_name_ok(const char *s)
{
	return *s && strlen(s) <= 64 &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
		       strlen(s);
}

int pair_put(const struct pair *p, struct buf *out)
{
	char text[PAIR_MAX_WORD / 2];
	int n = snprintf(text, sizeof(text), "%s %s %s %s", p->name, p->endpoint, p->server,
			 p->secret);

	buf_puts(out, prefix);
	for (int i = 0; i < n; i++)
		buf_printf(out, "%02x", (unsigned char)text[i]);
	explicit_bzero(text, sizeof(text));
	return buf_ok(out) ? 0 : -ENOMEM;
}

/* What may stand in a configuration file and on a terminal. */
static bool endpoint_ok(const char *s)
{
	if (strncmp(s, "tcp://", 6) != 0 && strncmp(s, "ipc:///", 7) != 0)
		return false;
	for (const char *p = s; *p; p++)
		if (*p <= ' ' || *p > '~' || strchr(";\"'\\#", *p))
			return false;
	return true;
}

static int nibble(char c)
{
	const char *digits = "0123456789abcdef", *p = c ? strchr(digits, c) : NULL;

	return p ? (int)(p - digits) : -1;
}

static int decode(const char *hex, char *text, size_t cap)
{
	size_t n = strlen(hex) / 2;

	if (strlen(hex) % 2 || n >= cap)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		int hi = nibble(hex[2 * i]), lo = nibble(hex[2 * i + 1]);

		if (hi < 0 || lo < 0 || !(hi | lo))
			return -EINVAL;
		text[i] = (char)(hi << 4 | lo);
	}
	text[n] = '\0';
	return 0;
}

int pair_parse(const char *word, struct pair *ret, struct err *e)
{
	char text[PAIR_MAX_WORD / 2], fingerprint[LINK_FINGERPRINT], end;
	struct pair p;
	int n = -1;

	if (strncmp(word, prefix, strlen(prefix)) != 0)
		return err_set(e, -EINVAL, "this is not an invitation: it begins with %s", prefix);
	if (decode(word + strlen(prefix), text, sizeof(text)) == 0)
		n = sscanf(text, "%64s %256s %40s %40s %c", p.name, p.endpoint, p.server, p.secret,
			   &end);
	explicit_bzero(text, sizeof(text));
	if (n != 4 || !pair_name_ok(p.name) || !endpoint_ok(p.endpoint) ||
	    link_fingerprint(p.server, fingerprint) < 0 || link_public_of(p.secret, p.own) < 0) {
		explicit_bzero(&p, sizeof(p));
		return err_set(e, -EINVAL, "the invitation is not whole");
	}
	*ret = p;
	explicit_bzero(&p, sizeof(p));
	return 0;
}
