/* vocab.c - see vocab.h. */
#include "worker/text/vocab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void vocab_init(struct vocab *v)
{
	*v = (struct vocab){ .bytes = BUF_INIT };
}

void vocab_done(struct vocab *v)
{
	free(v->token);
	free(v->slot);
	buf_done(&v->bytes);
	vocab_init(v);
}

static int grow(struct vocab *v, uint32_t id)
{
	uint32_t cap = v->cap_ids ? v->cap_ids : 1024;
	struct vocab_token *p;

	if (id < v->cap_ids)
		return 0;
	while (cap <= id)
		cap *= 2;
	p = realloc(v->token, cap * sizeof(*p));
	if (!p)
		return -ENOMEM;
	memset(p + v->cap_ids, 0, (cap - v->cap_ids) * sizeof(*p));
	v->token = p;
	v->cap_ids = cap;
	return 0;
}

int vocab_set(struct vocab *v, uint32_t id, enum vocab_kind kind, const char *bytes, size_t n)
{
	if (id >= VOCAB_MAX_IDS || n > VOCAB_MAX_TOKEN || n >= UINT32_MAX - v->bytes.n)
		return -ERANGE;
	if (grow(v, id) < 0)
		return -ENOMEM;
	v->token[id] = (struct vocab_token){ (uint32_t)v->bytes.n, (uint32_t)n, kind };
	if (buf_put(&v->bytes, bytes, n) < 0)
		return -ENOMEM;
	if (id >= v->n_ids)
		v->n_ids = id + 1;
	return 0;
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93u;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93u;
	return x ^ x >> 32;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "pack() shifts by place in memory");

/* The 1..8 bytes themselves.  Loads that overlap agree where they do. */
static uint64_t pack(const char *p, size_t n)
{
	const unsigned char *u = (const unsigned char *)p;
	uint32_t lo, hi;

	if (n < 4)
		return u[0] | (uint64_t)u[n / 2] << (n / 2 * 8) | (uint64_t)u[n - 1] << (n - 1) * 8;
	memcpy(&lo, p, 4);
	memcpy(&hi, p + n - 4, 4);
	return lo | (uint64_t)hi << (n - 4) * 8;
}

static uint64_t key_of(const char *p, size_t n)
{
	uint64_t key = n, eight;

	if (n <= 8)
		return pack(p, n);
	for (; n > 8; p += 8, n -= 8) {
		memcpy(&eight, p, 8);
		key = mix(key ^ eight);
	}
	memcpy(&eight, p + n - 8, 8);	/* reaches back into the block before */
	return mix(key ^ eight);
}

static struct vocab_slot *probe(const struct vocab *v, const char *p, size_t n)
{
	uint64_t key = key_of(p, n);
	uint32_t i = (uint32_t)mix(key ^ (uint64_t)n << 59) & v->mask;

	for (; v->slot[i].n; i = (i + 1) & v->mask) {
		const struct vocab_slot *s = &v->slot[i];

		if (s->key == key && s->n == n &&
		    (n <= 8 || !memcmp(v->bytes.p + v->token[s->id].at, p, n)))
			break;
	}
	return &v->slot[i];
}

int vocab_index(struct vocab *v)
{
	uint32_t want = 64, n_plain = 0;

	for (uint32_t id = 0; id < v->n_ids; id++)
		n_plain += v->token[id].kind == VOCAB_PLAIN;
	while (want < 2 * n_plain)
		want *= 2;
	v->slot = calloc(want, sizeof(*v->slot));
	if (!v->slot)
		return -ENOMEM;
	v->mask = want - 1;
	for (uint32_t id = 0; id < v->n_ids; id++) {
		const struct vocab_token *t = &v->token[id];
		const char *p = v->bytes.p + t->at;

		if (t->kind != VOCAB_PLAIN || !t->n)
			continue;
		*probe(v, p, t->n) = (struct vocab_slot){
			.key = key_of(p, t->n), .id = id, .n = t->n & VOCAB_MAX_TOKEN };
		if (t->n > v->max_plain)
			v->max_plain = t->n;
	}
	return 0;
}

struct vocab_slot *vocab_find(const struct vocab *v, const char *bytes, size_t n)
{
	struct vocab_slot *s;

	if (!n || n > v->max_plain)
		return NULL;
	s = probe(v, bytes, n);
	return s->n ? s : NULL;
}
