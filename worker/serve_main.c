/* serve_main.c - hearth-worker serve: the start-up sequence, top to bottom. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

#include "config.h"
#include "lib/clock.h"
#include "lib/events.h"
#include "lib/log.h"
#include "lib/own.h"
#include "lib/svc.h"
#include "worker/self_test.h"
#include "worker/serve.h"
#include "worker/serve_args.h"
#include "worker/serve_guard.h"
#include "worker/serve_memory.h"

enum { EX_MODEL = EX_CONFIG };		/* 78: restarting will not help */

enum { EXTEND_US = 30000000 };		/* of start, as long as something moves */

struct progress {
	const struct serve_args *args;
	uint64_t told_ns, logged_ns, start_ns;
	struct load_budget budget;
	struct grant *grant;		/* NULL: nobody was asked */
	uint64_t checked;
	struct err e;			/* why the load was stopped */
};

static int on_alive(void *ctx);

static void tell_quantize(const struct load_budget *b)
{
	const struct quantize_facts *f = &b->quantized;

	if (b->quantize && !f->n_matrices)
		log_warn("quantize %s: all such matrices are quantised in the checkpoint",
			 quantize_name(b->quantize));
	else if (b->quantize)
		log_note("quantize %s: %" PRIu32 " matrices become FP8 (a scale a row) while they "
			 "are loaded, %" PRIu64 " bytes become %" PRIu64 "; part of the numeric class",
			 quantize_name(b->quantize), f->n_matrices, f->bytes_before,
			 f->bytes_after);
}

static int on_budget(void *ctx, const struct load_budget *b, struct err *e)
{
	struct progress *p = ctx;
	char total[32];

	p->budget = *b;
	snprintf(total, sizeof(total), "%" PRIu64, b->total);
	log_event(LOG_NOTE, EVENT_MODEL_BUDGET, LOG_FIELDS({ "BYTES", total }),
		  "memory: %" PRIu64 " bytes = weights %" PRIu64 " + kv %" PRIu64 " + states %"
		  PRIu64 " + workspace %" PRIu64, b->total, b->bytes.weights, b->bytes.kv,
		  b->bytes.states, b->bytes.workspace);
	log_note("kv: %" PRIu32 " blocks of 64 tokens in %s, %" PRIu64 " bytes each; %" PRIu32
		 " slots, %" PRIu64 " bytes each; context %" PRIu32 " tokens",
		 b->limits.n_blocks, kv_format_name(b->limits.kv), b->block_bytes,
		 b->limits.n_slots, b->bytes.states / b->limits.n_slots, b->limits.max_context);
	tell_quantize(b);
	return serve_memory_ask(p->args, b, on_alive, p, &p->grant, e);
}

static bool asked_to_stop(void)
{
	sigset_t pending;

	sigpending(&pending);
	return sigismember(&pending, SIGTERM) || sigismember(&pending, SIGINT);
}

static void tell_progress(const struct progress *p, uint64_t done, uint64_t total)
{
	const double seconds = (double)(p->told_ns - p->start_ns) / (double)NS_PER_S;
	const double rate = seconds > 0 ? (double)done / seconds : 0;
	const double gib = (double)(1U << 30);

	svc_status("loading %" PRIu64 " %%: %.2f of %.2f GiB, %.2f GiB/s, about %.0f s to go",
		   total ? done * 100 / total : 100, (double)done / gib, (double)total / gib,
		   rate / gib, rate > 0 ? (double)(total - done) / rate : 0);
}

/* Twice a second to the service manager: as long as bytes advance, start may take longer. */
static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct progress *p = ctx;
	uint64_t now = clock_ns();
	int r;

	if (asked_to_stop())
		return -EINTR;
	r = serve_memory_slab(p->grant, &p->budget, !strcmp(p->args->load.device, "cpu"), done,
			      total, &p->checked, &p->e);
	if (r < 0)
		return r;
	if (now - p->told_ns < NS_PER_S / 2)
		return 0;
	p->told_ns = now;
	svc_extend(EXTEND_US);
	tell_progress(p, done, total);
	if (now - p->logged_ns >= 2 * NS_PER_S) {
		p->logged_ns = now;
		log_note("loading: %" PRIu64 " of %" PRIu64 " bytes", done, total);
	}
	return 0;
}

static int on_alive(void *ctx)
{
	(void)ctx;
	svc_extend(EXTEND_US);
	return asked_to_stop() ? -EINTR : 0;
}

static void block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int serve(const struct serve_args *a, const struct loaded *l, struct grant *grant,
		 struct err *e)
{
	char host[64] = "worker", name[128], secret[LINK_KEY] = "";
	struct link_curve curve = { .own_public = a->curve_public, .own_secret = secret,
				    .server_public = a->curve_server };
	struct serve_options o = {
		.endpoint = a->endpoint,
		.alias = a->alias,
		.name = a->name ? a->name : name,
		.numeric_class = l->numeric_class,
		.version = PACKAGE_VERSION,
		.grant = grant,
		.max_running = l->budget.limits.n_slots,
		.drain_ms = a->drain_ms,
		.curve = a->curve_public ? &curve : NULL,
		.quantize =
			l->budget.quantized.n_matrices ? quantize_name(l->budget.quantize) : NULL,
	};
	int r = a->curve_public ? link_read_secret(a->curve_secret_file, secret, e) : 0;

	if (r < 0)
		return r;
	(void)gethostname(host, sizeof(host) - 1);
	snprintf(name, sizeof(name), "%.48s-%.48s-%d", host, a->alias, (int)getpid());
	svc_ready();		/* the model answers; a router may come and go */
	r = serve_run(&o, &l->text, l->engine, e);
	explicit_bzero(secret, sizeof(secret));
	return r;
}

static void log_totals(const struct loaded *l)
{
	struct sched_stats st;

	engine_stats(l->engine, &st);
	log_note("done: %" PRIu64 " prompt and %" PRIu64 " output tokens in %" PRIu64 " steps, %"
		 PRIu64 " preemptions, %" PRIu64 " tokens replayed", st.n_prompt_tokens,
		 st.n_output_tokens, st.n_steps, st.n_preempted, st.n_replayed);
	if (st.n_drafts)
		log_note("drafts: %" PRIu64 ", %" PRIu64 " right (%.1f %%)", st.n_drafts,
			 st.n_draft_hits, 100.0 * (double)st.n_draft_hits / (double)st.n_drafts);
}

static int test_model(const struct loaded *l, struct err *e)
{
	struct self_test t;
	int r;

	svc_status("self-test");
	r = self_test(&l->text, l->engine, on_alive, NULL, &t, e);
	if (r == 0)
		log_note("self-test: %" PRIu32 " prompt tokens and twice %" PRIu32 " tokens in %"
			 PRIu64 " ms", t.n_prompt, t.n_output, t.took_ms);
	else if (r != -EINTR)
		log_event(LOG_ERROR, EVENT_SELF_TEST_FAILED, LOG_FIELDS({ "REASON", e->text }),
			  "%s", e->text);
	return r;
}

static int load(struct serve_args *a, struct loaded *l, struct grant **ret_grant, struct err *e)
{
	struct progress p = { .args = a, .start_ns = clock_ns(), .logged_ns = clock_ns() };
	int r;

	a->load.ctx = &p;
	a->load.on_budget = on_budget;
	a->load.on_progress = on_progress;
	svc_status("opening %s", a->load.model_dir);
	r = load_model(&a->load, l, e);
	a->load.ctx = NULL;
	*ret_grant = p.grant;
	if (p.e.code)
		*e = p.e;
	if (r == 0)
		serve_memory_loaded(p.grant, &p.budget);
	if (r == 0)
		log_event(LOG_NOTE, EVENT_MODEL_LOADED,
			  LOG_FIELDS({ "ALIAS", a->alias }, { "MODEL", a->load.model_dir },
				     { "NUMERIC_CLASS", l->numeric_class }),
			  "%s loaded in %.1f s, numeric class %s (%s)", a->load.model_dir,
			  (double)(clock_ns() - p.start_ns) / (double)NS_PER_S, l->numeric_class,
			  l->numeric_text);
	else if (r != -EINTR)
		log_event(LOG_ERROR, EVENT_MODEL_REFUSED,
			  LOG_FIELDS({ "ALIAS", a->alias }, { "MODEL", a->load.model_dir },
				     { "REASON", e->text }), "%s", e->text);
	return r;
}

static int serve_model(const struct serve_args *a, const struct loaded *l, struct grant *grant, struct err *e)
{
	int r = serve(a, l, grant, e);

	if (r == 0)
		log_totals(l);
	else if (!engine_why_lost(l->engine, NULL))	/* else serve_guard_end() says it */
		log_event(LOG_ERROR, EVENT_MODEL_REFUSED,
			  LOG_FIELDS({ "ALIAS", a->alias }, { "REASON", e->text }), "%s", e->text);
	return r;
}

static int run(struct serve_args *a, struct err *e)
{
	struct loaded l = { 0 };
	struct grant *grant = NULL;
	int r = load(a, &l, &grant, e), end;

	if (r == 0)
		r = serve_guard(l.engine, a->alias, a->step_limit_s, a->no_numbers, e);
	if (r == 0)
		r = test_model(&l, e);
	if (r == 0)
		r = serve_model(a, &l, grant, e);
	end = r < 0 && l.engine ? serve_guard_end(l.engine, a->alias) : 0;
	if (r == -EINTR)
		log_note("stopped while loading");
	else if (r < 0 && !end)
		svc_status("%s", e->text);
	loaded_done(&l);
	grant_free(grant);
	return end ? -ENOTRECOVERABLE : r == -EINTR ? 0 : r;
}

/* 1: this machine, now; a restart may help.  70: the device failed while it served.  74: a disk or its folder did not
 * give what it holds.  75: hearthd refused the memory.  78: this model or these options. */
static int status(int r)
{
	if (r == -ENOTRECOVERABLE)
		return EX_SOFTWARE;
	if (r == -EDQUOT)
		return EX_TEMPFAIL;
	if (r == -EIO)
		return EX_IOERR;
	return r == 0 ? 0 : r == -ENOMEM || r == -ENODEV || r == -ETIMEDOUT ||
			    r == -EBADMSG ? 1 : EX_MODEL;
}

static int print_generated(const struct serve_args *a)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;

	if (a->print_sample)
		conf_put_sample(serve_conf_table(), &b);
	else
		conf_put_rows(serve_conf_table(), &b);
	fwrite(b.p, 1, b.n, stdout);
	return 0;
}

/* hearthd runs as root and asks this: files from outside are looked at without its capabilities, and
 * without its place at the end of the kernel's list of whom to kill. */
static void give_up_rights(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };
	CLEANUP(closep) int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	char sign;

	if (fd >= 0 && read(fd, &sign, 1) == 1 && sign == '-' && pwrite(fd, "0", 1, 0) != 1)
		log_debug("oom_score_adj: %m");
	if (syscall(SYS_capset, &head, none) < 0)
		log_debug("capset: %m");
}

/* hearthd reads it: a name, a tab and a number a line. */
static int print_budget(const struct serve_args *a, struct err *e)
{
	struct load_budget b;
	int r;

	give_up_rights();
	r = load_estimate(&a->load, &b, e);
	if (r < 0) {
		log_error("hearth-worker serve: %s", e->text);
		return r;
	}
	printf("weights\t%" PRIu64 "\nkv\t%" PRIu64 "\nstates\t%" PRIu64 "\nworkspace\t%" PRIu64
	       "\ntotal\t%" PRIu64 "\n", b.bytes.weights, b.bytes.kv, b.bytes.states,
	       b.bytes.workspace, b.total);
	return 0;
}

int serve_main(int argc, char **argv)
{
	struct serve_args a;
	struct err e = { 0 };
	int r = serve_args_parse(argc, argv, &a, &e);

	if (r < 0) {
		log_event(LOG_ERROR, EVENT_MODEL_REFUSED, LOG_FIELDS({ "REASON", e.text }),
			  "hearth-worker serve: %s", e.text);
		if (isatty(STDERR_FILENO))
			serve_args_help(stderr);
		return EX_USAGE;
	}
	if (a.help) {
		serve_args_help(stdout);
	} else if (a.dump) {
		serve_args_dump(stdout);
	} else if (a.print_sample || a.dump_keys) {
		r = print_generated(&a);
	} else if (a.print_budget) {
		r = print_budget(&a, &e);
	} else {
		block_signals();
		r = run(&a, &e);
	}
	serve_args_done(&a);
	return status(r);
}
