/* desk.c - see desk.h. */
#include "daemon/desk.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/own.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77		/* Linux 6.5; older headers do not have it */
#endif

enum { BACKLOG = 64, MAX_VISITORS = 256 };

struct desk {
	struct event_base *base;
	struct desk_hooks hooks;
	struct event *door;
	struct visitor *visitors;
	size_t n;
	int fd;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* ---- visitors ------------------------------------------------------------------------- */

static void hang_up(struct visitor *v)
{
	if (v->io)
		event_free(v->io);
	v->io = NULL;
	if (v->fd >= 0)
		close(v->fd);
	v->fd = -1;
}

static void unlink_visitor(struct visitor *v)
{
	struct visitor **at = &v->desk->visitors;

	while (*at && *at != v)
		at = &(*at)->next;
	if (*at) {
		*at = v->next;
		v->desk->n--;
	}
}

static void free_visitor(struct visitor *v)
{
	hang_up(v);
	if (v->end)
		event_free(v->end);
	if (v->pidfd >= 0)
		close(v->pidfd);
	free(v->model);
	free(v);
}

static void leave(struct visitor *v)
{
	unlink_visitor(v);
	v->desk->hooks.gone(v->desk->hooks.arg, v);
	free_visitor(v);
}

static void on_end(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	leave(arg);
}

static void on_packet(evutil_socket_t fd, short what, void *arg)
{
	struct visitor *v = arg;
	const struct desk_hooks *h = &v->desk->hooks;
	struct box_msg m;
	struct err e;
	int r = box_recv(fd, BOX_FROM_CLIENT, &m, &e);

	(void)what;
	if (r == -EAGAIN)
		return;
	v->heard_ns = clock_ns();
	if (r < 0) {
		if (r != -ECONNRESET)
			log_warn("process %d: %s; its connection is closed", v->pid, e.text);
		if (v->leased)
			hang_up(v);
		else
			leave(v);
		return;
	}
	switch (m.type) {
	case BOX_PRESENT:
		h->present(h->arg, v, m.body.present);
		break;
	case BOX_TAKEN:
		h->taken(h->arg, v, m.body.taken->bytes);
		break;
	default:
		h->ask(h->arg, v, !m.body.ask->has_holders || m.body.ask->holders);
	}
	box_msg_done(&m);
}

/* The kernel's own handle on the peer; by its number where the kernel is older. */
static int open_pidfd(int fd, int pid)
{
	int pidfd = -1;
	socklen_t n = sizeof(pidfd);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &n) == 0) {
		(void)fcntl(pidfd, F_SETFD, FD_CLOEXEC);
		return pidfd;
	}
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	return pidfd < 0 ? -errno : pidfd;
}

static int welcome(struct desk *d, int fd)
{
	struct visitor *v = calloc(1, sizeof(*v));
	struct ucred who = { 0 };
	socklen_t n = sizeof(who);
	int r = -ENOMEM;

	if (!v) {
		close(fd);
		return r;
	}
	v->desk = d;
	v->fd = fd;
	v->pidfd = -1;
	v->heard_ns = clock_ns();
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) < 0 || who.pid <= 0) {
		r = -ESRCH;	/* of another pid namespace: nothing could be held of it */
		goto fail;
	}
	v->pid = who.pid;
	v->pidfd = open_pidfd(fd, who.pid);
	if (v->pidfd < 0) {
		r = v->pidfd;
		goto fail;
	}
	v->io = event_new(d->base, fd, EV_READ | EV_PERSIST, on_packet, v);
	v->end = event_new(d->base, v->pidfd, EV_READ, on_end, v);
	if (!v->io || !v->end)
		goto fail;
	event_add(v->io, NULL);
	event_add(v->end, NULL);
	v->next = d->visitors;
	d->visitors = v;
	d->n++;
	return 0;
fail:
	free_visitor(v);
	return r;
}

/* Whoever holds nothing and has said nothing for longest goes: an idle one keeps nobody out, and
 * one that has just come, to say something, goes last.  -EBUSY: all hold something. */
static int make_room(struct desk *d)
{
	struct visitor *idle = NULL;

	for (struct visitor *v = d->visitors; v; v = v->next)
		if (!v->leased && !v->id && (!idle || v->heard_ns < idle->heard_ns))
			idle = v;
	if (!idle)
		return -EBUSY;
	log_warn("memory socket: %d visitors; process %d, idle for %" PRIu64 " ms, is sent away "
		 "for a new one", MAX_VISITORS, idle->pid,
		 (uint64_t)((clock_ns() - idle->heard_ns) / NS_PER_MS));
	leave(idle);
	return 0;
}

static void on_door(evutil_socket_t fd, short what, void *arg)
{
	struct desk *d = arg;
	int one = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), r;

	(void)what;
	if (one < 0)
		return;
	if (d->n >= MAX_VISITORS && make_room(d) < 0) {
		log_warn("memory socket: %d visitors hold memory or wait for it, one more is sent "
			 "away", MAX_VISITORS);
		close(one);
		return;
	}
	r = welcome(d, one);
	if (r < 0)
		log_warn("memory socket: a visitor cannot be known: %s", strerror(-r));
}

/* ---- the door --------------------------------------------------------------------------- */

/* Whether the name may be taken: nothing is there, or a socket that nobody listens on.  One that a
 * running hearthd answers at would be lost to its workers, and a file to its owner. */
static int check_free(const struct desk *d, const struct sockaddr_un *a, struct err *e)
{
	struct stat st;
	int fd, r;

	if (lstat(d->path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST, "memory.socket: %s is there and is no socket", d->path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(e, -errno, "socket: %s", strerror(errno));
	r = connect(fd, (const struct sockaddr *)a, sizeof(*a)) < 0 ? errno : 0;
	close(fd);
	if (r == 0 || r == EAGAIN)	/* EAGAIN: its queue is full */
		return err_set(e, -EADDRINUSE, "memory.socket: another hearthd answers at %s",
			       d->path);
	return 0;
}

/* Bound under another name and moved: a worker that comes meanwhile finds the old socket or the
 * new one, never none. */
static int bind_at(struct desk *d, struct err *e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int r;

	memcpy(a.sun_path, d->path, sizeof(a.sun_path));
	r = check_free(d, &a, e);
	if (r < 0)
		return r;
	if ((size_t)snprintf(a.sun_path, sizeof(a.sun_path), "%s.new", d->path) >=
	    sizeof(a.sun_path))
		return err_set(e, -ENAMETOOLONG, "memory.socket: %s is too long", d->path);
	d->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (d->fd < 0)
		return err_set(e, -errno, "socket: %s", strerror(errno));
	*strrchr(a.sun_path, '/') = '\0';
	(void)mkdir(a.sun_path, 0750);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s.new", d->path);
	(void)unlink(a.sun_path);
	if (bind(d->fd, (struct sockaddr *)&a, sizeof(a)) < 0 || chmod(a.sun_path, 0660) < 0 ||
	    listen(d->fd, BACKLOG) < 0 || rename(a.sun_path, d->path) < 0)
		r = err_set(e, -errno, "memory.socket: %s: %s", d->path, strerror(errno));
	return r;
}

int desk_open(struct event_base *base, const char *path, const struct desk_hooks *h,
	      struct desk **ret, struct err *e)
{
	struct desk *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return err_set(e, -ENOMEM, "out of memory");
	d->fd = -1;
	d->base = base;
	d->hooks = *h;
	if (strlen(path) >= sizeof(d->path) || *path != '/') {
		free(d);
		return err_set(e, -EINVAL,
			       "memory.socket: %s is too long, or does not begin with /", path);
	}
	strcpy(d->path, path);
	r = bind_at(d, e);
	if (r == 0) {
		d->door = event_new(base, d->fd, EV_READ | EV_PERSIST, on_door, d);
		r = d->door ? 0 : err_set(e, -ENOMEM, "out of memory");
	}
	if (r < 0) {
		if (d->fd >= 0)
			close(d->fd);
		free(d);
		return r;
	}
	event_add(d->door, NULL);
	*ret = d;
	return 0;
}

struct desk *desk_close(struct desk *d)
{
	if (!d)
		return NULL;
	while (d->visitors) {
		struct visitor *v = d->visitors;

		d->visitors = v->next;
		free_visitor(v);
	}
	event_free(d->door);
	close(d->fd);
	(void)unlink(d->path);
	free(d);
	return NULL;
}

struct visitor *desk_first(const struct desk *d)
{
	return d->visitors;
}

struct visitor *desk_find(const struct desk *d, uint64_t id)
{
	for (struct visitor *v = d->visitors; v && id; v = v->next)
		if (v->id == id)
			return v;
	return NULL;
}

void desk_send(struct visitor *v, enum box_type t, const ProtobufCMessage *m)
{
	int r = v->fd >= 0 ? box_send(v->fd, t, m) : 0;

	/* a reader that lets its socket fill up has stopped; its lease does not depend on it */
	if (r < 0 && r != -EPIPE && r != -ECONNRESET)
		log_warn("process %d: cannot be told: %s", v->pid, strerror(-r));
}

void desk_merge(struct visitor *v)
{
	for (struct visitor *o = v->desk->visitors; o; o = o->next) {
		if (o == v || o->pid != v->pid || !o->leased)
			continue;
		v->id = o->id;
		v->leased = true;
		memcpy(v->alias, o->alias, sizeof(v->alias));
		free(v->model);
		v->model = TAKE(o->model);
		unlink_visitor(o);
		free_visitor(o);
		return;
	}
}

int desk_signal(const struct visitor *v, int sig)
{
	return syscall(SYS_pidfd_send_signal, v->pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}
