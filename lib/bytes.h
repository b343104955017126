/* bytes.h - sizes as people write and read them: "512M", "11.5G", "12.0 GiB".
 *
 * Powers of 1024 everywhere.  Thread-safe.
 */
#ifndef HEARTH_LIB_BYTES_H
#define HEARTH_LIB_BYTES_H

#include <stdint.h>

#define BYTES_MIB (UINT64_C(1) << 20)
#define BYTES_GIB (UINT64_C(1) << 30)

/* "4096", "64K", "2M", "11.5G".  0; -EINVAL. */
int bytes_parse(const char *text, uint64_t *ret);

struct bytes_str {
	char s[24];
};

/* "11.5 GiB", "300 MiB", "17 KiB", "5 B"; the text lives until the end of the expression's
 * block: BYTES(x) is for the arguments of a log line. */
struct bytes_str bytes_text(uint64_t x);
#define BYTES(x) (bytes_text(x).s)

#endif
