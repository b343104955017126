/* bpe.c - see bpe.h. */
#include "worker/text/bpe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"

/* A symbol of a long piece; `next` and `prev` are positions of first bytes. */
struct bpe_sym {
	uint32_t id;		/* BPE_NONE: joined into the symbol before it */
	uint32_t prev, next;	/* BPE_NONE: the ends */
	uint32_t rank;		/* of the pair with `next`; BPE_NONE: cannot be joined */
};

static uint64_t hash(uint32_t left, uint32_t right)
{
	return (left * 0x9e3779b97f4a7c15u ^ right) * 0xd6e8feb86659fd93u;
}

static uint32_t slot_of(const struct bpe *b, uint64_t h)
{
	return (uint32_t)(h >> 32) & b->mask;
}

/* The merge of two neighbours, NULL when there is none. */
static const struct bpe_pair *find(const struct bpe *b, uint32_t left, uint32_t right)
{
	uint64_t h = hash(left, right);
	uint32_t bit = (uint32_t)(h >> 40) & b->seen_mask;

	if (!(b->seen[bit / 64] >> bit % 64 & 1))
		return NULL;
	for (uint32_t i = slot_of(b, h);; i = (i + 1) & b->mask) {
		const struct bpe_pair *p = &b->pair[i];

		if (p->left == left && p->right == right)
			return p;
		if (p->left == BPE_NONE)
			return NULL;
	}
}

static uint32_t rank_of(const struct bpe *b, uint32_t left, uint32_t right)
{
	const struct bpe_pair *p = find(b, left, right);

	return p ? p->rank : BPE_NONE;
}

static uint32_t byte_rank(const struct bpe *b, char left, char right)
{
	return b->byte_rank[(unsigned char)left << 8 | (unsigned char)right];
}

int bpe_init(struct bpe *b, const struct vocab *vocab, size_t n_merges, unsigned *ret_byte)
{
	size_t want = 64;

	*b = (struct bpe){ .vocab = vocab };
	for (unsigned c = 0; c < 256; c++) {
		char byte = (char)c;
		const struct vocab_slot *s = vocab_find(vocab, &byte, 1);

		if (!s) {
			*ret_byte = c;
			return -EINVAL;
		}
		b->byte_id[c] = s->id;
	}
	while (want < 2 * n_merges)
		want *= 2;
	if (want > UINT32_MAX / 2)
		return -ENOMEM;
	b->pair = malloc(want * sizeof(*b->pair));
	b->seen = calloc(want / 8, sizeof(*b->seen));
	if (!b->pair || !b->seen)
		return -ENOMEM;
	b->seen_mask = (uint32_t)(8 * want - 1);
	memset(b->pair, 0xff, want * sizeof(*b->pair));
	b->mask = (uint32_t)(want - 1);
	return 0;
}

void bpe_done(struct bpe *b)
{
	free(b->pair);
	free(b->seen);
	*b = (struct bpe){ .vocab = NULL };
}

void bpe_put(struct bpe *b, uint32_t left, uint32_t right, uint32_t rank, uint32_t id)
{
	uint64_t h = hash(left, right);
	uint32_t i = slot_of(b, h), bit = (uint32_t)(h >> 40) & b->seen_mask;

	while (b->pair[i].left != BPE_NONE &&
	       (b->pair[i].left != left || b->pair[i].right != right))
		i = (i + 1) & b->mask;
	b->pair[i] = (struct bpe_pair){ left, right, rank, id };
	b->seen[bit / 64] |= (uint64_t)1 << bit % 64;
}

/* Joins in place, answers how many symbols are left. */
static size_t merge_short(const struct bpe *b, const char *piece, uint32_t *id, size_t n)
{
	uint32_t rank[BPE_SHORT];

	for (size_t i = 0; i + 1 < n; i++)
		rank[i] = byte_rank(b, piece[i], piece[i + 1]);
	while (n > 1) {
		size_t best = 0;

		for (size_t i = 1; i + 1 < n; i++)
			best = rank[i] < rank[best] ? i : best;
		if (rank[best] == BPE_NONE)
			break;
		id[best] = find(b, id[best], id[best + 1])->id;
		n--;
		memmove(id + best + 1, id + best + 2, (n - best - 1) * sizeof(*id));
		memmove(rank + best, rank + best + 1, (n - best - 1) * sizeof(*rank));
		if (best > 0)
			rank[best - 1] = rank_of(b, id[best - 1], id[best]);
		if (best + 1 < n)
			rank[best] = rank_of(b, id[best], id[best + 1]);
	}
	return n;
}

static void sift_down(uint64_t *heap, size_t n, size_t i)
{
	uint64_t x = heap[i];

	for (size_t c = 2 * i + 1; c < n; c = 2 * i + 1) {
		if (c + 1 < n && heap[c + 1] < heap[c])
			c++;
		if (heap[c] >= x)
			break;
		heap[i] = heap[c];
		i = c;
	}
	heap[i] = x;
}

static void sift_up(uint64_t *heap, size_t i)
{
	uint64_t x = heap[i];

	for (; i > 0 && heap[(i - 1) / 2] > x; i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = x;
}

static int scratch_reserve(struct bpe_scratch *x, size_t n)
{
	if (n <= x->cap)
		return 0;
	bpe_scratch_done(x);
	x->sym = malloc(n * sizeof(*x->sym));
	/* Each join takes one entry out and puts at most two in. */
	x->heap = malloc(2 * n * sizeof(*x->heap));
	if (!x->sym || !x->heap) {
		bpe_scratch_done(x);
		return -ENOMEM;
	}
	x->cap = n;
	return 0;
}

void bpe_scratch_done(struct bpe_scratch *x)
{
	free(x->sym);
	free(x->heap);
	*x = (struct bpe_scratch){ NULL, NULL, 0 };
}

/* Sets the rank of the pair that begins at i and queues it. */
static size_t queue_pair(const struct bpe *b, struct bpe_scratch *x, uint32_t i, size_t n_heap)
{
	struct bpe_sym *s = &x->sym[i];

	s->rank = s->next == BPE_NONE ? BPE_NONE : rank_of(b, s->id, x->sym[s->next].id);
	if (s->rank == BPE_NONE)
		return n_heap;
	x->heap[n_heap] = (uint64_t)s->rank << 32 | i;
	sift_up(x->heap, n_heap);
	return n_heap + 1;
}

/* The first symbols of a long piece, and a heap of the pairs between them. */
static size_t start_long(const struct bpe *b, struct bpe_scratch *x, const char *piece, size_t n)
{
	size_t n_heap = 0;

	for (uint32_t i = 0; i < n; i++)
		x->sym[i] = (struct bpe_sym){ b->byte_id[(unsigned char)piece[i]], i - 1,
					      i + 1 < n ? i + 1 : BPE_NONE, BPE_NONE };
	for (uint32_t i = 0; i + 1 < n; i++) {
		struct bpe_sym *s = &x->sym[i];

		s->rank = byte_rank(b, piece[i], piece[i + 1]);
		if (s->rank != BPE_NONE)
			x->heap[n_heap++] = (uint64_t)s->rank << 32 | i;
	}
	for (size_t i = n_heap / 2; i-- > 0;)
		sift_down(x->heap, n_heap, i);
	return n_heap;
}

static void merge_long(const struct bpe *b, struct bpe_scratch *x, size_t n_heap)
{
	while (n_heap) {
		uint32_t i = (uint32_t)x->heap[0], rank = (uint32_t)(x->heap[0] >> 32);
		struct bpe_sym *s = &x->sym[i], *gone;

		x->heap[0] = x->heap[--n_heap];
		if (n_heap)
			sift_down(x->heap, n_heap, 0);
		/* Outdated: since it was queued, this symbol or its neighbour grew.
		 * A pair never comes back, so the same rank means the same pair. */
		if (s->id == BPE_NONE || s->rank != rank)
			continue;
		gone = &x->sym[s->next];
		s->id = find(b, s->id, gone->id)->id;
		s->next = gone->next;
		gone->id = BPE_NONE;
		if (s->next != BPE_NONE)
			x->sym[s->next].prev = i;
		n_heap = queue_pair(b, x, i, n_heap);
		if (s->prev != BPE_NONE)
			n_heap = queue_pair(b, x, s->prev, n_heap);
	}
}

static int encode_long(const struct bpe *b, struct bpe_scratch *x, const char *piece, size_t n,
		       struct ids *out)
{
	if (scratch_reserve(x, n) < 0)
		return -ENOMEM;
	merge_long(b, x, start_long(b, x, piece, n));
	for (uint32_t i = 0; i != BPE_NONE; i = x->sym[i].next)
		if (ids_push(out, x->sym[i].id) < 0)
			return -ENOMEM;
	return 0;
}

static int encode_short(const struct bpe *b, const char *piece, size_t n, struct ids *out)
{
	uint32_t id[BPE_SHORT];

	for (size_t i = 0; i < n; i++)
		id[i] = b->byte_id[(unsigned char)piece[i]];
	n = merge_short(b, piece, id, n);
	if (ids_reserve(out, n) < 0)
		return -ENOMEM;
	memcpy(out->p + out->n, id, n * sizeof(*id));
	out->n += n;
	return 0;
}

static int encode(const struct bpe *b, struct bpe_scratch *x, const char *piece, size_t n,
		  struct ids *out)
{
	return n <= BPE_SHORT ? encode_short(b, piece, n, out) : encode_long(b, x, piece, n, out);
}

int bpe_encode(const struct bpe *b, struct bpe_scratch *x, const char *piece, size_t n,
	       struct ids *out)
{
	const struct vocab_slot *s = vocab_find(b->vocab, piece, n);

	if (s && s->whole)
		return ids_push(out, s->id);
	return encode(b, x, piece, n, out);
}

int bpe_finish(struct bpe *b, struct vocab *vocab)
{
	struct bpe_scratch x = { NULL, NULL, 0 };
	CLEANUP(ids_donep) struct ids ids = IDS_INIT;
	int r = 0;

	for (unsigned i = 0; i < 65536; i++)
		b->byte_rank[i] = rank_of(b, b->byte_id[i >> 8], b->byte_id[i & 255]);
	for (uint32_t i = 0; i <= vocab->mask && r == 0; i++) {
		struct vocab_slot *s = &vocab->slot[i];
		size_t n;
		const char *p;

		if (!s->n)
			continue;
		p = vocab_bytes(vocab, s->id, &n);
		ids_clear(&ids);
		r = encode(b, &x, p, n, &ids);
		s->whole = r == 0 && ids.n == 1 && ids.p[0] == s->id;
	}
	bpe_scratch_done(&x);
	return r;
}
