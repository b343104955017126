/* desk.h - the socket where workers ask for memory.
 *
 * A *visitor* is a process that came, known by the kernel's word for it (SO_PEERCRED) and held by
 * a pidfd, so that its number cannot become another's.  A visitor with a lease stays until the
 * process ends, connected or not; one without ends with its connection.
 *
 * There is room for 256.  When it is full, a new visitor takes the place of the one that has said
 * nothing for longest, of those that hold neither lease nor claim.
 */
#ifndef HEARTH_DAEMON_DESK_H
#define HEARTH_DAEMON_DESK_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"
#include "proto/box_wire.h"

struct event_base;
struct desk;

struct visitor {
	struct visitor *next;
	struct desk *desk;
	int pid;
	uint64_t id;	/* its claim or lease with the broker; 0: none.  The owner's to set */
	bool leased;		/* the owner's to set */
	uint64_t heard_ns;	/* when it came, or said something last */
	char alias[BOX_MAX_NAME];
	char *model;		/* its folder, or NULL */
	int fd, pidfd;
	struct event *io, *end;
};

struct desk_hooks {
	void (*present)(void *arg, struct visitor *v, const Hb__Present *p);
	void (*taken)(void *arg, struct visitor *v, uint64_t bytes);
	void (*ask)(void *arg, struct visitor *v, bool holders);
	/* Its process ended, or it left without a lease: freed on return. */
	void (*gone)(void *arg, struct visitor *v);
	void *arg;
};

/* Binds path in place of an older socket there, mode 0660; makes its folder if need be.  -errno. */
int desk_open(struct event_base *base, const char *path, const struct desk_hooks *h,
	      struct desk **ret, struct err *e);
struct desk *desk_close(struct desk *d);	/* NULL ok; the socket is unlinked */

struct visitor *desk_first(const struct desk *d);
struct visitor *desk_find(const struct desk *d, uint64_t id);
/* To a visitor that is not connected: dropped. */
void desk_send(struct visitor *v, enum box_type t, const ProtobufCMessage *m);
/* Takes what an earlier connection of the same process held: it is the same visitor. */
void desk_merge(struct visitor *v);
/* -errno. */
int desk_signal(const struct visitor *v, int sig);

#endif
