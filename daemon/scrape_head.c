/* scrape_head.c - see scrape_head.h. */
#include "daemon/scrape_head.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/expo.h"

enum { MAX_ACCEPT = 512 };

/* A piece of the request, not terminated. */
struct span {
	const char *p;
	size_t n;
};

static bool begins(struct span s, const char *with)
{
	return s.n >= strlen(with) && !memcmp(s.p, with, strlen(with));
}

/* The head without its last line's end; false: it is not whole. */
static bool find_head(const char *p, size_t n, struct span *ret)
{
	const char *end = n ? memmem(p, n, "\r\n\r\n", 4) : NULL;

	if (!end)
		return false;
	*ret = (struct span){ p, (size_t)(end - p) };
	return true;
}

/* The first header of that name; one of no bytes when there is none. */
static struct span find_header(struct span head, const char *name)
{
	const size_t n = strlen(name);
	const char *end = head.p + head.n, *line = head.p;

	while ((line = memmem(line, (size_t)(end - line), "\r\n", 2))) {
		struct span s;

		line += 2;
		if ((size_t)(end - line) <= n || line[n] != ':' || strncasecmp(line, name, n) != 0)
			continue;
		s.p = line + n + 1;
		while (s.p < end && (*s.p == ' ' || *s.p == '\t'))
			s.p++;
		for (s.n = 0; s.p + s.n < end && s.p[s.n] != '\r' && s.p[s.n] != '\n';)
			s.n++;
		return s;
	}
	return (struct span){ end, 0 };
}

/* Looks at every byte of what is given, however early they differ. */
static bool key_right(struct span head, const char *key)
{
	static const char scheme[] = "Bearer ";
	struct span given = find_header(head, "Authorization");
	const size_t n = sizeof(scheme) - 1, m = strlen(key);
	unsigned char diff;

	if (given.n < n || strncasecmp(given.p, scheme, n) != 0)
		return false;
	diff = given.n - n != m;
	for (size_t i = 0; n + i < given.n; i++)
		diff |= (unsigned char)(given.p[n + i] ^ key[i % m]);
	return diff == 0;
}

static bool wants_open(struct span head)
{
	struct span accept = find_header(head, "Accept");
	char text[MAX_ACCEPT];

	snprintf(text, sizeof(text), "%.*s", (int)accept.n, accept.p);
	return expo_wants_open(text);
}

enum scrape_asks scrape_read_head(const char *p, size_t n, const char *key, bool *ret_open)
{
	static const char path[] = " /metrics";
	const size_t n_path = sizeof(path) - 1;
	struct span head, rest;
	size_t n_method;

	if (!find_head(p, n, &head))
		return n < SCRAPE_MAX_HEAD ? SCRAPE_MORE : SCRAPE_TOO_LARGE;
	if (head.n > SCRAPE_MAX_HEAD)
		return SCRAPE_TOO_LARGE;
	if (memchr(head.p, '\0', head.n))
		return SCRAPE_ZERO_BYTE;
	n_method = begins(head, "GET ") ? 3 : begins(head, "HEAD ") ? 4 : 0;
	if (!n_method)
		return SCRAPE_NOT_GET;
	rest = (struct span){ head.p + n_method, head.n - n_method };
	if (key && !key_right(head, key))
		return SCRAPE_NO_KEY;
	if (!begins(rest, path) || rest.n == n_path || !strchr(" ?", rest.p[n_path]))
		return SCRAPE_NOT_FOUND;
	*ret_open = wants_open(head);
	return SCRAPE_METRICS;
}
