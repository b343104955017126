/* wire_test.c - claims about frames and about the link between two real sockets. */
#include "tests/unit/unit.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "lib/clock.h"
#include "lib/own.h"
#include "proto/link.h"
#include "proto/wire.h"

static Hw__Hello hello(void)
{
	Hw__Hello h = HW__HELLO__INIT;

	h.worker = "w1";
	h.boot = 7;
	h.model = "tiny";
	h.numeric_class = "abc";
	h.max_context = 1024;
	h.max_running = 4;
	h.max_queue = 8;
	return h;
}

struct frame {
	struct buf header, body;
};

static void frame_donep(struct frame *f)
{
	buf_done(&f->header);
	buf_done(&f->body);
}

static int unpack(struct frame *f, enum wire_side from, uint32_t *seq)
{
	struct wire_msg m = { 0 };
	struct err e;
	int r = wire_unpack(from, seq, f->header.p, f->header.n, f->body.p, f->body.n, &m, &e);

	wire_msg_done(&m);
	return r;
}

TEST(a_frame_comes_back_as_it_was)
{
	CLEANUP(frame_donep) struct frame f = { 0 };
	Hw__Delta d = HW__DELTA__INIT;
	Hw__Piece p = HW__PIECE__INIT, *pieces[] = { &p };
	struct wire_msg m = { 0 };
	uint32_t seq = 5;

	p.channel = HW__CHANNEL__CONTENT;
	p.text.data = (uint8_t *)"caf\xc3\xa9";
	p.text.len = 5;
	d.request = 99;
	d.piece = pieces;
	d.n_piece = 1;
	OK(wire_pack(WIRE_DELTA, 5, &d.base, &f.header, &f.body));
	EQ(f.header.n, WIRE_HEADER_BYTES);
	OK(wire_unpack(WIRE_FROM_WORKER, &seq, f.header.p, f.header.n, f.body.p, f.body.n, &m, NULL));
	EQ(seq, 6);
	EQ(m.type, WIRE_DELTA);
	assert_true(m.body.delta->request == 99);
	assert_memory_equal(m.body.delta->piece[0]->text.data, "caf\xc3\xa9", 5);
	wire_msg_done(&m);
}

TEST(each_lie_of_a_header_is_refused)
{
	CLEANUP(frame_donep) struct frame f = { 0 };
	Hw__Hello h = hello();
	uint32_t seq = 0;

	OK(wire_pack(WIRE_HELLO, 0, &h.base, &f.header, &f.body));
	EQ(unpack(&f, WIRE_FROM_ROUTER, &seq), -EPROTO);	/* wrong side */
	seq = 1;
	EQ(unpack(&f, WIRE_FROM_WORKER, &seq), -EILSEQ);	/* a frame was lost */
	EQ(seq, 1);
	seq = 0;
	f.header.p[2]++;
	EQ(unpack(&f, WIRE_FROM_WORKER, &seq), -EPROTONOSUPPORT);
	f.header.p[2]--;
	f.header.p[3] = 77;
	EQ(unpack(&f, WIRE_FROM_WORKER, &seq), -EPROTO);	/* no such type */
	f.header.p[3] = WIRE_HELLO;
	f.header.p[8]++;
	EQ(unpack(&f, WIRE_FROM_WORKER, &seq), -EPROTO);	/* length */
	f.header.p[8]--;
	f.header.n--;
	EQ(unpack(&f, WIRE_FROM_WORKER, &seq), -EPROTO);	/* short header */
	f.header.n++;
	f.body.p[0] ^= 0x7f;
	EQ(unpack(&f, WIRE_FROM_WORKER, &seq), -EPROTO);	/* not protobuf of this type */
	f.body.p[0] ^= 0x7f;
	OK(unpack(&f, WIRE_FROM_WORKER, &seq));
}

TEST(a_message_over_its_types_limit_is_neither_packed_nor_unpacked)
{
	CLEANUP(frame_donep) struct frame f = { 0 };
	Hw__Goodbye g = HW__GOODBYE__INIT;
	char *big = calloc(1, 5000);
	uint32_t seq = 0;

	memset(big, 'x', 4999);
	g.reason = big;
	EQ(wire_pack(WIRE_GOODBYE, 0, &g.base, &f.header, &f.body), -EMSGSIZE);
	EQ(f.body.n, 0);
	big[10] = '\0';
	OK(wire_pack(WIRE_GOODBYE, 0, &g.base, &f.header, &f.body));
	buf_put(&f.body, big, 4990);
	f.header.p[8] = (char)(f.body.n & 0xff);
	f.header.p[9] = (char)(f.body.n >> 8);
	EQ(unpack(&f, WIRE_FROM_ROUTER, &seq), -EMSGSIZE);
	free(big);
}

static int generate_code(const Hw__Generate *g)
{
	CLEANUP(frame_donep) struct frame f = { 0 };
	uint32_t seq = 0;

	OK(wire_pack(WIRE_GENERATE, 0, &g->base, &f.header, &f.body));
	return unpack(&f, WIRE_FROM_ROUTER, &seq);
}

TEST(values_that_would_have_to_be_believed_are_checked)
{
	Hw__Generate g = HW__GENERATE__INIT;
	Hw__Sampling s = HW__SAMPLING__INIT;

	g.model = "tiny";
	EQ(generate_code(&g), -EPROTO);		/* no prompt */
	g.has_text = 1;
	g.text.data = (uint8_t *)"\xff";
	g.text.len = 1;
	EQ(generate_code(&g), -EPROTO);		/* not UTF-8 */
	g.text.data = (uint8_t *)"a";
	OK(generate_code(&g));
	g.has_n = 1;
	g.n = 0;
	EQ(generate_code(&g), -EPROTO);
	g.n = 129;
	EQ(generate_code(&g), -EPROTO);
	g.n = 128;
	g.has_first_choice = 1;
	g.first_choice = 1;
	EQ(generate_code(&g), -EPROTO);
	g.first_choice = 0;
	g.sampling = &s;
	s.has_top_p = 1;
	s.top_p = 0.0f / (g.first_choice ? 1.0f : 0.0f);
	EQ(generate_code(&g), -EPROTO);		/* NaN */
	s.top_p = 0.5f;
	OK(generate_code(&g));
	g.model = "a b";
	EQ(generate_code(&g), -EPROTO);
}

/* ---- the link ------------------------------------------------------------------ */

static char endpoint[64];

static int make_endpoint(void **state)
{
	(void)state;
	snprintf(endpoint, sizeof(endpoint), "ipc:///tmp/hearth-wire-test-%d", (int)getpid());
	return 0;
}

static int server_wait(struct link_server *s, struct link_in *in)
{
	struct pollfd p = { link_server_fd(s), POLLIN, 0 };

	for (uint64_t end = clock_ns() + 10 * NS_PER_S; clock_ns() < end;) {
		if (link_server_recv(s, in) == 0)
			return 0;
		poll(&p, 1, 100);
	}
	return -ETIMEDOUT;
}

static int client_wait(struct link_client *c, struct link_in *in)
{
	struct pollfd p = { link_client_fd(c), POLLIN, 0 };

	for (uint64_t end = clock_ns() + 10 * NS_PER_S; clock_ns() < end;) {
		if (link_client_recv(c, in) == 0)
			return 0;
		poll(&p, 1, 100);
	}
	return -ETIMEDOUT;
}

static struct link_server *open_server(void)
{
	const char *e[] = { endpoint };
	struct link_server *s = NULL;

	OK(link_server_open(e, 1, NULL, &s, NULL));
	return s;
}

static void say_hello(struct link_client *c)
{
	struct link_in in;
	Hw__Hello h = hello();

	OK(client_wait(c, &in));
	EQ(in.event, LINK_NEW);
	OK(link_client_send(c, WIRE_HELLO, &h.base));
}

static link_peer meet(struct link_server *s)
{
	struct link_in in;
	link_peer peer;

	OK(server_wait(s, &in));
	EQ(in.event, LINK_NEW);
	assert_string_equal(in.msg.body.hello->worker, "w1");
	EQ(in.uid, geteuid());
	peer = in.peer;
	wire_msg_done(&in.msg);
	return peer;
}

TEST(messages_go_both_ways_and_the_socket_file_is_private)
{
	struct link_server *s = open_server();
	struct link_client *c = NULL;
	Hw__Welcome w = HW__WELCOME__INIT;
	struct link_in in;
	struct stat st;
	link_peer peer;

	OK(stat(endpoint + 6, &st));
	EQ(st.st_mode & 0777, 0660);
	OK(link_client_open(endpoint, NULL, &c, NULL));
	say_hello(c);
	peer = meet(s);
	w.beat_ms = 1000;
	w.dead_ms = 3000;
	for (uint32_t i = 0; i < 100; i++) {
		w.router_boot = i;
		OK(link_server_send(s, peer, WIRE_WELCOME, &w.base));
	}
	for (uint32_t i = 0; i < 100; i++) {
		OK(client_wait(c, &in));
		EQ(in.event, LINK_MESSAGE);
		assert_true(in.msg.body.welcome->router_boot == i);
		wire_msg_done(&in.msg);
	}
	EQ(link_server_send(s, peer + 1, WIRE_WELCOME, &w.base), -ENOENT);
	link_client_close(c);
	link_server_close(s);
}

TEST(a_killed_worker_is_noticed_at_once_and_its_successor_is_a_new_peer)
{
	struct link_server *s = open_server();
	struct link_in in;
	link_peer peer;
	uint64_t t;
	pid_t pid = fork();	/* before any context of ours exists in the child */

	if (pid == 0) {
		struct link_client *c = NULL;

		if (link_client_open(endpoint, NULL, &c, NULL) < 0)
			_exit(1);
		say_hello(c);
		pause();
		_exit(0);
	}
	peer = meet(s);
	kill(pid, SIGKILL);
	t = clock_ns();
	OK(server_wait(s, &in));
	EQ(in.event, LINK_GONE);
	assert_true(in.peer == peer);
	assert_true(clock_ns() - t < 1000 * NS_PER_MS);
	waitpid(pid, NULL, 0);
	link_server_close(s);
}

static void send_beats(struct link_client *c, uint32_t n)
{
	Hw__WorkerBeat b = HW__WORKER_BEAT__INIT;

	b.has_running = 1;
	for (b.running = 0; b.running < n; b.running++)
		OK(link_client_send(c, WIRE_WORKER_BEAT, &b.base));
}

/* libzmq sends from its own thread, and what it has not sent is lost with the socket. */
static void wait_until_sent(void)
{
	usleep(200000);
}

TEST(a_peers_last_words_come_before_its_end)
{
	struct link_server *s = open_server();
	struct link_client *c = NULL;
	struct link_in in;
	link_peer peer;

	OK(link_client_open(endpoint, NULL, &c, NULL));
	say_hello(c);
	peer = meet(s);
	send_beats(c, 50);
	wait_until_sent();
	link_client_close(c);
	wait_until_sent();	/* the close, too, is there before anything is read */
	for (uint32_t i = 0; i < 50; i++) {
		OK(server_wait(s, &in));
		EQ(in.event, LINK_MESSAGE);
		EQ(in.msg.body.worker_beat->running, i);
		wire_msg_done(&in.msg);
	}
	OK(server_wait(s, &in));
	EQ(in.event, LINK_GONE);
	assert_true(in.peer == peer);
	EQ(link_server_recv(s, &in), -EAGAIN);
	link_server_close(s);
}

TEST(a_flood_does_not_hide_a_close)
{
	struct link_server *s = open_server();
	struct link_client *loud = NULL, *c = NULL;
	struct link_in in;
	link_peer noise, peer;
	uint32_t heard = 0;

	OK(link_client_open(endpoint, NULL, &loud, NULL));
	say_hello(loud);
	noise = meet(s);
	OK(link_client_open(endpoint, NULL, &c, NULL));
	say_hello(c);
	peer = meet(s);
	send_beats(loud, 5000);
	wait_until_sent();
	link_client_close(c);
	wait_until_sent();
	for (;; heard++) {
		OK(server_wait(s, &in));
		if (in.event == LINK_GONE)
			break;
		assert_true(in.peer == noise);
		wire_msg_done(&in.msg);
	}
	assert_true(in.peer == peer);
	assert_in_range(heard, 0, 1000);
	link_client_close(loud);
	link_server_close(s);
}

/* The kernel gives the lowest free number: a new connection comes by its predecessor's. */
TEST(a_descriptor_that_is_used_again_is_another_peer)
{
	struct link_server *s = open_server();
	struct link_client *c = NULL;
	struct link_in in;
	link_peer last;

	OK(link_client_open(endpoint, NULL, &c, NULL));
	say_hello(c);
	last = meet(s);
	for (int i = 0; i < 10; i++) {
		bool gone = false, came = false;
		link_peer next = 0;

		link_client_close(c);
		wait_until_sent();
		OK(link_client_open(endpoint, NULL, &c, NULL));
		say_hello(c);
		wait_until_sent();	/* close and Hello are both there, in whatever order */
		while (!gone || !came) {
			OK(server_wait(s, &in));
			gone |= in.event == LINK_GONE && in.peer == last;
			assert_true(in.event == LINK_NEW || in.peer == last);
			if (in.event == LINK_NEW) {
				came = true;
				next = in.peer;
			}
			wire_msg_done(&in.msg);
		}
		EQ(link_server_recv(s, &in), -EAGAIN);
		last = next;
	}
	link_client_close(c);
	link_server_close(s);
}

TEST(a_restarted_router_is_found_again)
{
	struct link_server *s = open_server();
	struct link_client *c = NULL;
	struct link_in in;

	OK(link_client_open(endpoint, NULL, &c, NULL));
	say_hello(c);
	meet(s);
	link_server_close(s);
	OK(client_wait(c, &in));
	EQ(in.event, LINK_GONE);
	s = open_server();
	say_hello(c);
	meet(s);
	link_client_close(c);
	link_server_close(s);
}

/* Speaks raw ZeroMQ: sends `n` frames of rubbish after a good Hello. */
TEST(a_peer_that_breaks_the_protocol_is_dropped)
{
	CLEANUP(frame_donep) struct frame f = { 0 };
	struct link_server *s = open_server();
	void *ctx = zmq_ctx_new(), *d = zmq_socket(ctx, ZMQ_DEALER);
	Hw__Hello h = hello();
	struct link_in in;
	link_peer peer;
	int zero = 0;

	zmq_setsockopt(d, ZMQ_LINGER, &zero, sizeof(zero));
	OK(zmq_connect(d, endpoint));
	zmq_send(d, "stranger", 8, 0);		/* no greeting: ignored */
	OK(wire_pack(WIRE_HELLO, 0, &h.base, &f.header, &f.body));
	zmq_send(d, f.header.p, f.header.n, ZMQ_SNDMORE);
	zmq_send(d, f.body.p, f.body.n, 0);
	peer = meet(s);
	zmq_send(d, f.header.p, f.header.n, ZMQ_SNDMORE);	/* sequence 0 again */
	zmq_send(d, f.body.p, f.body.n, 0);
	OK(server_wait(s, &in));
	EQ(in.event, LINK_GONE);
	assert_true(in.peer == peer);
	assert_non_null(strstr(in.why, "sequence"));
	zmq_close(d);
	zmq_ctx_term(ctx);
	link_server_close(s);
}

TEST(off_loopback_only_with_keys)
{
	const char *e[] = { "tcp://0.0.0.0:45123" };
	struct link_server *s = NULL;

	EQ(link_server_open(e, 1, NULL, &s, NULL), -EPERM);
}

TEST(curve_lets_in_only_the_keys_on_the_list)
{
	char sp[41], ss[41], wp[41], ws[41], xp[41], xs[41];
	char own[64];		/* an address of ours alone: tests run side by side */
	const char *e[] = { own };
	const char *allowed[] = { wp };
	struct link_server *s = NULL;
	struct link_client *good = NULL, *bad = NULL;
	struct link_in in;

	snprintf(own, sizeof(own), "tcp://127.%d.%d.%d:45124", 1 + getpid() / 65536 % 200,
		 getpid() / 256 % 256, 1 + getpid() % 250);
	OK(zmq_curve_keypair(sp, ss));
	OK(zmq_curve_keypair(wp, ws));
	OK(zmq_curve_keypair(xp, xs));
	OK(link_server_open(e, 1, &(struct link_curve){ sp, ss, NULL, allowed, 1 }, &s, NULL));
	OK(link_client_open(e[0], &(struct link_curve){ xp, xs, sp, NULL, 0 }, &bad, NULL));
	for (int i = 0; i < 10; i++) {
		EQ(link_server_recv(s, &in), -EAGAIN);
		EQ(link_client_recv(bad, &in), -EAGAIN);
		usleep(30000);
	}
	OK(link_client_open(e[0], &(struct link_curve){ wp, ws, sp, NULL, 0 }, &good, NULL));
	for (int i = 0; i < 100 && link_client_recv(good, &in) < 0; i++) {
		EQ(link_server_recv(s, &in), -EAGAIN);
		usleep(20000);
	}
	EQ(in.event, LINK_NEW);
	link_client_close(good);
	link_client_close(bad);
	link_server_close(s);
}

/* Whether a client that says hello `at` there becomes a peer within 2 s; *ret_c: the client. */
static bool comes_in(struct link_server *s, const char *at, const struct link_curve *c,
		     struct link_client **ret_c, link_peer *ret_peer)
{
	Hw__Hello h = hello();
	struct link_in in;

	OK(link_client_open(at, c, ret_c, NULL));
	for (int i = 0; i < 100; i++) {
		if (link_client_recv(*ret_c, &in) == 0 && in.event == LINK_NEW)
			OK(link_client_send(*ret_c, WIRE_HELLO, &h.base));
		if (link_server_recv(s, &in) == 0) {
			EQ(in.event, LINK_NEW);
			wire_msg_done(&in.msg);
			*ret_peer = in.peer;
			return true;
		}
		usleep(20000);
	}
	return false;
}

TEST(with_keys_a_sockets_file_is_guarded_by_its_mode_alone)
{
	char sp[41], ss[41], wp[41], ws[41], tcp[64], file[80], abstract[64];
	const struct link_curve friend = { wp, ws, sp, NULL, 0 };
	const struct link_curve stranger = { ss, sp, wp, NULL, 0 };
	const char *e[] = { tcp, file, abstract };
	const char *allowed[] = { wp };
	struct link_server *s = NULL;
	struct link_client *c[6] = { NULL };
	Hw__Goodbye bye = HW__GOODBYE__INIT;
	link_peer by_file, by_key, peer;
	struct link_in in;

	snprintf(tcp, sizeof(tcp), "tcp://127.%d.%d.%d:45125", 1 + getpid() / 65536 % 200,
		 getpid() / 256 % 256, 1 + getpid() % 250);
	snprintf(file, sizeof(file), "%s-keyed", endpoint);
	snprintf(abstract, sizeof(abstract), "ipc://@hearth-wire-%d", getpid());
	OK(zmq_curve_keypair(sp, ss));
	OK(zmq_curve_keypair(wp, ws));
	OK(link_server_open(e, 3, &(struct link_curve){ sp, ss, NULL, allowed, 1 }, &s, NULL));
	assert_false(comes_in(s, tcp, NULL, &c[0], &peer));
	assert_false(comes_in(s, abstract, NULL, &c[1], &peer));
	assert_true(comes_in(s, file, NULL, &c[2], &by_file));
	/* keys that were configured before are no hindrance, those of a stranger neither */
	assert_true(comes_in(s, file, &stranger, &c[3], &peer));
	assert_true(comes_in(s, tcp, &friend, &c[4], &by_key));
	assert_true(comes_in(s, abstract, &friend, &c[5], &peer));
	/* the list is about keys: those without one stay */
	OK(link_server_allow(s, NULL, 0));
	for (int i = 0; i < 2; i++) {
		OK(server_wait(s, &in));
		EQ(in.event, LINK_GONE);
		assert_true(in.peer == by_key || in.peer == peer);
	}
	EQ(link_server_recv(s, &in), -EAGAIN);
	OK(link_server_send(s, by_file, WIRE_GOODBYE, &bye.base));
	for (size_t i = 0; i < 6; i++)
		link_client_close(c[i]);
	link_server_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_frame_comes_back_as_it_was),
		cmocka_unit_test(each_lie_of_a_header_is_refused),
		cmocka_unit_test(a_message_over_its_types_limit_is_neither_packed_nor_unpacked),
		cmocka_unit_test(values_that_would_have_to_be_believed_are_checked),
		cmocka_unit_test(messages_go_both_ways_and_the_socket_file_is_private),
		cmocka_unit_test(a_killed_worker_is_noticed_at_once_and_its_successor_is_a_new_peer),
		cmocka_unit_test(a_peers_last_words_come_before_its_end),
		cmocka_unit_test(a_flood_does_not_hide_a_close),
		cmocka_unit_test(a_descriptor_that_is_used_again_is_another_peer),
		cmocka_unit_test(a_restarted_router_is_found_again),
		cmocka_unit_test(a_peer_that_breaks_the_protocol_is_dropped),
		cmocka_unit_test(off_loopback_only_with_keys),
		cmocka_unit_test(curve_lets_in_only_the_keys_on_the_list),
		cmocka_unit_test(with_keys_a_sockets_file_is_guarded_by_its_mode_alone),
	};

	return cmocka_run_group_tests(tests, make_endpoint, NULL);
}
