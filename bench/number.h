/* number.h - numbers of a command line, each checked against its limits before it is believed. */
#ifndef HEARTH_BENCH_NUMBER_H
#define HEARTH_BENCH_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

bool number_of(const char *s, uint32_t least, uint32_t most, uint32_t *ret);
/* "1,8,64": `room` numbers of 1..most at most, each a multiple of `unit`.  "0" alone is the empty
 * list. */
bool number_list(const char *s, uint32_t most, uint32_t unit, uint32_t *ret, uint32_t room,
		 uint32_t *ret_n);
/* GiB, with a fraction if need be, in bytes. */
bool number_gibibytes(const char *s, uint64_t *ret);

#endif
