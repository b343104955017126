/* crc32c.h - the CRC of step_digest, for tests of exactness: a state of the 35B has 63 MB, so by
 * the processor's instruction where there is one. */
#ifndef HEARTH_KERNELS_CRC32C_H
#define HEARTH_KERNELS_CRC32C_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of bytes that follow those which gave `crc`; 0 at the start. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
/* The same on any processor, bit by bit. */
uint32_t crc32c_plain(uint32_t crc, const void *p, size_t n);

#ifdef __cplusplus
}
#endif

#endif
