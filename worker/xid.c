/* xid.c - see xid.h. */
#include "worker/xid.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"

enum { MAX_RECORD = 8192, MAX_RECORDS = 100000 };

size_t xid_of_record(const char *record, size_t n, uint64_t since_us, char *ret, size_t size)
{
	static const char mark[] = "NVRM: Xid";
	const char *text = memchr(record, ';', n), *end, *field = record;
	size_t len;

	if (!text || !size)
		return 0;
	for (int i = 0; i < 2; i++) {	/* the third field is the time */
		field = memchr(field, ',', (size_t)(text - field));
		if (!field++)
			return 0;
	}
	if (strtoull(field, NULL, 10) < since_us)
		return 0;
	text++;
	end = memchr(text, '\n', n - (size_t)(text - record));
	len = (size_t)((end ? end : record + n) - text);
	if (len < sizeof(mark) - 1 || memcmp(text, mark, sizeof(mark) - 1))
		return 0;
	if (len >= size)
		len = size - 1;
	memcpy(ret, text, len);
	ret[len] = '\0';
	return len;
}

size_t xid_last(unsigned seconds, char *ret, size_t size)
{
	/* near enough to the log's clock, which is not quite this one */
	const uint64_t now_us = clock_ns() / 1000, span_us = seconds * 1000000ULL;
	const uint64_t since_us = now_us > span_us ? now_us - span_us : 0;
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char record[MAX_RECORD + 1];
	size_t found = 0;

	if (fd < 0)
		return 0;
	for (int i = 0; i < MAX_RECORDS; i++) {
		ssize_t n = read(fd, record, MAX_RECORD);
		size_t len;

		if (n < 0 && errno == EPIPE)	/* it was written over before we came to it */
			continue;
		if (n <= 0)
			break;
		record[n] = '\0';
		len = xid_of_record(record, (size_t)n, since_us, ret, size);
		found = len ? len : found;
	}
	close(fd);
	return found;
}
