/* xid.h - what the GPU's driver wrote into the kernel's log about it. */
#ifndef HEARTH_WORKER_XID_H
#define HEARTH_WORKER_XID_H

#include <stddef.h>
#include <stdint.h>

/* The text of a record of /dev/kmsg ("prio,seq,usec,flags;TEXT\n...") that is an Xid of the NVIDIA
 * driver and not older than since_us (of the kernel's log clock): copied into ret, without its end
 * of line.  How many bytes; 0: it is something else. */
size_t xid_of_record(const char *record, size_t n, uint64_t since_us, char *ret, size_t size);

/* The last Xid of the past `seconds`.  How many bytes; 0: there is none, or this process may not
 * read the kernel's log (the unit forbids it: then `journalctl -k -g Xid` is the place).  Does not
 * wait. */
size_t xid_last(unsigned seconds, char *ret, size_t size);

#endif
