/* link_auth.c - who may connect: CURVE keys and the ZAP handler behind them.
 *
 * CURVE alone encrypts and lets any key in; libzmq asks a REP socket at a fixed inproc
 * address (ZAP, RFC 27) about each newcomer, and that is where the allow-list is.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/link_int.h"

#define ZAP_ENDPOINT "inproc://zeromq.zap.01"

struct link_auth {
	void *rep;
	char (*allowed)[41];
	size_t n_allowed;
};

bool link_auth_is_loopback(const char *endpoint)
{
	return !strncmp(endpoint, "ipc://", 6) || !strncmp(endpoint, "inproc://", 9) ||
	       !strncmp(endpoint, "tcp://127.", 10) || !strncmp(endpoint, "tcp://[::1]:", 12) ||
	       !strncmp(endpoint, "tcp://localhost:", 16);
}

bool link_auth_is_file(const char *endpoint)
{
	return !strncmp(endpoint, "ipc://", 6) && endpoint[6] && endpoint[6] != '@';
}

int link_auth_own_keys(void *zmq, const char *own_public, const char *own_secret)
{
	if (zmq_setsockopt(zmq, ZMQ_CURVE_PUBLICKEY, own_public, 41) < 0 ||
	    zmq_setsockopt(zmq, ZMQ_CURVE_SECRETKEY, own_secret, 41) < 0)
		return -errno;
	return 0;
}

int link_auth_allow(struct link_auth *a, const char *const *allowed, size_t n)
{
	char (*list)[41] = calloc(n ? n : 1, sizeof(*list));

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (strlen(allowed[i]) != 40) {
			free(list);
			return -EINVAL;
		}
		memcpy(list[i], allowed[i], 41);
	}
	free(a->allowed);
	a->allowed = list;
	a->n_allowed = n;
	return 0;
}

static int open_handler(struct link_auth *a, void *ctx)
{
	a->rep = zmq_socket(ctx, ZMQ_REP);
	if (!a->rep || link_set_int(a->rep, ZMQ_LINGER, 0) < 0 ||
	    zmq_bind(a->rep, ZAP_ENDPOINT) < 0)
		return -errno;
	return 0;
}

int link_auth_lock(void *zmq, const struct link_curve *c)
{
	if (link_set_int(zmq, ZMQ_CURVE_SERVER, 1) < 0 ||
	    zmq_setsockopt(zmq, ZMQ_ZAP_DOMAIN, "hearth", 6) < 0)
		return -errno;
	return link_auth_own_keys(zmq, c->own_public, c->own_secret);
}

int link_auth_open(void *ctx, const struct link_curve *c, struct link_auth **ret)
{
	struct link_auth *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	r = link_auth_allow(a, c->allowed, c->n_allowed);
	if (r == 0)
		r = open_handler(a, ctx);
	if (r < 0)
		a = link_auth_close(a);
	*ret = a;
	return r;
}

struct link_auth *link_auth_close(struct link_auth *a)
{
	if (!a)
		return NULL;
	if (a->rep)
		zmq_close(a->rep);
	free(a->allowed);
	free(a);
	return NULL;
}

void *link_auth_socket(const struct link_auth *a)
{
	return a->rep;
}

bool link_auth_allows(const struct link_auth *a, const char *key)
{
	for (size_t i = 0; i < a->n_allowed; i++)
		if (!strcmp(a->allowed[i], key))
			return true;
	return false;
}

static bool is_unix(int fd)
{
	int domain = 0;
	socklen_t n = sizeof(domain);

	return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 &&
	       domain == AF_UNIX;
}

bool link_auth_may_greet(const struct link_auth *a, const char *key, int fd)
{
	return key ? link_auth_allows(a, key) : is_unix(fd);
}

static bool key_allowed(const struct link_auth *a, const unsigned char *key, size_t n,
			char ret_z85[LINK_KEY])
{
	return n == 32 && zmq_z85_encode(ret_z85, key, n) && link_auth_allows(a, ret_z85);
}

/* One request: version, id, domain, address, identity, mechanism, key.  False: none. */
static bool answer_one(struct link_auth *a)
{
	unsigned char frame[7][64];
	char key[LINK_KEY] = "";
	int n[7] = { 0 };
	bool ok;

	for (int i = 0; i < 7; i++) {
		n[i] = zmq_recv(a->rep, frame[i], sizeof(frame[i]), ZMQ_DONTWAIT);
		if (n[i] < 0)
			return false;
		if (n[i] > (int)sizeof(frame[i]))
			n[i] = 0;	/* longer than any honest one: matches nothing below */
	}
	link_drain_parts(a->rep);
	ok = n[5] == 5 && !memcmp(frame[5], "CURVE", 5) && 
	     key_allowed(a, frame[6], (size_t)n[6], key);
	zmq_send(a->rep, "1.0", 3, ZMQ_SNDMORE);
	zmq_send(a->rep, frame[1], (size_t)n[1], ZMQ_SNDMORE);
	zmq_send(a->rep, ok ? "200" : "400", 3, ZMQ_SNDMORE);
	zmq_send(a->rep, ok ? "OK" : "unknown key", ok ? 2 : 11, ZMQ_SNDMORE);
	/* the User-Id of every message of this connection: who it is, should the list change */
	zmq_send(a->rep, key, ok ? strlen(key) : 0, ZMQ_SNDMORE);
	zmq_send(a->rep, "", 0, 0);
	return true;
}

void link_auth_answer(struct link_auth *a)
{
	while (answer_one(a))
		;
}
