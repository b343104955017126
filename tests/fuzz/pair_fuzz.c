/* pair_fuzz.c - words at hearthctl pair join: the bytes as they are, and as what the hexadecimal of
 * a word says.  What is taken, put and taken again is the same box. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/pair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void parse(const char *word)
{
	struct buf again = BUF_INIT;
	struct pair p, q;
	struct err e;

	if (pair_parse(word, &p, &e) < 0)
		return;
	for (const char *s = p.endpoint; *s; s++)
		if (*s <= ' ' || *s > '~')
			abort();		/* it becomes a line of configuration */
	if (pair_put(&p, &again) < 0 || !pair_name_ok(p.name) ||
	    pair_parse(again.p, &q, &e) < 0 || strcmp(p.own, q.own) != 0)
		abort();
	buf_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char word[PAIR_MAX_WORD] = "hearth1";
	char *text = malloc(n + 1);

	if (!text)
		return 0;
	memcpy(text, data, n);
	text[n] = '\0';
	parse(text);
	free(text);
	for (size_t i = 0; i < n && i < 900; i++)
		snprintf(word + 7 + 2 * i, 3, "%02x", data[i]);
	parse(word);
	return 0;
}
