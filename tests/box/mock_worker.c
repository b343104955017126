/* mock_worker.c - a worker that speaks the real wire and has no model.
 *
 *	mock_worker ENDPOINT NAME MODEL [CLASS]
 *
 * What it does with a request stands in the text of the last user message (or the prompt):
 * words of the form key=value, anything else is ignored.
 *
 *	tokens=N  (default 8) deltas of content "t0 t1 ..";  reason=N reasoning deltas first
 *	delay=MS  before each delta;  first=MS before the first;  size=N bytes of each delta
 *	tools=N   calls f0..fN-1 with arguments {"a":<i>} in three pieces
 *	fault=refuse|bad|context|drain|hang|silent|die|garbage|gap|fail|overrun, at=N: at which
 *delta logprobs are made up when asked for; known tokens are continued after.
 *
 * Writes a line to stdout for what a test wants to time: "generate ID", "cancel ID NS",
 * "hello", NS of CLOCK_MONOTONIC; and with MOCK_TELL in the environment what was asked:
 * "asked ID temperature=0.5 .." with what is there, "chat ID HEX" with the client's body.
 * One thread, poll(), no framework.
 */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/own.h"
#include "proto/link.h"

enum { MAX_REQS = 4096 };

struct req {
	uint64_t id, next_ns;
	uint32_t n, credit, seq, n_known;
	long tokens, reason, delay, size, tools, at, step;
	uint64_t seed;
	char fault[16];
	bool used, accepted, logprobs;
};

static struct link_client *link_;
static struct req reqs[MAX_REQS];
static const char *worker_name, *model_name, *class_name;
static bool silent, tell;

static void send_msg(enum wire_type t, const ProtobufCMessage *m)
{
	if (link_client_send(link_, t, m) < 0)
		fprintf(stderr, "mock: send %s failed\n", wire_type_name(t));
}

static void send_hello(void)
{
	static char *caps[] = { "chat", "completion", "tools", "reasoning", "logprobs", "n" };
	Hw__Hello h = HW__HELLO__INIT;

	h.worker = (char *)(uintptr_t)worker_name;
	h.boot = (uint64_t)getpid() * 1000003 + clock_ns();
	h.model = (char *)(uintptr_t)model_name;
	h.numeric_class = (char *)(uintptr_t)class_name;
	h.max_context = 4096;
	h.max_running = 512;
	h.max_queue = 512;
	h.capability = caps;
	h.n_capability = sizeof(caps) / sizeof(*caps);
	send_msg(WIRE_HELLO, &h.base);
	printf("hello\n");
}

static long word(const char *text, const char *key, long def)
{
	const char *p = strstr(text, key);

	return p ? strtol(p + strlen(key), NULL, 10) : def;
}

/* The text that says what to do. */
static void instructions(const Hw__Generate *g, char *out, size_t cap)
{
	JX_OWNED json_t *v = NULL;
	const json_t *list, *content;
	size_t n = 0;
	const char *s = NULL;

	out[0] = '\0';
	if (g->has_text) {
		s = (const char *)g->text.data;
		n = g->text.len;
	} else if (g->has_chat && jx_load((const char *)g->chat.data, g->chat.len, &v, NULL) == 0) {
		list = json_object_get(v, "messages");
		content =
			json_object_get(json_array_get(list, json_array_size(list) - 1), "content");
		s = jx_str(content, &n);
	}
	if (s) {
		if (n >= cap)
			n = cap - 1;
		memcpy(out, s, n);
		out[n] = '\0';
	}
}

static void refuse(const struct req *r, Hw__Refusal why, const char *text)
{
	Hw__Refused m = HW__REFUSED__INIT;

	m.request = r->id;
	m.reason = why;
	m.message = (char *)(uintptr_t)text;
	if (why == HW__REFUSAL__QUEUE_FULL) {
		m.has_retry_after_ms = 1;
		m.retry_after_ms = 250;
	}
	if (why == HW__REFUSAL__BAD_REQUEST)
		m.param = (char *)(uintptr_t)"messages";
	send_msg(WIRE_REFUSED, &m.base);
}

static struct req *find_req(uint64_t id, bool make)
{
	for (int i = 0; i < MAX_REQS; i++)
		if (make ? !reqs[i].used : reqs[i].used && reqs[i].id == id)
			return &reqs[i];
	return NULL;
}

static void say_float(const char *name, bool has, float x)
{
	if (has)
		printf(" %s=%g", name, (double)x);
}

static void say_sampling(const Hw__Sampling *s)
{
	say_float("temperature", s->has_temperature, s->temperature);
	say_float("top_p", s->has_top_p, s->top_p);
	say_float("top_k", s->has_top_k, (float)s->top_k);
	say_float("min_p", s->has_min_p, s->min_p);
	say_float("presence_penalty", s->has_presence_penalty, s->presence_penalty);
	say_float("frequency_penalty", s->has_frequency_penalty, s->frequency_penalty);
	say_float("repetition_penalty", s->has_repetition_penalty, s->repetition_penalty);
	if (s->has_seed)
		printf(" seed=%" PRIu64, s->seed);
	if (s->has_logprobs)
		printf(" logprobs=%d top_logprobs=%u", s->logprobs, s->top_logprobs);
	for (size_t i = 0; i < s->n_bias; i++)
		printf("%s%u:%g", i ? "," : " bias=", s->bias[i]->token, (double)s->bias[i]->bias);
}

static void say_asked(const Hw__Generate *g)
{
	printf("asked %016" PRIx64 " n=%u", (uint64_t)g->request, g->n);
	if (g->has_max_tokens)
		printf(" max_tokens=%u", g->max_tokens);
	for (size_t i = 0; i < g->n_stop; i++)
		printf("%s%.*s", i ? "," : " stop=", (int)g->stop[i].len, (char *)g->stop[i].data);
	if (g->sampling)
		say_sampling(g->sampling);
	printf("\nchat %016" PRIx64 " ", (uint64_t)g->request);
	for (size_t i = 0; g->has_chat && i < g->chat.len; i++)
		printf("%02x", g->chat.data[i]);
	printf("\n");
}

static void on_generate(const Hw__Generate *g)
{
	struct req *r = find_req(0, true);
	char text[4096];
	const char *fault;

	printf("generate %016" PRIx64 "\n", (uint64_t)g->request);
	if (tell)
		say_asked(g);
	if (!r)
		return;
	instructions(g, text, sizeof(text));
	fault = strstr(text, "fault=");
	*r = (struct req){ .id = g->request, .used = true, .n = g->n, .credit = g->credit,
			   .seed = g->sampling ? g->sampling->seed : 0,
			   .tokens = word(text, "tokens=", 8), .reason = word(text, "reason=", 0),
			   .delay = word(text, "delay=", 0), .size = word(text, "size=", 0),
			   .tools = word(text, "tools=", 0), .at = word(text, "at=", 0),
			   .logprobs = g->sampling && g->sampling->logprobs,
			   .n_known = (uint32_t)g->n_known };
	if (g->has_max_tokens && (long)g->max_tokens < r->tokens)
		r->tokens = (long)g->max_tokens;
	r->step = (long)g->n_known;
	if (fault)
		snprintf(r->fault, sizeof(r->fault), "%.*s", (int)strcspn(fault + 6, " "),
			 fault + 6);
	r->next_ns = clock_ns() + (uint64_t)word(text, "first=", 0) * NS_PER_MS;
	if (g->n_known)		/* a fault happens once: the continuation is well */
		r->fault[0] = '\0';
	/* "who=w1": the fault is only this worker's */
	if (strstr(text, "who=") &&
	    strncmp(strstr(text, "who=") + 4, worker_name, strlen(worker_name)))
		r->fault[0] = '\0';
}

static void finish(struct req *r, Hw__Finish how)
{
	for (uint32_t c = 0; c < r->n; c++) {
		Hw__Done m = HW__DONE__INIT;

		m.request = r->id;
		m.choice = c;
		m.seq = r->seq++;
		m.finish = how;
		m.output_tokens = (uint32_t)(r->step > 0 ? r->step : 0);
		m.message = how == HW__FINISH__FAILED ? (char *)(uintptr_t)"the mock failed" : NULL;
		send_msg(WIRE_DONE, &m.base);
		if (how == HW__FINISH__FAILED)
			break;
	}
	r->used = false;
}

/* True when this request is over. */
static bool misbehave(struct req *r)
{
	if (!*r->fault || r->step < r->at)
		return false;
	if (!strcmp(r->fault, "die"))
		raise(SIGKILL);
	if (!strcmp(r->fault, "silent"))
		silent = true;
	if (!strcmp(r->fault, "fail"))
		finish(r, HW__FINISH__FAILED);
	if (!strcmp(r->fault, "gap"))
		r->seq += 2;
	if (!strcmp(r->fault, "garbage")) {
		Hw__Delta d = HW__DELTA__INIT;

		d.request = r->id;
		d.choice = 77;
		d.seq = r->seq++;
		send_msg(WIRE_DELTA, &d.base);
	}
	return !strcmp(r->fault, "hang") || !r->used || silent;
}

static void send_piece(struct req *r, uint32_t choice, Hw__Channel channel, const char *text,
		       size_t n, uint32_t call, const char *call_id)
{
	Hw__Delta d = HW__DELTA__INIT;
	Hw__Piece p = HW__PIECE__INIT, *pieces[] = { &p };
	Hw__TokenLogprob l = HW__TOKEN_LOGPROB__INIT, *ls[] = { &l };
	Hw__TopToken t = HW__TOP_TOKEN__INIT, *ts[] = { &t };
	uint32_t token = (uint32_t)r->step;

	d.request = r->id;
	d.choice = choice;
	d.seq = r->seq++;
	d.n_piece = 1;
	d.piece = pieces;
	p.channel = channel;
	p.text.data = (uint8_t *)(uintptr_t)text;
	p.text.len = n;
	p.has_call = call_id || channel == HW__CHANNEL__CALL_ARGS;
	p.call = call;
	p.call_id = (char *)(uintptr_t)call_id;
	d.token = &token;
	d.n_token = 1;
	if (r->logprobs && channel == HW__CHANNEL__CONTENT) {
		l.token = p.text;
		l.logprob = -0.5f;
		t.token = p.text;
		t.logprob = -0.5f;
		l.top = ts;
		l.n_top = 1;
		d.logprob = ls;
		d.n_logprob = 1;
	}
	send_msg(WIRE_DELTA, &d.base);
	if (r->credit)
		r->credit--;
}

static void send_tools(struct req *r)
{
	for (uint32_t i = 0; i < (uint32_t)r->tools; i++) {
		char name[16], id[32], args[3][16];

		snprintf(name, sizeof(name), "f%u", i);
		snprintf(id, sizeof(id), "call_%016" PRIx64 "%u", r->id, i);
		snprintf(args[0], sizeof(args[0]), "{\"a\"");
		snprintf(args[1], sizeof(args[1]), ":%u", i);
		snprintf(args[2], sizeof(args[2]), "}");
		send_piece(r, 0, HW__CHANNEL__CALL_BEGIN, name, strlen(name), i, id);
		for (int k = 0; k < 3; k++)
			send_piece(r, 0, HW__CHANNEL__CALL_ARGS, args[k], strlen(args[k]), i, NULL);
	}
}

static void step(struct req *r)
{
	char text[65536];
	size_t n;

	if (!r->accepted) {
		Hw__Accepted m = HW__ACCEPTED__INIT;

		m.request = r->id;
		m.prompt_tokens = 7;
		m.has_seed = 1;
		m.seed = r->seed;
		send_msg(WIRE_ACCEPTED, &m.base);
		r->accepted = true;
	}
	if (misbehave(r))
		return;
	if (r->step >= r->tokens) {
		if (r->tools)
			send_tools(r);
		finish(r, r->tools ? HW__FINISH__TOOL_CALLS : HW__FINISH__STOP);
		return;
	}
	n = (size_t)snprintf(text, sizeof(text), "t%ld ", r->step);
	while ((long)n < r->size && n < sizeof(text))
		text[n++] = 'x';
	for (uint32_t c = 0; c < r->n; c++)
		send_piece(r, c,
			   r->step < r->reason ? HW__CHANNEL__REASONING : HW__CHANNEL__CONTENT,
			   text, n, 0, NULL);
	r->step++;
	r->next_ns = clock_ns() + (uint64_t)r->delay * NS_PER_MS;
}

static bool may_step(const struct req *r)
{
	if (!strcmp(r->fault, "overrun"))
		return true;
	return r->credit >= r->n || (r->step >= r->tokens && !r->tools);
}

/* Does what is due; answers ms until something is. */
static int work(void)
{
	uint64_t now = clock_ns(), next = now + NS_PER_S / 10;

	for (int i = 0; i < MAX_REQS; i++) {
		struct req *r = &reqs[i];

		if (!r->used)
			continue;
		if (!r->accepted && (!strcmp(r->fault, "refuse") || !strcmp(r->fault, "bad") ||
				     !strcmp(r->fault, "context") || !strcmp(r->fault, "drain"))) {
			refuse(r, *r->fault == 'r' ? HW__REFUSAL__QUEUE_FULL : *r->fault == 'b' ?
			       HW__REFUSAL__BAD_REQUEST : *r->fault == 'd' ? HW__REFUSAL__DRAINING :
			       HW__REFUSAL__CONTEXT_LENGTH, "the mock refuses");
			r->used = false;
			continue;
		}
		for (int burst = 0;
		     r->used && !silent && r->next_ns <= now && may_step(r) && burst < 64 &&
		     !(!strcmp(r->fault, "hang") && r->accepted && r->step >= r->at);
		     burst++)
			step(r);
		if (r->used && may_step(r) && strcmp(r->fault, "hang") != 0 && r->next_ns < next)
			next = r->next_ns;
	}
	now = clock_ns();
	return silent ? 1000 : next <= now ? 0 : (int)((next - now) / NS_PER_MS) + 1;
}

static void on_message(const struct wire_msg *m)
{
	struct req *r;

	switch (m->type) {
	case WIRE_GENERATE:
		on_generate(m->body.generate);
		break;
	case WIRE_CANCEL:
		r = find_req(m->body.cancel->request, false);
		printf("cancel %016" PRIx64 " %" PRIu64 "\n", (uint64_t)m->body.cancel->request,
		       clock_ns());
		if (r)
			r->used = false;
		break;
	case WIRE_CREDIT:
		r = find_req(m->body.credit->request, false);
		if (r)
			r->credit += m->body.credit->more;
		break;
	case WIRE_GOODBYE:	/* given up while we were stopped: greet again */
		memset(reqs, 0, sizeof(reqs));
		(void)link_client_renew(link_);
		break;
	default:
		break;
	}
}

/* Whether there was anything. */
static bool take(void)
{
	struct link_in in;

	for (bool any = false;; any = true) {
		memset(&in, 0, sizeof(in));
		if (link_client_recv(link_, &in) < 0)
			return any;
		if (in.event == LINK_NEW)
			send_hello();
		else if (in.event == LINK_MESSAGE)
			on_message(&in.msg);
		else
			memset(reqs, 0, sizeof(reqs));
		wire_msg_done(&in.msg);
	}
}

static void beat(uint64_t *next)
{
	Hw__WorkerBeat b = HW__WORKER_BEAT__INIT;

	if (silent || clock_ns() < *next)
		return;
	*next = clock_ns() + 500 * NS_PER_MS;
	b.has_running = 1;
	for (int i = 0; i < MAX_REQS; i++)
		b.running += reqs[i].used;
	(void)link_client_send(link_, WIRE_WORKER_BEAT, &b.base);
}

int main(int argc, char **argv)
{
	struct err e;
	uint64_t next_beat = 0;

	if (argc < 4) {
		fputs("usage: mock_worker ENDPOINT NAME MODEL [CLASS]\n", stderr);
		return 64;
	}
	worker_name = argv[2];
	model_name = argv[3];
	class_name = argc > 4 ? argv[4] : "mock-class";
	tell = getenv("MOCK_TELL") != NULL;	/* not where frames are counted a second */
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (link_client_open(argv[1], NULL, &link_, &e) < 0) {
		fprintf(stderr, "mock: %s\n", e.text);
		return 1;
	}
	for (;;) {
		struct pollfd p = { link_client_fd(link_), POLLIN, 0 };
		int wait;

		take();
		beat(&next_beat);
		wait = work();
		if (take())		/* sends share the edge with what arrives */
			wait = 0;
		if (poll(&p, 1, wait) < 0)
			return 1;
	}
}
