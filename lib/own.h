/* own.h - ownership in the type of a local.
 *
 * CLEANUP(free_fn) runs free_fn(&local) when the local goes out of scope, on
 * every path.  TAKE(local) hands the pointer on and leaves NULL behind, so the
 * cleanup finds nothing to do:
 *
 *	CLEANUP(buf_donep) struct buf b = BUF_INIT;
 *	CLEANUP(job_freep) struct job *job = NULL;
 *	...
 *	*ret_job = TAKE(job);
 */
#ifndef HEARTH_LIB_OWN_H
#define HEARTH_LIB_OWN_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))

#define TAKE(p)                              \
	({                                   \
		__typeof__(p) taken_ = (p);  \
		(p) = NULL;                  \
		taken_;                      \
	})

static inline void freep(void *p)
{
	free(*(void **)p);
}

static inline void closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}

#endif
