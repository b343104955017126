/* clock.h - time.
 *
 * Durations and deadlines are nanoseconds of CLOCK_MONOTONIC: a step of the
 * wall clock must not end a stream.  The wall clock is only for `created`
 * fields and certificates.  Thread-safe.
 */
#ifndef HEARTH_LIB_CLOCK_H
#define HEARTH_LIB_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_MS 1000000ULL
#define NS_PER_S  1000000000ULL

static inline uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Seconds since 1970, for `created`. */
static inline int64_t clock_wall_s(void)
{
	return (int64_t)time(NULL);
}

#endif
