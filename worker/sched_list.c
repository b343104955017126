/* sched_list.c - sequences by age: found, put in their place, taken out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "worker/sched_int.h"

int seq_list_add(struct seq_list *l, struct seq *q)
{
	uint32_t i;

	if (l->n == l->cap) {
		uint32_t cap = l->cap ? 2 * l->cap : 16;
		struct seq **p = realloc(l->p, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		l->p = p;
		l->cap = cap;
	}
	for (i = l->n; i > 0 && l->p[i - 1]->arrival > q->arrival; i--)
		l->p[i] = l->p[i - 1];
	l->p[i] = q;
	l->n++;
	return 0;
}

void seq_list_remove(struct seq_list *l, const struct seq *q)
{
	uint32_t i = 0;

	while (l->p[i] != q)
		i++;
	memmove(l->p + i, l->p + i + 1, (l->n - i - 1) * sizeof(*l->p));
	l->n--;
}

struct seq *seq_list_find(const struct seq_list *l, uint64_t id)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (l->p[i]->id == id)
			return l->p[i];
	return NULL;
}
