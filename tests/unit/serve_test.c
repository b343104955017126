/* serve_test.c - claims about worker/serve.h: a worker in a thread of its own, on the fake
 * device and the tiny model's tokenizer, and a router that is this test, over ipc. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/own.h"
#include "tests/fake/device.h"
#include "tests/unit/unit.h"
#include "worker/serve.h"

enum { CONTEXT = 1024, MAX_QUEUE = 100, MAX_REQUESTS = 128, MAX_TOKENS = 1100 };

static struct model_shape shape;
static struct text_model model;

/* What the router heard about one choice of one request. */
struct heard {
	bool accepted, refused, done;
	uint64_t seed;
	uint32_t prompt_tokens, next_seq, n_deltas;
	Hw__Refusal reason;
	uint32_t retry_after_ms;
	char message[256];
	Hw__Finish finish;
	uint32_t n, output_tokens;
	uint32_t tokens[MAX_TOKENS];
	struct buf text;
	uint32_t n_logprobs;
};

struct world {
	struct engine *engine;
	struct serve_options o;
	pthread_t thread;
	int result;			/* of serve_run() */
	uint64_t lose_at;
	unsigned slow_us;

	char endpoint[128];
	struct link_server *server;
	link_peer peer;
	uint32_t n_beats, n_hellos, max_context;
	bool gone, goodbye;
	struct heard h[MAX_REQUESTS];
	bool auto_credit;
};

static struct world w;

/* ---- the worker ------------------------------------------------------------------- */

static int open_fake(void *ctx, struct device **ret, struct sched_config *ret_c, struct err *e)
{
	const struct device_limits l = { .n_slots = 8, .n_blocks = 40, .max_rows = 128,
					 .max_context = CONTEXT };
	int r = device_open("fake", &shape, &l, ret, e);

	(void)ctx;
	if (r == 0 && w.lose_at)
		fake_lose_device(*ret, w.lose_at);
	if (r == 0)
		fake_slow(*ret, w.slow_us);
	*ret_c = (struct sched_config){ .n_slots = 8, .n_blocks = 40, .max_rows = 128,
					.max_context = CONTEXT, .max_queue = MAX_QUEUE,
					.prefill_rows = 64, .replay_rows = 8 };
	return r;
}

static void *worker(void *arg)
{
	(void)arg;
	w.result = serve_run(&w.o, &model, w.engine, NULL);
	return NULL;
}

/* ---- the router ------------------------------------------------------------------- */

static void send_msg(enum wire_type t, void *m)
{
	OK(link_server_send(w.server, w.peer, t, m));
}

static void welcome(void)
{
	Hw__Welcome m = HW__WELCOME__INIT;

	m.router_boot = 1;
	m.beat_ms = 50;
	m.dead_ms = 2000;
	send_msg(WIRE_WELCOME, &m);
}

static struct heard *of(uint64_t request, uint32_t choice)
{
	assert_true(request + choice < MAX_REQUESTS);
	return &w.h[request + choice];
}

static void hear_delta(const Hw__Delta *d)
{
	struct heard *h = of(d->request, d->choice);

	EQ(d->seq, of(d->request, 0)->next_seq++);	/* no gap, over all choices */
	assert_false(h->done);
	h->n_deltas++;
	for (size_t i = 0; i < d->n_token; i++)
		h->tokens[h->n++] = d->token[i];
	for (size_t i = 0; i < d->n_piece; i++)
		buf_put(&h->text, d->piece[i]->text.data, d->piece[i]->text.len);
	h->n_logprobs += (uint32_t)d->n_logprob;
	if (w.auto_credit) {
		Hw__Credit c = HW__CREDIT__INIT;

		c.request = d->request;
		c.more = 1;
		send_msg(WIRE_CREDIT, &c);
	}
}

/* A router is never silent: one that answers no beat is left after two seconds, which a busy
 * machine makes of these tests.  The worker may be gone by now. */
static void beat(void)
{
	Hw__RouterBeat m = HW__ROUTER_BEAT__INIT;

	(void)link_server_send(w.server, w.peer, WIRE_ROUTER_BEAT, &m.base);
}

static void hear(const struct wire_msg *m)
{
	struct heard *h;

	switch (m->type) {
	case WIRE_WORKER_BEAT:
		w.n_beats++;
		beat();
		break;
	case WIRE_ACCEPTED:
		h = of(m->body.accepted->request, 0);
		h->accepted = true;
		h->seed = m->body.accepted->seed;
		h->prompt_tokens = m->body.accepted->prompt_tokens;
		break;
	case WIRE_REFUSED:
		h = of(m->body.refused->request, 0);
		h->refused = h->done = true;
		h->reason = m->body.refused->reason;
		h->retry_after_ms = m->body.refused->retry_after_ms;
		snprintf(h->message, sizeof(h->message), "%s", m->body.refused->message);
		break;
	case WIRE_DELTA:
		hear_delta(m->body.delta);
		break;
	case WIRE_DONE:
		EQ(m->body.done->seq, of(m->body.done->request, 0)->next_seq++);
		h = of(m->body.done->request, m->body.done->choice);
		assert_false(h->done);
		h->done = true;
		h->finish = m->body.done->finish;
		h->output_tokens = m->body.done->output_tokens;
		break;
	case WIRE_GOODBYE:
		w.goodbye = true;
		break;
	default:
		break;
	}
}

/* What there is within `ms`; false: nothing came. */
static bool listen_ms(int ms)
{
	struct pollfd fd = { .fd = link_server_fd(w.server), .events = POLLIN };
	struct link_in in;
	bool any = false;

	for (int round = 0; round < 2 && !any; round++) {
		while (link_server_recv(w.server, &in) == 0) {
			any = true;
			if (in.event == LINK_NEW) {
				w.peer = in.peer;
				w.n_hellos++;
				w.max_context = in.msg.body.hello->max_context;
				welcome();
			} else if (in.event == LINK_GONE) {
				w.gone = true;
			} else {
				hear(&in.msg);
			}
			wire_msg_done(&in.msg);
		}
		if (!any && round == 0)
			(void)poll(&fd, 1, ms);
	}
	return any;
}

#define UNTIL(condition)                                                     \
	do {                                                                 \
		uint64_t end_ = clock_ns() + 20 * NS_PER_S;                  \
		while (!(condition)) {                                       \
			assert_true(clock_ns() < end_);                      \
			listen_ms(20);                                       \
		}                                                            \
	} while (0)

static void open_router(void)
{
	const char *e = w.endpoint;

	OK(link_server_open(&e, 1, NULL, &w.server, NULL));
}

static void world_open_with(uint64_t lose_at, unsigned slow_us)
{
	static unsigned n;

	memset(&w, 0, sizeof(w));
	w.lose_at = lose_at;
	w.slow_us = slow_us;
	w.auto_credit = true;
	snprintf(w.endpoint, sizeof(w.endpoint), "ipc:///tmp/hearth-serve-test-%d-%u",
		 (int)getpid(), n++);
	open_router();
	OK(engine_start(open_fake, NULL, &w.engine, NULL));
	w.o = (struct serve_options){ .endpoint = w.endpoint, .name = "w1", .alias = "tiny",
				      .numeric_class = "fake", .version = "0", .max_running = 8,
				      .drain_ms = 5000 };
	OK(pthread_create(&w.thread, NULL, worker, NULL));
	UNTIL(w.n_hellos == 1);
}

static void world_open(void)
{
	world_open_with(0, 0);
}

static void world_close(void)
{
	Hw__Drain m = HW__DRAIN__INIT;

	if (!w.lose_at) {
		send_msg(WIRE_DRAIN, &m);
		UNTIL(w.goodbye);
	}
	OK(pthread_join(w.thread, NULL));
	EQ(w.result, w.lose_at ? -ENODEV : 0);
	engine_stop(w.engine);
	link_server_close(w.server);
	unlink(w.endpoint + 6);
	for (int i = 0; i < MAX_REQUESTS; i++)
		buf_done(&w.h[i].text);
}

/* ---- requests ----------------------------------------------------------------------- */

struct ask {
	uint64_t id, seed;
	uint32_t max_tokens, n, credit, deadline_ms, n_known;
	const uint32_t *known;
	const char *text, *stop, *alias;
	bool echo, ignore_eos, logprobs;
};

static void ask(struct ask a)
{
	Hw__Generate g = HW__GENERATE__INIT;
	Hw__Sampling s = HW__SAMPLING__INIT;
	ProtobufCBinaryData stop = { a.stop ? strlen(a.stop) : 0, (uint8_t *)(uintptr_t)a.stop };

	g.request = a.id;
	g.model = (char *)(uintptr_t)(a.alias ? a.alias : "tiny");
	g.credit = a.credit ? a.credit : 8;
	g.has_text = 1;
	g.text.data = (uint8_t *)(uintptr_t)a.text;
	g.text.len = strlen(a.text);
	g.has_max_tokens = a.max_tokens > 0;
	g.max_tokens = a.max_tokens;
	g.has_n = a.n > 0;
	g.n = a.n ? a.n : 1;
	g.has_deadline_ms = a.deadline_ms > 0;
	g.deadline_ms = a.deadline_ms;
	g.n_stop = a.stop != NULL;
	g.stop = &stop;
	g.has_echo = g.echo = a.echo;
	g.has_ignore_eos = g.ignore_eos = a.ignore_eos;
	g.known = (uint32_t *)(uintptr_t)a.known;
	g.n_known = a.n_known;
	g.sampling = &s;
	s.has_seed = a.seed > 0;
	s.seed = a.seed;
	s.has_temperature = 1;
	s.temperature = 1;
	s.has_logprobs = s.logprobs = a.logprobs;
	send_msg(WIRE_GENERATE, &g);
}

/* What the fake device answers to a text; ends at the tokenizer's eos as serve does. */
static uint32_t answer(const char *text, uint64_t seed, uint32_t choice, uint32_t n, bool no_eos,
		       uint32_t *ret)
{
	struct ids l = IDS_INIT;
	struct sampling s = { .seed = seed, .choice = choice, .temperature = 1,
			      .never = model.gen.eos, .n_never = no_eos ? model.gen.n_eos : 0 };
	uint32_t i;

	OK(tokenizer_encode(model.tokenizer, text, strlen(text), NULL, 0, TOK_SPECIAL, &l));
	fake_answer(l.p, (uint32_t)l.n, &s, shape.n_token_ids, n, ret);
	ids_done(&l);
	for (i = 0; i < n; i++)
		for (uint32_t k = 0; k < model.gen.n_eos; k++)
			if (ret[i] == model.gen.eos[k])
				return i;
	return n;
}

static void check_answer(const char *text, const struct heard *h, uint64_t seed, uint32_t choice,
			 uint32_t max, bool no_eos)
{
	static uint32_t want[MAX_TOKENS];
	CLEANUP(buf_donep) struct buf shown = BUF_INIT;
	uint32_t n = answer(text, seed, choice, max, no_eos, want);

	EQ(h->n, n);
	assert_memory_equal(h->tokens, want, n * sizeof(*want));
	OK(tokenizer_decode(model.tokenizer, want, n, true, &shown));
	EQ(h->text.n, shown.n);
	if (shown.n)
		assert_memory_equal(h->text.p, shown.p, shown.n);
	EQ(h->finish, n < max ? HW__FINISH__STOP : HW__FINISH__LENGTH);
	EQ(h->output_tokens, n < max ? n + 1 : n);
}

/* ---- claims ----------------------------------------------------------------------------- */

TEST(a_worker_greets_beats_and_answers)
{
	world_open();
	EQ(w.max_context, CONTEXT);
	ask((struct ask){ .id = 1, .seed = 7, .text = "What is two and two?", .max_tokens = 100 });
	UNTIL(w.h[1].done);
	assert_true(w.h[1].accepted);
	EQ(w.h[1].seed, 7);
	check_answer("What is two and two?", &w.h[1], 7, 0, 100, false);
	UNTIL(w.n_beats >= 3);
	world_close();
}

TEST(many_at_once_say_what_each_says_alone)
{
	char text[MAX_REQUESTS][64];

	world_open();
	for (uint32_t i = 0; i < 100; i++) {
		snprintf(text[i], sizeof(text[i]), "Question number %u, please.", i * i);
		ask((struct ask){ .id = i, .seed = i + 1, .text = text[i], .max_tokens = 20 + i });
	}
	for (uint32_t i = 0; i < 100; i++) {
		UNTIL(w.h[i].done);
		check_answer(text[i], &w.h[i], i + 1, 0, 20 + i, false);
	}
	world_close();
}

TEST(a_request_without_seed_is_given_one_that_repeats_it)
{
	world_open();
	ask((struct ask){ .id = 1, .text = "again", .max_tokens = 50 });
	UNTIL(w.h[1].done);
	check_answer("again", &w.h[1], w.h[1].seed, 0, 50, false);
	world_close();
}

TEST(choices_differ_and_each_is_itself)
{
	world_open();
	ask((struct ask){ .id = 1, .seed = 5, .text = "pick", .max_tokens = 40, .n = 4 });
	for (uint32_t c = 0; c < 4; c++)
		UNTIL(w.h[1 + c].done);
	for (uint32_t c = 0; c < 4; c++)
		check_answer("pick", &w.h[1 + c], 5, c, 40, false);
	assert_true(w.h[1].n != w.h[2].n || memcmp(w.h[1].tokens, w.h[2].tokens, w.h[1].n * 4));
	world_close();
}

TEST(without_credit_nothing_is_sent_and_nothing_is_lost)
{
	Hw__Credit c = HW__CREDIT__INIT;

	world_open_with(0, 200);
	w.auto_credit = false;
	ask((struct ask){ .id = 1, .seed = 3, .text = "slow", .max_tokens = 900, .credit = 1,
			  .ignore_eos = true });
	ask((struct ask){ .id = 2, .seed = 4, .text = "quick", .max_tokens = 900, .credit = 5000,
			  .ignore_eos = true });
	UNTIL(w.h[2].done);	/* the stalled one does not hold the other up */
	EQ(w.h[1].n_deltas, 1);
	assert_false(w.h[1].done);
	c.request = 1;
	c.more = 5000;
	send_msg(WIRE_CREDIT, &c);
	UNTIL(w.h[1].done);
	check_answer("slow", &w.h[1], 3, 0, 900, true);
	check_answer("quick", &w.h[2], 4, 0, 900, true);
	world_close();
}

TEST(cancel_ends_it_at_once)
{
	Hw__Cancel c = HW__CANCEL__INIT;

	world_open_with(0, 1000);
	w.auto_credit = false;
	ask((struct ask){ .id = 1, .text = "stop me", .credit = 2, .ignore_eos = true });
	UNTIL(w.h[1].n_deltas == 2);
	c.request = 1;
	send_msg(WIRE_CANCEL, &c);
	UNTIL(w.h[1].done);
	EQ(w.h[1].finish, HW__FINISH__CANCELLED);
	c.request = 99;
	send_msg(WIRE_CANCEL, &c);	/* nobody's: harmless */
	world_close();
}

TEST(a_continuation_says_exactly_the_rest)
{
	static uint32_t want[MAX_TOKENS];
	uint32_t n;

	world_open();
	n = answer("go on", 11, 0, 60, false, want);
	for (uint32_t k = 1; k < n && k < 30; k += 7) {
		uint64_t id = 10 + k;

		ask((struct ask){ .id = id, .seed = 11, .text = "go on", .max_tokens = 60,
				  .known = want, .n_known = k });
		UNTIL(w.h[id].done);
		EQ(w.h[id].n, n - k);
		assert_memory_equal(w.h[id].tokens, want + k, (n - k) * sizeof(*want));
		EQ(w.h[id].output_tokens, n < 60 ? n + 1 : n);
	}
	/* all of it known: only the end is left to say */
	ask((struct ask){ .id = 90, .seed = 11, .text = "go on", .max_tokens = n < 5 ? n : 5,
			  .known = want, .n_known = n < 5 ? n : 5 });
	UNTIL(w.h[90].done);
	EQ(w.h[90].finish, HW__FINISH__LENGTH);
	EQ(w.h[90].n, 0);
	world_close();
}

TEST(what_cannot_be_done_is_refused_in_words)
{
	static char text[20000];

	world_open();
	memset(text, 'x', sizeof(text) - 1);
	ask((struct ask){ .id = 1, .text = text });
	UNTIL(w.h[1].refused);
	EQ(w.h[1].reason, HW__REFUSAL__CONTEXT_LENGTH);
	assert_non_null(strstr(w.h[1].message, "maximum context length is 1024 tokens"));
	ask((struct ask){ .id = 2, .text = "" });
	UNTIL(w.h[2].refused);
	EQ(w.h[2].reason, HW__REFUSAL__BAD_REQUEST);
	ask((struct ask){ .id = 3, .text = "x", .alias = "other" });
	UNTIL(w.h[3].refused);
	EQ(w.h[3].reason, HW__REFUSAL__UNSUPPORTED);
	ask((struct ask){ .id = 4, .text = "x", .echo = true, .logprobs = true });
	UNTIL(w.h[4].refused);
	ask((struct ask){ .id = 5, .text = "x", .n = MAX_QUEUE + 1 });
	UNTIL(w.h[5].refused);
	EQ(w.h[5].reason, HW__REFUSAL__BAD_REQUEST);
	world_close();
}

TEST(a_full_queue_says_when_to_come_back)
{
	world_open_with(0, 1000);
	w.auto_credit = false;
	for (uint32_t i = 0; i < 2; i++)
		ask((struct ask){ .id = i * 100, .text = "fill", .n = i ? 20 : MAX_QUEUE,
				  .ignore_eos = true });
	UNTIL(w.h[0].accepted && w.h[100].refused);
	EQ(w.h[100].reason, HW__REFUSAL__QUEUE_FULL);
	assert_true(w.h[100].retry_after_ms >= 250);
	for (int i = 0; i < 20; i++) {	/* what it cannot say without credit it keeps */
		Hw__Cancel c = HW__CANCEL__INIT;

		c.request = 0;
		send_msg(WIRE_CANCEL, &c);
		listen_ms(10);
	}
	world_close();
}

TEST(max_tokens_beyond_the_context_are_lowered)
{
	world_open();
	ask((struct ask){ .id = 1, .seed = 2, .text = "long", .max_tokens = 100000,
			  .ignore_eos = true });
	UNTIL(w.h[1].done);
	EQ(w.h[1].finish, HW__FINISH__LENGTH);
	EQ(w.h[1].output_tokens, CONTEXT - w.h[1].prompt_tokens);
	world_close();
}

TEST(a_deadline_ends_what_takes_too_long)
{
	world_open_with(0, 1000);
	w.auto_credit = false;
	ask((struct ask){ .id = 1, .text = "late", .credit = 1, .deadline_ms = 100,
			  .ignore_eos = true });
	UNTIL(w.h[1].done);
	EQ(w.h[1].finish, HW__FINISH__CANCELLED);
	world_close();
}

TEST(echo_puts_the_prompt_first)
{
	world_open();
	ask((struct ask){ .id = 1, .text = "say after me:", .max_tokens = 3, .echo = true });
	UNTIL(w.h[1].done);
	assert_true(w.h[1].text.n >= 13);
	assert_memory_equal(w.h[1].text.p, "say after me:", 13);
	world_close();
}

TEST(log_probabilities_come_with_the_tokens)
{
	world_open();
	ask((struct ask){ .id = 1, .text = "probably", .max_tokens = 30, .logprobs = true,
			  .ignore_eos = true });
	UNTIL(w.h[1].done);
	assert_true(w.h[1].n_logprobs > 0 && w.h[1].n_logprobs <= 30);
	world_close();
}

TEST(a_router_that_comes_back_is_greeted_again)
{
	world_open_with(0, 1000);
	w.auto_credit = false;
	ask((struct ask){ .id = 1, .text = "lost", .ignore_eos = true });
	UNTIL(w.h[1].n_deltas > 0);
	link_server_close(w.server);
	usleep(300000);
	open_router();
	UNTIL(w.n_hellos == 2);
	w.auto_credit = true;
	ask((struct ask){ .id = 50, .seed = 9, .text = "new", .max_tokens = 40 });
	UNTIL(w.h[50].done);
	check_answer("new", &w.h[50], 9, 0, 40, false);
	EQ(w.h[1].done, false);		/* it died with its router */
	world_close();
}

TEST(draining_finishes_what_runs_and_takes_nothing_new)
{
	Hw__Drain m = HW__DRAIN__INIT;

	world_open_with(0, 1000);
	ask((struct ask){ .id = 1, .seed = 1, .text = "first", .max_tokens = 300,
			  .ignore_eos = true });
	UNTIL(w.h[1].accepted);
	send_msg(WIRE_DRAIN, &m);
	ask((struct ask){ .id = 2, .text = "second" });
	UNTIL(w.h[1].done && w.h[2].done && w.goodbye);
	EQ(w.h[1].finish, HW__FINISH__LENGTH);
	EQ(w.h[2].reason, HW__REFUSAL__DRAINING);
	OK(pthread_join(w.thread, NULL));
	EQ(w.result, 0);
	engine_stop(w.engine);
	link_server_close(w.server);
	unlink(w.endpoint + 6);
	buf_done(&w.h[1].text);
}

TEST(a_lost_device_ends_the_worker_and_leaves_its_requests_to_the_router)
{
	world_open_with(40, 0);
	ask((struct ask){ .id = 1, .text = "doomed", .ignore_eos = true });
	UNTIL(w.goodbye);
	assert_false(w.h[1].done);	/* else the router could not go on with it elsewhere */
	assert_true(w.h[1].n);
	world_close();
}

static int open_model(void **state)
{
	const char *top = getenv("top_srcdir");
	char dir[1024];
	struct err e;
	sigset_t set;

	(void)state;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	snprintf(dir, sizeof(dir), "%s/models/tiny", top ? top : ".");
	if (text_model_open(dir, &model, &e) < 0)
		return -1;
	shape.n_token_ids = tokenizer_n_ids(model.tokenizer);
	return 0;
}

static int close_model(void **state)
{
	(void)state;
	text_model_done(&model);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_worker_greets_beats_and_answers),
		cmocka_unit_test(many_at_once_say_what_each_says_alone),
		cmocka_unit_test(a_request_without_seed_is_given_one_that_repeats_it),
		cmocka_unit_test(choices_differ_and_each_is_itself),
		cmocka_unit_test(without_credit_nothing_is_sent_and_nothing_is_lost),
		cmocka_unit_test(cancel_ends_it_at_once),
		cmocka_unit_test(a_continuation_says_exactly_the_rest),
		cmocka_unit_test(what_cannot_be_done_is_refused_in_words),
		cmocka_unit_test(a_full_queue_says_when_to_come_back),
		cmocka_unit_test(max_tokens_beyond_the_context_are_lowered),
		cmocka_unit_test(a_deadline_ends_what_takes_too_long),
		cmocka_unit_test(echo_puts_the_prompt_first),
		cmocka_unit_test(log_probabilities_come_with_the_tokens),
		cmocka_unit_test(a_router_that_comes_back_is_greeted_again),
		cmocka_unit_test(draining_finishes_what_runs_and_takes_nothing_new),
		cmocka_unit_test(
			a_lost_device_ends_the_worker_and_leaves_its_requests_to_the_router),
	};

	return cmocka_run_group_tests(tests, open_model, close_model);
}
