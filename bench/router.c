/* router.c - `hearth-bench router`: requests, tokens, latency and CPU of a running router.
 *
 * The router's own CPU seconds are the measure, from /proc/PID/stat: neither this load
 * generator nor the workers count, so that they may share the machine with it.  With a
 * worker that answers at once (tests/box/mock_worker) the latency is what the router, the
 * bus and this program add to an answer; GET /health is the same way without the bus.
 */
#include "config.h"

#include "bench/router.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sysexits.h>
#include <unistd.h>

#include "bench/http_load.h"
#include "bench/process.h"
#include "lib/json.h"
#include "lib/opts.h"
#include "lib/own.h"

enum { MAX_LIST = 16 };

struct options {
	char host[256], port[8];
	const char *model, *key, *prompt, *kinds;
	uint32_t in_flight[MAX_LIST], n_in_flight, n_requests, tokens;
	int pid;
};

enum { OPT_MODEL = OPTS_LONG_ONLY, OPT_KIND, OPT_IN_FLIGHT, OPT_REQUESTS, OPT_TOKENS, OPT_PROMPT, OPT_KEY,
       OPT_PID, OPT_DUMP };

static const struct opts_row rows[] = {
	{ OPT_MODEL, "model", "NAME", "alias to ask for (default: tiny)" },
	{ OPT_KIND, "kind", "KIND,..",
	  "what is asked, in this order (default: health,chat,stream)" },
	{ OPT_IN_FLIGHT, "in-flight", "N,N..",
	  "connections, each with one request under way (default: 1,16,64)" },
	{ OPT_REQUESTS, "requests", "N", "of each kind and number in flight (default: 20000)" },
	{ OPT_TOKENS, "tokens", "N", "max_tokens of an answer (default: 8)" },
	{ OPT_PROMPT, "prompt", "TEXT", "the user's message" },
	{ OPT_KEY, "key", "KEY", "API key" },
	{ OPT_PID, "pid", "PID",
	  "the router's process on this machine: its CPU time and memory are shown" },
	{ OPT_DUMP, "dump-options", NULL, "this list, a line each: name, argument, text" },
	{ 'h', "help", NULL, "this text" },
	{ 'V', "version", NULL, "the version" },
	{ 0, NULL, NULL, NULL },
};

static void usage(FILE *f)
{
	fputs("usage: hearth-bench router [options] HOST:PORT\n", f);
	opts_print_help(rows, f);
}

static uint32_t number(const char *s, uint32_t max)
{
	char *end;
	unsigned long x = strtoul(s, &end, 10);

	return end == s || *end || x > max ? 0 : (uint32_t)x;
}

static uint32_t read_list(const char *s, uint32_t *list)
{
	uint32_t n = 0;
	char *end;

	for (; n < MAX_LIST && *s; s = *end == ',' ? end + 1 : end) {
		unsigned long x = strtoul(s, &end, 10);

		if (end == s || x == 0 || x > HTTP_LOAD_MAX)
			return 0;
		list[n++] = (uint32_t)x;
	}
	return n;
}

/* "127.0.0.1:8080", "[::1]:8080". */
static int split_address(const char *s, struct options *o)
{
	const char *colon = strrchr(s, ':');
	size_t n = colon ? (size_t)(colon - s) : 0;

	if (n > 2 && s[0] == '[' && s[n - 1] == ']')
		s++, n -= 2;
	if (!n || n >= sizeof(o->host) || !number(colon + 1, 65535))
		return -EINVAL;
	memcpy(o->host, s, n);
	o->host[n] = '\0';
	snprintf(o->port, sizeof(o->port), "%s", colon + 1);
	return 0;
}

/* 1: what was asked for is printed. */
static int parse(int argc, char **argv, struct options *o)
{
	int c;

	while ((c = opts_next(rows, argc, argv)) != -1) {
		switch (c) {
		case OPT_MODEL: o->model = optarg; break;
		case OPT_KIND: o->kinds = optarg; break;
		case OPT_IN_FLIGHT: o->n_in_flight = read_list(optarg, o->in_flight); break;
		case OPT_REQUESTS: o->n_requests = number(optarg, HTTP_LOAD_MAX_REQUESTS); break;
		case OPT_TOKENS: o->tokens = number(optarg, 1000000); break;
		case OPT_PROMPT: o->prompt = optarg; break;
		case OPT_KEY: o->key = optarg; break;
		case OPT_PID:
			o->pid = (int)number(optarg, INT32_MAX);
			if (!o->pid)
				return -EINVAL;
			break;
		case OPT_DUMP: opts_print_dump(rows); return 1;
		case 'h': usage(stdout); return 1;
		case 'V': puts("hearth-bench " PACKAGE_VERSION); return 1;
		default: return -EINVAL;
		}
	}
	if (optind + 1 != argc || !o->n_in_flight || !o->n_requests || !o->tokens)
		return -EINVAL;
	return split_address(argv[optind], o);
}

static void put_body(const struct options *o, bool stream, struct buf *b)
{
	buf_puts(b, "{\"model\":");
	jx_put_str(b, o->model, strlen(o->model));
	buf_puts(b, ",\"messages\":[{\"role\":\"user\",\"content\":");
	jx_put_str(b, o->prompt, strlen(o->prompt));
	buf_printf(b, "}],\"max_tokens\":%" PRIu32 "%s}", o->tokens,
		   stream ? ",\"stream\":true,\"stream_options\":{\"include_usage\":true}" : "");
}

static int make_request(const struct options *o, const char *kind, struct buf *b)
{
	CLEANUP(buf_donep) struct buf body = BUF_INIT;

	if (!strcmp(kind, "health")) {
		buf_printf(b, "GET /health HTTP/1.1\r\nHost: %s\r\n\r\n", o->host);
		return buf_ok(b) ? 0 : -ENOMEM;
	}
	if (strcmp(kind, "chat") != 0 && strcmp(kind, "stream") != 0)
		return -EINVAL;
	put_body(o, *kind == 's', &body);
	buf_printf(b, "POST /v1/chat/completions HTTP/1.1\r\nHost: %s\r\n"
		   "Content-Type: application/json\r\n", o->host);
	if (o->key)
		buf_printf(b, "Authorization: Bearer %s\r\n", o->key);
	buf_printf(b, "Content-Length: %zu\r\n\r\n", body.n);
	buf_put(b, body.p, body.n);
	return buf_ok(b) && buf_ok(&body) ? 0 : -ENOMEM;
}

static void print_row(const struct options *o, const char *kind, uint32_t in_flight,
		      const struct http_load_result *r, const struct process_use *a,
		      const struct process_use *z)
{
	double s = (double)r->ns * 1e-9, n = r->n_ok + r->n_bad;
	double cpu = z->user_s + z->system_s - a->user_s - a->system_s;

	printf("%-7s %9u %9.0f %10.0f", kind, in_flight, n / s, (double)r->n_tokens / s);
	if (o->pid && cpu > 0)
		printf(" %10.0f %10.0f %8.1f %8.1f %8.2f", n / cpu, (double)r->n_tokens / cpu,
		       (z->user_s - a->user_s) * 1e6 / n, (z->system_s - a->system_s) * 1e6 / n,
		       (double)(z->n_switches - a->n_switches) / n);
	else
		printf(" %10s %10s %8s %8s %8s", "-", "-", "-", "-", "-");
	printf(" %8.0f %8.0f %8.0f %8.0f",
	       (double)http_load_percentile(r->first_ns, r->n_ok + r->n_bad, 0.5) * 1e-3,
	       (double)http_load_percentile(r->first_ns, r->n_ok + r->n_bad, 0.99) * 1e-3,
	       (double)http_load_percentile(r->whole_ns, r->n_ok + r->n_bad, 0.5) * 1e-3,
	       (double)http_load_percentile(r->whole_ns, r->n_ok + r->n_bad, 0.99) * 1e-3);
	if (o->pid)
		printf(" %8.1f", (double)z->rss_kib / 1024);
	printf("\n");
	if (r->n_bad)
		printf("        %u of them were not answered with 200 but, for example, %d\n",
		       r->n_bad, r->bad_status);
	fflush(stdout);
}

static int measure(const struct options *o, const char *kind, uint32_t in_flight, struct err *e)
{
	CLEANUP(buf_donep) struct buf request = BUF_INIT;
	CLEANUP(http_load_result_done) struct http_load_result res = { 0 };
	struct http_load l = { .host = o->host, .port = o->port, .request = &request,
			       .in_flight = in_flight, .stall_s = 60,
			       .n_requests = in_flight * 4 };
	struct process_use a = { 0 }, z = { 0 };
	int r = make_request(o, kind, &request);

	if (r < 0)
		return err_set(e, r, "%s: no such kind of request, or no memory", kind);
	r = http_load_run(&l, &res, e);		/* to warm up */
	if (r < 0)
		return r;
	http_load_result_done(&res);
	l.n_requests = o->n_requests < in_flight ? in_flight : o->n_requests;
	if (o->pid && process_read(o->pid, &a) < 0)
		return err_set(e, -ESRCH, "process %d: cannot be looked at", o->pid);
	r = http_load_run(&l, &res, e);
	if (r == 0 && o->pid && process_read(o->pid, &z) < 0)
		r = err_set(e, -ESRCH, "process %d is gone", o->pid);
	if (r == 0)
		print_row(o, kind, in_flight, &res, &a, &z);
	if (r == 0 && !res.n_ok)
		r = err_set(e, -EPROTO, "%s: not one answer was a 200", kind);
	return r;
}

/* What was measured, so that the table means something to who reads it later. */
static void print_conditions(const struct options *o)
{
	struct process_use p;
	struct utsname u;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	uname(&u);
	printf("router at %s:%s, model %s, Linux %s, %ld CPUs shared by router, worker and load\n",
	       o->host, o->port, o->model, u.release, cpus);
	if (o->pid && process_read(o->pid, &p) == 0)
		printf("process %d (%s): %u threads, %.1f MB resident before the load\n", o->pid,
		       p.name, p.n_threads, (double)p.rss_kib / 1024);
	printf("keep-alive, closed loop, %u requests a row after 4 x in flight to warm up; prompt of "
	       "%zu bytes, max_tokens %u\nstream: stream_options.include_usage; CPU is the router's, "
	       "all threads, user and system\n", o->n_requests, strlen(o->prompt), o->tokens);
	printf("%-7s %9s %9s %10s %10s %10s %8s %8s %8s %8s %8s %8s %8s %8s\n", "kind", "in flight",
	       "req/s", "tokens/s", "req/CPU-s", "tok/CPU-s", "user us", "sys us", "switches",
	       "1st p50", "1st p99", "all p50", "all p99", "RSS MB");
}

static int measure_all(const struct options *o, struct err *e)
{
	char kinds[128], *save = NULL;
	int r = 0;

	snprintf(kinds, sizeof(kinds), "%s", o->kinds);
	for (char *k = strtok_r(kinds, ",", &save); k && r == 0; k = strtok_r(NULL, ",", &save))
		for (uint32_t i = 0; i < o->n_in_flight && r == 0; i++)
			r = measure(o, k, o->in_flight[i], e);
	return r;
}

int bench_router_main(int argc, char **argv)
{
	struct options o = { .model = "tiny", .kinds = "health,chat,stream", .n_in_flight = 3,
			     .in_flight = { 1, 16, 64 }, .n_requests = 20000, .tokens = 8,
			     .prompt = "Say something short." };
	struct err e;
	int r = parse(argc, argv, &o);

	if (r > 0)
		return 0;
	if (r < 0) {
		usage(stderr);
		return EX_USAGE;
	}
	print_conditions(&o);
	if (measure_all(&o, &e) < 0) {
		fprintf(stderr, "hearth-bench: %s\n", e.text);
		return EX_UNAVAILABLE;
	}
	return 0;
}
