/* load.c - see load.h.
 *
 * Each run reads all files raw, with the same requests in flight, and then loads the checkpoint: from
 * opening the folder to a device that could take a step.  What the kernel says of its page cache stands
 * before and behind each; so does what it holds of these files, since the rest of a box does not stand still.
 */
#include "config.h"

#include "bench/load.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "bench/raw_read.h"
#include "kernels/step.h"
#include "kernels/weight_stream.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/meminfo.h"
#include "lib/opts.h"
#include "lib/own.h"
#include "worker/weights/hf_dir.h"

#define MAX_RUNS 32

enum format { FORMAT_MARKDOWN, FORMAT_CSV, FORMAT_JSON };

struct pages {
	uint64_t cached, files;		/* all of the page cache; of these files */
};

struct run {
	double raw_s, load_s;
	uint64_t raw_bytes;
	struct pages begin, after_raw, after_load;
	struct read_stats stats;
};

struct bench {
	const char *model, *device;
	enum read_how how;
	enum format format;
	uint32_t n_runs;
	double bar;			/* least ratio; 0: none */
	bool warm;			/* memory touched before each load */
	bool keep;			/* the raw read fills new memory, too */
	char *dir;
	uint64_t weight_bytes, file_bytes;
	uint32_t n_files;
	char device_text[160], read_text[256];
	struct run run[MAX_RUNS];
};

/* ---- measuring ---------------------------------------------------------------------------------- */

static int look(const struct checkpoint *c, struct pages *ret, struct err *e)
{
	struct meminfo m;
	int r = meminfo_read(NULL, &m, e);

	if (r == 0)
		*ret = (struct pages){ m.cached, raw_cached(c) };
	return r;
}

static int open_checkpoint(const struct bench *b, struct hf_config *config, struct checkpoint **ret,
			   struct err *e)
{
	int r = hf_config_open(b->dir, config, e);

	if (r == 0)
		r = checkpoint_open(b->dir, config, ret, e);
	return r == 0 ? checkpoint_read_by(*ret, b->how, e) : r;
}

/* The smallest device that serves: little besides the weights is allocated. */
static int load_device(const struct bench *b, const struct hf_config *config, const struct checkpoint *c,
		       struct device **ret, struct err *e)
{
	const struct device_limits limits = { .n_slots = 1, .n_blocks = 2, .max_rows = 2 * STEP_GRID,
					      .max_context = 2 * STEP_GRID };
	int r = device_open(b->device, &config->shape, &limits, ret, e);

	return r == 0 ? device_load(*ret, checkpoint_source(c), NULL, NULL, e) : r;
}

/* A virtual machine's memory is its host's until it is touched, and goes back when it is free for some
 * seconds; then a load measures the hypervisor.  Touching as much right before it takes that out. */
static int touch_memory(const struct bench *b, struct err *e)
{
	size_t n = (size_t)b->file_bytes;
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return err_set(e, -ENOMEM, "no %zu bytes of memory", n);
	(void)madvise(p, n, MADV_HUGEPAGE);
	for (size_t at = 0; at < n; at += 4096)
		((volatile char *)p)[at] = 1;
	munmap(p, n);
	return 0;
}

static int measure_load(struct bench *b, struct run *x, struct err *e)
{
	uint64_t begin = clock_ns();
	struct checkpoint *c = NULL;
	struct hf_config config;
	struct device *d = NULL;
	int r = open_checkpoint(b, &config, &c, e);

	if (r == 0)
		r = load_device(b, &config, c, &d, e);
	x->load_s = (double)(clock_ns() - begin) / 1e9;
	if (r == 0) {
		if (checkpoint_read_stats(c)->n_streams == 0)
			checkpoint_drop(c);
		x->stats = *checkpoint_read_stats(c);
		b->weight_bytes = checkpoint_source(c)->total_bytes;
		snprintf(b->device_text, sizeof(b->device_text), "%s", device_numeric_text(d));
		checkpoint_read_text(c, b->read_text, sizeof(b->read_text));
		r = look(c, &x->after_load, e);
	}
	device_close(d);
	checkpoint_close(c);
	return r;
}

static int measure_raw(struct bench *b, struct run *x, struct err *e)
{
	struct checkpoint *c = NULL;
	struct hf_config config;
	int r = open_checkpoint(b, &config, &c, e);
	uint64_t bytes;

	for (b->n_files = 0, b->file_bytes = 0; r == 0 && checkpoint_file(c, b->n_files, &bytes); b->n_files++)
		b->file_bytes += bytes;
	if (r == 0)
		r = look(c, &x->begin, e);
	if (r == 0)
		r = raw_read(c, b->how == READ_MAPPED ? READ_AUTO : b->how, READ_REQUEST, WEIGHT_ROOM,
			     b->keep, &x->raw_bytes, &x->raw_s, e);
	if (r == 0)
		r = look(c, &x->after_raw, e);
	checkpoint_close(c);
	return r;
}

/* ---- printing ------------------------------------------------------------------------------------ */

static double raw_speed(const struct bench *b, uint32_t i)
{
	return (double)b->run[i].raw_bytes / b->run[i].raw_s / 1e9;
}

static double load_speed(const struct bench *b, uint32_t i)
{
	return (double)b->weight_bytes / b->run[i].load_s / 1e9;
}

static double ratio(const struct bench *b, uint32_t i)
{
	return load_speed(b, i) / raw_speed(b, i);
}

static int ascending(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static double median(const struct bench *b, double (*of)(const struct bench *b, uint32_t i))
{
	double x[MAX_RUNS];

	for (uint32_t i = 0; i < b->n_runs; i++)
		x[i] = of(b, i);
	qsort(x, b->n_runs, sizeof(x[0]), ascending);
	return (x[(b->n_runs - 1) / 2] + x[b->n_runs / 2]) / 2;
}

static double mib(uint64_t bytes)
{
	return (double)bytes / (double)(1u << 20);
}

static double grown(const struct pages *from, const struct pages *to)
{
	return mib(to->cached) - mib(from->cached);
}

static void print_markdown(const struct bench *b)
{
	struct utsname u;
	char day[32];
	time_t now = time(NULL);

	uname(&u);
	strftime(day, sizeof(day), "%Y-%m-%d %H:%M UTC", gmtime(&now));
	printf("%s, %s: %u files, %.3f GB, of which weights %.3f GB. Device %s (%s). Kernel %s, %ld CPUs. "
	       "Requests of %zu KiB, up to %zu MiB in flight. %s%s%s.\n\n", day, b->model, b->n_files,
	       (double)b->file_bytes / 1e9, (double)b->weight_bytes / 1e9, b->device, b->device_text, u.release,
	       sysconf(_SC_NPROCESSORS_ONLN), READ_REQUEST >> 10, WEIGHT_ROOM >> 20,
	       b->warm ? "Memory was touched before each load. " : "",
	       b->keep ? "The raw read fills as much new memory as there are bytes. " : "", b->read_text);
	printf("| run | raw s | raw GB/s | load s | load GB/s | load / raw | Cached MiB before | after raw | "
	       "after load | load added | of these files before | after |\n"
	       "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
	for (uint32_t i = 0; i < b->n_runs; i++) {
		const struct run *x = &b->run[i];

		printf("| %u | %.2f | %.3f | %.2f | %.3f | %.3f | %.0f | %.0f | %.0f | %+.1f | %.1f | %.1f |\n",
		       i + 1, x->raw_s, raw_speed(b, i), x->load_s, load_speed(b, i), ratio(b, i),
		       mib(x->begin.cached), mib(x->after_raw.cached), mib(x->after_load.cached),
		       grown(&x->after_raw, &x->after_load), mib(x->after_raw.files), mib(x->after_load.files));
	}
	printf("| median | | %.3f | | %.3f | %.3f | | | | | | |\n", median(b, raw_speed), median(b, load_speed),
	       median(b, ratio));
}

static void print_csv(const struct bench *b)
{
	printf("run,read,raw_bytes,raw_s,weight_bytes,load_s,ratio,cached_before,cached_after_raw,"
	       "cached_after_load,files_cached_before,files_cached_after\n");
	for (uint32_t i = 0; i < b->n_runs; i++) {
		const struct run *x = &b->run[i];

		printf("%u,%s,%" PRIu64 ",%.6f,%" PRIu64 ",%.6f,%.4f,%" PRIu64 ",%" PRIu64 ",%" PRIu64
		       ",%" PRIu64 ",%" PRIu64 "\n", i + 1, read_how_name(x->stats.how), x->raw_bytes,
		       x->raw_s, b->weight_bytes, x->load_s, ratio(b, i), x->begin.cached,
		       x->after_raw.cached, x->after_load.cached, x->after_raw.files, x->after_load.files);
	}
}

static void put_text(struct buf *j, const char *key, const char *text)
{
	buf_printf(j, "\"%s\": ", key);
	jx_put_str(j, text, strlen(text));
	buf_puts(j, ", ");
}

static void put_run(struct buf *j, const struct bench *b, uint32_t i)
{
	const struct run *x = &b->run[i];

	put_text(j, "read", read_how_name(x->stats.how));
	buf_printf(j, "\"raw_bytes\": %" PRIu64 ", \"raw_s\": %.6f, \"load_s\": %.6f, \"ratio\": %.4f, ",
		   x->raw_bytes, x->raw_s, x->load_s, ratio(b, i));
	buf_printf(j, "\"cached_before\": %" PRIu64 ", \"cached_after_raw\": %" PRIu64
		   ", \"cached_after_load\": %" PRIu64 ", ", x->begin.cached, x->after_raw.cached,
		   x->after_load.cached);
	buf_printf(j, "\"files_cached_before\": %" PRIu64 ", \"files_cached_after\": %" PRIu64
		   ", \"files_buffered\": %u}", x->after_raw.files, x->after_load.files,
		   x->stats.n_buffered);
}

static void print_json(const struct bench *b)
{
	CLEANUP(buf_donep) struct buf j = BUF_INIT;

	buf_putc(&j, '{');
	put_text(&j, "model", b->model);
	put_text(&j, "device", b->device);
	put_text(&j, "device_text", b->device_text);
	buf_printf(&j, "\"keep\": %s, ", b->keep ? "true" : "false");
	buf_printf(&j, "\"warm\": %s, \"files\": %u, \"file_bytes\": %" PRIu64 ", \"weight_bytes\": %" PRIu64
		   ", \"request_bytes\": %zu, \"room_bytes\": %zu, ", b->warm ? "true" : "false", b->n_files,
		   b->file_bytes, b->weight_bytes, READ_REQUEST, WEIGHT_ROOM);
	buf_printf(&j, "\"raw_gb_s\": %.4f, \"load_gb_s\": %.4f, \"ratio\": %.4f, \"runs\": [",
		   median(b, raw_speed), median(b, load_speed), median(b, ratio));
	for (uint32_t i = 0; i < b->n_runs; i++) {
		buf_puts(&j, i ? ",\n  {" : "\n  {");
		put_run(&j, b, i);
	}
	buf_puts(&j, "\n]}\n");
	if (buf_ok(&j))
		fputs(j.p, stdout);
}

static void print_json_error(const char *text)
{
	CLEANUP(buf_donep) struct buf j = BUF_INIT;

	buf_puts(&j, "{\"error\": ");
	jx_put_str(&j, text, strlen(text));
	buf_puts(&j, "}\n");
	if (buf_ok(&j))
		fputs(j.p, stdout);
}

/* ---- the command ------------------------------------------------------------------------------------ */

/* Long options only; each has its letter in take_option(). */
#define L(letter) (OPTS_LONG_ONLY + (letter))

static const struct opts_row rows[] = {
	{ L('d'), "device", "DEVICE", "cpu or cuda:N (default: cpu)" },
	{ L('r'), "read", "HOW", "auto, io_uring, threads or mapped (default: auto)" },
	{ L('n'), "runs", "N", "times that both are measured, in turns (default: 3)" },
	{ L('w'), "warm", NULL, "touch and free as much memory before each load" },
	{ L('k'), "keep", NULL, "the raw read fills new memory too, instead of the same again" },
	{ L('f'), "format", "FORMAT", "markdown, csv or json (default: markdown)" },
	{ L('b'), "bar", "RATIO", "exit with 1 when the median ratio is less" },
	{ L('D'), "dump-options", NULL, "this list, a line each: name, argument, text" },
	{ 'h', "help", NULL, "this text" },
	{ 'V', "version", NULL, "the version" },
	{ 0, NULL, NULL, NULL },
};

static void usage(FILE *f)
{
	fputs("usage: hearth-bench load [options] MODEL\n", f);
	opts_print_help(rows, f);
}

static bool take_option(struct bench *b, int c)
{
	static const char *const formats[] = { "markdown", "csv", "json" };

	switch (c) {
	case 'd':
		b->device = optarg;
		return true;
	case 'r':
		return read_how_parse(optarg, &b->how) == 0;
	case 'w':
		return b->warm = true;
	case 'k':
		return b->keep = true;
	case 'n':
		b->n_runs = (uint32_t)strtoul(optarg, NULL, 10);
		return b->n_runs >= 1 && b->n_runs <= MAX_RUNS;
	case 'b':
		b->bar = strtod(optarg, NULL);
		return b->bar > 0;
	case 'f':
		for (enum format f = FORMAT_MARKDOWN; f <= FORMAT_JSON; f++)
			if (strcmp(optarg, formats[f]) == 0) {
				b->format = f;
				return true;
			}
	}
	return false;
}

/* 1: what was asked for is printed; -EINVAL: wrong usage. */
static int parse(int argc, char **argv, struct bench *b)
{
	int c;

	while ((c = opts_next(rows, argc, argv)) != -1) {
		if (c == L('D'))
			opts_print_dump(rows);
		else if (c == 'h')
			usage(stdout);
		else if (c == 'V')
			puts("hearth-bench " PACKAGE_VERSION);
		else if (c != '?' && take_option(b, c - OPTS_LONG_ONLY))
			continue;
		else
			return -EINVAL;
		return 1;
	}
	if (optind + 1 != argc)
		return -EINVAL;
	b->model = argv[optind];
	return 0;
}

int bench_load_main(int argc, char **argv)
{
	static struct bench b = { .device = "cpu", .n_runs = 3 };
	struct err e = { .code = 0 };

	int r = parse(argc, argv, &b);

	if (r > 0)
		return 0;
	if (r < 0) {
		usage(stderr);
		return EX_USAGE;
	}
	r = hf_dir_find(b.model, &b.dir, &e);
	for (uint32_t i = 0; r == 0 && i < b.n_runs; i++) {
		r = measure_raw(&b, &b.run[i], &e);
		if (r == 0 && b.warm)
			r = touch_memory(&b, &e);
		if (r == 0)
			r = measure_load(&b, &b.run[i], &e);
	}
	free(b.dir);
	if (r < 0) {
		fprintf(stderr, "hearth-bench: %s\n", e.text);
		if (b.format == FORMAT_JSON)
			print_json_error(e.text);
		return r == -EIO ? EX_IOERR : r == -ENOMEM ? EX_OSERR : EX_CONFIG;
	}
	static void (*const print[])(const struct bench *b) = { print_markdown, print_csv, print_json };
	print[b.format](&b);
	return median(&b, ratio) < b.bar ? 1 : 0;
}
