/* notify.c - see notify.h. */
#include "daemon/notify.h"

#include <event2/event.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/own.h"

enum { MAX_MESSAGE = 4096, IN_A_ROW = 64 };

struct notify {
	int fd;
	struct event *readable;
	struct sockaddr_un address;
	void (*take)(void *arg, int pid, const char *key, const char *value);
	void *arg;
};

const char *notify_path(const struct notify *n)
{
	return n->address.sun_path;
}

/* One datagram; -1: nothing more.  *ret_pid is 0 when the kernel did not say whose it is. */
static ssize_t receive(int fd, char *text, size_t size, int *ret_pid)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = { text, size };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*ret_pid = 0;
	for (struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&m) : NULL; c; c = CMSG_NXTHDR(&m, c)) {
		struct ucred cred;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS)
			continue;
		memcpy(&cred, CMSG_DATA(c), sizeof(cred));
		*ret_pid = (int)cred.pid;
	}
	return m.msg_flags & MSG_TRUNC ? 0 : n;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct notify *n = arg;
	char text[MAX_MESSAGE + 1], *save = NULL;
	int pid;

	(void)what;
	for (int i = 0; i < IN_A_ROW; i++) {
		ssize_t got = receive(fd, text, MAX_MESSAGE, &pid);

		if (got < 0)
			return;
		text[got] = '\0';
		for (char *line = strtok_r(text, "\n", &save); line && pid > 0;
		     line = strtok_r(NULL, "\n", &save)) {
			char *equals = strchr(line, '=');

			if (!equals)
				continue;
			*equals = '\0';
			n->take(n->arg, pid, line, equals + 1);
		}
	}
}

static void notify_closep(struct notify **n)
{
	notify_close(*n);
}

int notify_open(struct event_base *base, const char *dir,
		void (*take)(void *arg, int pid, const char *key, const char *value), void *arg,
		struct notify **ret, struct err *e)
{
	CLEANUP(notify_closep) struct notify *n = calloc(1, sizeof(*n));
	int one = 1;

	if (!n)
		return err_set(e, -ENOMEM, "out of memory");
	*n = (struct notify){ .fd = -1, .address.sun_family = AF_UNIX, .take = take, .arg = arg };
	if ((size_t)snprintf(n->address.sun_path, sizeof(n->address.sun_path), "%s/notify", dir) >=
	    sizeof(n->address.sun_path))
		return err_set(e, -ENAMETOOLONG, "%s/notify is too long for a socket", dir);
	n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	(void)unlink(n->address.sun_path);
	if (n->fd < 0 || setsockopt(n->fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) < 0 ||
	    bind(n->fd, (struct sockaddr *)&n->address, sizeof(n->address)) < 0)
		return err_set(e, -errno, "%s: %s", n->address.sun_path, strerror(errno));
	n->readable = event_new(base, n->fd, EV_READ | EV_PERSIST, on_readable, n);
	if (!n->readable)
		return err_set(e, -ENOMEM, "out of memory");
	event_add(n->readable, NULL);
	*ret = TAKE(n);
	return 0;
}

struct notify *notify_close(struct notify *n)
{
	if (!n)
		return NULL;
	if (n->readable)
		event_free(n->readable);
	if (n->fd >= 0)
		close(n->fd);
	free(n);
	return NULL;
}
