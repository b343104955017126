/* scrape_fuzz.c - any bytes as a request for metrics, with and without a key (bit 0 of byte 0):
 * read whole, and at every length on the way there, from memory that ends where they end. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/scrape_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char key[] = "a-key-of-letters";

static enum scrape_asks read_copy(const uint8_t *data, size_t n, const char *with, bool *ret_open)
{
	char *copy = malloc(n ? n : 1);
	enum scrape_asks a;

	if (!copy)
		abort();
	memcpy(copy, data, n);
	a = scrape_read_head(copy, n, with, ret_open);
	free(copy);
	return a;
}

static bool holds(const uint8_t *data, size_t n, const char *word)
{
	for (size_t i = 0; i + strlen(word) <= n; i++)
		if (!strncasecmp((const char *)data + i, word, strlen(word)))
			return true;
	return false;
}

/* Metrics go only to whom they should. */
static void check_metrics(const uint8_t *data, size_t n, bool keyed)
{
	const size_t at = n > 4 && !memcmp(data, "HEAD", 4) ? 4 : 3;
	bool open;

	if (n < at + 14 || (at == 3 && memcmp(data, "GET", 3) != 0) ||
	    memcmp(data + at, " /metrics", 9) != 0 || !strchr(" ?", data[at + 9]))
		abort();
	if (keyed && !memmem(data, n, key, sizeof(key) - 1))
		abort();
	if (keyed && (!holds(data, n, "\r\nauthorization:") || !holds(data, n, "bearer ")))
		abort();
	if (keyed && read_copy(data, n, "another-key", &open) != SCRAPE_NO_KEY)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	bool keyed, open = false, early_open = false;
	enum scrape_asks whole, early;

	if (n < 1)
		return 0;
	keyed = data[0] & 1;
	data++, n--;
	whole = read_copy(data, n, keyed ? key : NULL, &open);
	if (whole == SCRAPE_METRICS)
		check_metrics(data, n, keyed);
	if ((whole == SCRAPE_MORE && n >= SCRAPE_MAX_HEAD) || (whole == SCRAPE_NO_KEY && !keyed))
		abort();
	/* a decision stands, whatever comes behind it */
	for (size_t i = 0; i < n && i < SCRAPE_MAX_HEAD; i += n < 300 ? 1 : 1 + n / 64) {
		early = read_copy(data, i, keyed ? key : NULL, &early_open);
		if (early != SCRAPE_MORE && (early != whole || early_open != open))
			abort();
	}
	return 0;
}
