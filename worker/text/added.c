/* added.c - see added.h. */
#include "worker/text/added.h"

#include <errno.h>
#include <stdlib.h>

void added_init(struct added *a)
{
	*a = (struct added){ NULL, 0, 0, { false } };
}

void added_done(struct added *a)
{
	free(a->node);
	added_init(a);
}

static int reserve(struct added *a, size_t more)
{
	size_t cap = a->cap ? a->cap : 256;
	struct added_node *p;

	while (cap < a->n + more)
		cap *= 2;
	if (cap > UINT32_MAX / 2)
		return -ENOMEM;
	if (cap == a->cap)
		return 0;
	p = realloc(a->node, cap * sizeof(*p));
	if (!p)
		return -ENOMEM;
	a->node = p;
	a->cap = cap;
	return 0;
}

static uint32_t new_node(struct added *a, char byte)
{
	a->node[a->n] = (struct added_node){ 0, 0, ADDED_NONE, (uint8_t)byte };
	return (uint32_t)a->n++;
}

/* 0 when there is none: the root is nobody's child. */
static uint32_t child(const struct added *a, uint32_t at, char byte)
{
	uint32_t i = a->node[at].child;

	while (i && a->node[i].byte != (uint8_t)byte)
		i = a->node[i].next;
	return i;
}

int added_put(struct added *a, const char *text, size_t n, uint32_t id)
{
	uint32_t at = 0;

	if (!n || n > ADDED_MAX_BYTES)
		return -EINVAL;
	if (reserve(a, n + 1) < 0)
		return -ENOMEM;
	if (!a->n)
		new_node(a, 0);
	for (size_t i = 0; i < n; i++) {
		uint32_t to = child(a, at, text[i]);

		if (!to) {
			to = new_node(a, text[i]);
			a->node[to].next = a->node[at].child;
			a->node[at].child = to;
		}
		at = to;
	}
	if (a->node[at].id != ADDED_NONE && a->node[at].id != id)
		return -EEXIST;
	a->node[at].id = id;
	a->first[(uint8_t)text[0]] = true;
	return 0;
}

/* The longest token that s[from, n) begins with. */
static bool longest(const struct added *a, const char *s, size_t n, size_t from,
		    struct added_hit *hit)
{
	uint32_t at = 0;

	hit->id = ADDED_NONE;
	for (size_t i = from; i < n; i++) {
		at = child(a, at, s[i]);
		if (!at)
			break;
		if (a->node[at].id != ADDED_NONE)
			*hit = (struct added_hit){ from, i + 1, a->node[at].id };
	}
	return hit->id != ADDED_NONE;
}

uint32_t added_get(const struct added *a, const char *text, size_t n)
{
	uint32_t at = 0;

	if (!a->n || !n)
		return ADDED_NONE;
	for (size_t i = 0; i < n; i++) {
		at = child(a, at, text[i]);
		if (!at)
			return ADDED_NONE;
	}
	return a->node[at].id;
}

bool added_find(const struct added *a, const char *s, size_t n, size_t from,
		struct added_hit *ret_hit)
{
	struct added_hit hit;

	for (size_t i = from; i < n; i++) {
		if (!a->first[(unsigned char)s[i]] || !longest(a, s, n, i, &hit))
			continue;
		*ret_hit = hit;
		return true;
	}
	return false;
}
