/* read_test.c - weights read past the page cache: each way, each way to fail, and nothing left
 * behind. */
#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/step.h"
#include "lib/buf.h"
#include "lib/own.h"
#include "tests/unit/unit.h"
#include "worker/numeric_class.h"
#include "worker/weights/checkpoint.h"

/* ---- a file of odd tensors, and a source over it ------------------------------------- */

#define N_MATRICES 24
#define SCALE_F32 4

static char dir[] = "/var/tmp/hearth-read-XXXXXX";
static char path[256];

/* Matrix i: rows x cols bytes of FP8 with a scale for each row; from one byte to some MB. */
static uint32_t rows_of(uint32_t i)
{
	return i == 0 ? 1 : i % 5 == 4 ? 128 * (i % 7 + 1) + i % 3 : i * 7;
}

static uint32_t cols_of(uint32_t i)
{
	return i == 0 ? 1 : i % 5 == 4 ? 3001 : 5 + i * 11;
}

static uint8_t byte_at(uint64_t at)
{
	return (uint8_t)((at * 2654435761u) >> 13 ^ at);
}

static void write_odd_file(const char *to)
{
	CLEANUP(buf_donep) struct buf head = BUF_INIT;
	uint64_t at = 0, n;
	FILE *f = fopen(to, "w");

	assert_non_null(f);
	for (uint32_t i = 0; i < N_MATRICES; i++) {
		uint64_t scale = (uint64_t)rows_of(i) * SCALE_F32,
			 data = (uint64_t)rows_of(i) * cols_of(i);

		OK(buf_printf(
			&head,
			"%c\"s%u\":{\"dtype\":\"F32\",\"shape\":[%u],"
			"\"data_offsets\":[%llu,%llu]},",
			i ? ',' : '{', i, rows_of(i), (unsigned long long)at,
			(unsigned long long)(at + scale)));
		at += scale;
		OK(buf_printf(&head, "\"w%u\":{\"dtype\":\"F8_E4M3\",\"shape\":[%u,%u],"
			      "\"data_offsets\":[%llu,%llu]}", i, rows_of(i), cols_of(i),
			      (unsigned long long)at, (unsigned long long)(at + data)));
		at += data;
	}
	OK(buf_putc(&head, '}'));
	while (head.n % 8 != 3)		/* so that the data begins at an odd place */
		OK(buf_putc(&head, ' '));
	n = head.n;
	EQ(fwrite(&n, 1, 8, f), 8);
	EQ(fwrite(head.p, 1, head.n, f), head.n);
	for (uint64_t i = 0; i < at; i++)
		putc(byte_at(i), f);
	EQ(fflush(f), 0);
	OK(fdatasync(fileno(f)));	/* a dirty page cannot be dropped */
	EQ(fclose(f), 0);
}

struct odd {
	struct st_file *file;
	struct weight_source source;
	struct read_stats stats;
	uint64_t data_begin;
};

static int find(void *ctx, enum weight_slot slot, uint32_t layer, uint32_t expert,
		struct weight_ref *ret)
{
	const struct odd *o = ctx;
	char name[16];

	if (slot != W_MLP_UP || expert || layer >= N_MATRICES)
		return -ENOENT;
	snprintf(name, sizeof(name), "w%u", layer);
	const struct st_tensor *w = st_find(o->file, name);
	name[0] = 's';
	*ret = (struct weight_ref){ .format = WF_FP8,
				    .rows = rows_of(layer),
				    .cols = cols_of(layer),
				    .data = w->data,
				    .name = w->name,
				    .scale_format = WF_F32,
				    .span_rows = 1,
				    .span_cols = cols_of(layer),
				    .scale = st_find(o->file, name)->data,
				    .global = 1 };
	return 0;
}

static void odd_open(struct odd *o, const char *from)
{
	struct err e = { .code = 0 };

	*o = (struct odd){ .source = { .ctx = o, .find = find } };
	if (st_open(from, &o->file, &e) < 0)
		fail_msg("%s", e.text);
	uint64_t at;
	assert_true(st_place(o->file, st_find(o->file, "s0")->data, &at));
	o->data_begin = at;
	assert_true(at % 2 == 1);
}

/* Every matrix, the last one first, in pieces of at most `rows` rows. */
static size_t list_pieces(struct weight_piece *p, uint32_t rows)
{
	size_t n = 0;

	for (uint32_t i = N_MATRICES; i-- > 0;)
		for (uint32_t first = 0; first < rows_of(i); first += rows, n++)
			p[n] = (struct weight_piece){ .slot = W_MLP_UP, .layer = i, .first = first,
				.rows = rows_of(i) - first < rows ? rows_of(i) - first : rows };
	return n;
}

static struct weight_piece pieces[8192];

static int open_stream(struct odd *o, enum read_how how, uint32_t rows, size_t room_bytes,
		       size_t *ret_n, struct weight_stream **ret, struct err *e)
{
	const struct piece_files files = { &o->file, 1 };
	const struct weight_room room = { NULL, room_bytes };

	*ret_n = list_pieces(pieces, rows);
	return piece_stream_open(&o->source, &files, how, &o->stats, pieces, *ret_n, &room, ret, e);
}

/* The bytes that were asked for, whatever the mapping says. */
static void check_bytes(const struct odd *o, const void *got, const void *mapped, size_t n)
{
	const uint8_t *p = got;
	uint64_t at;

	assert_true(st_place(o->file, mapped, &at));
	for (size_t i = 0; i < n; i++)
		if (p[i] != byte_at(at - o->data_begin + i))
			fail_msg("byte %zu of %zu at %llu", i, n, (unsigned long long)at);
}

static void check_piece(const struct odd *o, const struct weight_piece *p,
			const struct weight_ref *got)
{
	struct weight_ref whole, want;

	OK(find((void *)(uintptr_t)o, p->slot, p->layer, 0, &whole));
	OK(weight_rows(&whole, p->first, p->rows, &want));
	EQ(got->rows, p->rows);
	check_bytes(o, got->data, want.data, weight_data_bytes(&want));
	check_bytes(o, got->scale, want.scale, weight_scale_bytes(&want));
}

/* All of it; `held` pieces are looked at before they are given back. */
static int read_all(struct odd *o, enum read_how how, uint32_t rows, size_t room, uint32_t held,
		    struct err *e)
{
	struct weight_stream *s = NULL;
	struct weight_ref ref[8];
	size_t n, i = 0;
	int r = open_stream(o, how, rows, room, &n, &s, e);

	while (r == 0 && i < n) {
		uint32_t k = 0;

		for (; r == 0 && k < held && i + k < n; k++)
			r = weight_stream_next(s, &ref[k], e);
		for (uint32_t j = 0; r == 0 && j < k; j++)
			check_piece(o, &pieces[i + j], &ref[j]);
		weight_stream_done(s);
		i += k;
	}
	if (r == 0)
		EQ(weight_stream_next(s, &ref[0], e), -ENOENT);
	weight_stream_close(s);
	return r;
}

static uint32_t open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	uint32_t n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static bool can(enum read_how how)
{
	struct reader *r = NULL;
	int rc = reader_open(how, &r, NULL);

	reader_close(r);
	return rc == 0;
}

/* fn for each way that there is here; threads there always are. */
static void each_way(void (*fn)(struct odd *o, enum read_how how))
{
	static const enum read_how ways[] = { READ_THREADS, READ_URING };
	uint32_t fds = open_fds();

	for (size_t i = 0; i < 2; i++) {
		struct odd o;

		if (!can(ways[i])) {
			print_message("%s: not here\n", read_how_name(ways[i]));
			continue;
		}
		odd_open(&o, path);
		fn(&o, ways[i]);
		read_seam = NULL;
		st_close(o.file);
		EQ(open_fds(), fds);
	}
}

/* ---- reading ------------------------------------------------------------------------- */

static void read_in_every_cut(struct odd *o, enum read_how how)
{
	static const struct {
		uint32_t rows;
		size_t room;
		uint32_t held;
	} cuts[] = { { 128, 8 << 20, 1 }, { 4096, 64 << 20, 1 }, { 128, (size_t)1 << 20, 1 },
		     { 7, 128 << 10, 2 }, { 1, 64 << 10, 1 }, { 64, 4 << 20, 5 } };
	struct err e = { .code = 0 };

	for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
		o->stats = (struct read_stats){ .n_streams = 0 };
		if (read_all(o, how, cuts[i].rows, cuts[i].room, cuts[i].held, &e) < 0)
			fail_msg("cut %zu: %s", i, e.text);
		EQ(o->stats.how, how);
		EQ(o->stats.n_streams, 1);
		EQ(o->stats.n_buffered, !st_file(o->file)->direct);
	}
}

TEST(every_way_gives_the_bytes_of_the_file)
{
	each_way(read_in_every_cut);
}

static void read_into_given_room(struct odd *o, enum read_how how)
{
	const struct piece_files files = { &o->file, 1 };
	const struct weight_room room = { aligned_alloc(WEIGHT_ALIGN, 4 << 20), 4 << 20 };
	size_t n = list_pieces(pieces, 128);
	struct weight_stream *s;
	struct weight_ref ref;
	struct err e;

	OK(piece_stream_open(&o->source, &files, how, &o->stats, pieces, n, &room, &s, &e));
	for (size_t i = 0; i < n; i++) {
		OK(weight_stream_next(s, &ref, &e));
		assert_true((const char *)ref.data >= (char *)room.p &&
			    (const char *)ref.data < (char *)room.p + room.bytes);
		check_piece(o, &pieces[i], &ref);
		weight_stream_done(s);
	}
	weight_stream_close(s);
	free(room.p);
}

TEST(a_callers_room_is_where_the_bytes_arrive)
{
	each_way(read_into_given_room);
}

static void hold_too_much(struct odd *o, enum read_how how)
{
	struct weight_stream *s;
	struct err e = { .code = 0 };
	struct weight_ref ref;
	size_t n, i = 0;
	int r = 0;

	EQ(open_stream(o, how, 4096, 1 << 20, &n, &s, &e), -E2BIG);
	assert_non_null(strstr(e.text, "room for"));
	OK(open_stream(o, how, 128, 2 << 20, &n, &s, &e));
	while (r == 0 && i++ < n)
		r = weight_stream_next(s, &ref, &e);
	EQ(r, -ENOBUFS);
	weight_stream_done(s);	/* and goes on when something is given back */
	OK(weight_stream_next(s, &ref, &e));
	weight_stream_close(s);
}

TEST(a_room_that_is_too_small_is_said)
{
	each_way(hold_too_much);
}

/* ---- what the kernel may answer ------------------------------------------------------ */

static atomic_uint count;

static ssize_t short_results(const struct read_file *f, uint64_t at, size_t n, ssize_t r)
{
	unsigned i = atomic_fetch_add(&count, 1);
	/* whole blocks, and sometimes less than one; an end of file stays one */
	ssize_t limit = i % 3 == 0 ? 4096 : i % 7 == 0 ? 100 : 3 * 4096;

	(void)f;
	(void)at;
	(void)n;
	return i % 5 == 0 ? -EINTR : r > limit ? limit : r;
}

static void read_shortly(struct odd *o, enum read_how how)
{
	static const struct read_seam seam = { .result = short_results };
	struct err e = { .code = 0 };

	atomic_store(&count, 0);
	read_seam = &seam;
	if (read_all(o, how, 128, 4 << 20, 1, &e) < 0)
		fail_msg("%s", e.text);
	assert_true(atomic_load(&count) > 500);	/* whole pieces are fewer than a hundred */
}

TEST(short_and_interrupted_reads_are_continued)
{
	each_way(read_shortly);
}

static uint64_t bad_at;

static ssize_t broken_disk(const struct read_file *f, uint64_t at, size_t n, ssize_t r)
{
	(void)f;
	return at <= bad_at && bad_at < at + n ? -EIO : r;
}

static void read_broken(struct odd *o, enum read_how how)
{
	static const struct read_seam seam = { .result = broken_disk };
	struct weight_stream *s;
	struct weight_ref ref;
	struct err e = { .code = 0 };
	size_t n, i = 0;
	int r = 0;

	bad_at = st_file(o->file)->bytes / 2;
	read_seam = &seam;
	OK(open_stream(o, how, 128, 4 << 20, &n, &s, &e));
	while (r == 0 && i++ < n) {
		r = weight_stream_next(s, &ref, &e);
		weight_stream_done(s);
	}
	EQ(r, -EIO);
	assert_non_null(strstr(e.text, path));
	assert_non_null(strstr(e.text, "Input/output error"));
	EQ(weight_stream_next(s, &ref, &e), -EIO);	/* and stays so */
	weight_stream_close(s);
}

TEST(a_disk_that_cannot_read_is_named_with_the_place)
{
	each_way(read_broken);
}

/* The kernel's own EIO: nothing is mapped at address 0. */
TEST(the_kernels_own_error_arrives)
{
	static const enum read_how ways[] = { READ_THREADS, READ_URING };

	for (size_t i = 0; i < 2; i++) {
		struct read_request q = { .n = READ_ALIGN, .need = READ_ALIGN };
		struct reader *r;

		if (!can(ways[i]))
			continue;
		OK(read_file_open("/proc/self/mem", &q.file, NULL));
		assert_false(q.file->direct);	/* nor has procfs O_DIRECT */
		q.to = aligned_alloc(READ_ALIGN, READ_ALIGN);
		OK(reader_open(ways[i], &r, NULL));
		reader_submit(r, &q);
		reader_flush(r);
		assert_ptr_equal(reader_take(r, true), &q);
		EQ(q.result, -EIO);
		assert_null(reader_take(r, true));
		reader_close(r);
		read_file_close(q.file);
		free(q.to);
	}
}

static void read_truncated(struct odd *o, enum read_how how)
{
	const uint64_t all = st_file(o->file)->bytes;
	struct err e = { .code = 0 };

	OK(truncate(path, (off_t)(all / 2 + 77)));
	EQ(read_all(o, how, 128, 4 << 20, 1, &e), -ENODATA);
	if (!strstr(e.text, "became shorter") || !strstr(e.text, path))
		fail_msg("%s", e.text);
	write_odd_file(path);
}

TEST(a_file_that_shrinks_meanwhile_is_one_line)
{
	each_way(read_truncated);
}

/* ---- without O_DIRECT ---------------------------------------------------------------- */

static bool never_direct(const char *name)
{
	(void)name;
	return false;
}

static ssize_t refuse_direct(const struct read_file *f, uint64_t at, size_t n, ssize_t r)
{
	(void)at;
	(void)n;
	return atomic_load(&f->direct) ? -EINVAL : r;
}

/* Pages of the file in the page cache. */
static size_t resident(const char *name, uint64_t bytes)
{
	size_t pages = (size_t)(bytes + 4095) / 4096, n = 0;
	CLEANUP(freep) unsigned char *in = malloc(pages);
	CLEANUP(closep) int fd = open(name, O_RDONLY);
	void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	OK(mincore(map, bytes, in));
	for (size_t i = 0; i < pages; i++)
		n += in[i] & 1;
	munmap(map, bytes);
	return n;
}

/* What the kernel reads ahead, after the touch of a page, is neither in the page cache for mincore
 * nor can it be dropped while it is on its way: a read of all of it waits for that. */
static void let_arrive(const char *name)
{
	CLEANUP(closep) int fd = open(name, O_RDONLY);
	char some[1 << 16];
	ssize_t n;

	while ((n = read(fd, some, sizeof(some))) > 0)
		;
	EQ(n, 0);
}

/* False: a file system without a page cache of its own, or whose page cache is the file (tmpfs).
 * Pages that the kernel is looking at, to reclaim them say, stay at a drop; so it has a second. */
static bool can_drop(const struct st_file *f)
{
	for (int i = 0; i < 100; i++) {
		let_arrive(path);
		st_drop(f);
		if (!resident(path, st_file(f)->bytes))
			return true;
		usleep(10000);
	}
	return false;
}

static void read_buffered(enum read_how how, const struct read_seam *seam)
{
	struct err e = { .code = 0 };
	struct odd o;

	if (!can(how))
		return;
	odd_open(&o, path);
	bool can = can_drop(o.file);
	st_close(o.file);
	if (!can)
		skip();
	read_seam = seam;
	odd_open(&o, path);
	if (read_all(&o, how, 128, 4 << 20, 2, &e) < 0)
		fail_msg("%s", e.text);
	EQ(o.stats.n_buffered, 1);
	EQ(resident(path, st_file(o.file)->bytes), 0);
	read_seam = NULL;
	st_close(o.file);
}

TEST(without_o_direct_nothing_stays_in_the_page_cache)
{
	static const struct read_seam at_open = { .direct = never_direct };
	static const struct read_seam at_read = { .result = refuse_direct };

	read_buffered(READ_THREADS, &at_open);
	read_buffered(READ_URING, &at_open);
	read_buffered(READ_THREADS, &at_read);
	read_buffered(READ_URING, &at_read);
}

static void read_and_look(struct odd *o, enum read_how how)
{
	struct err e = { .code = 0 };
	uint64_t bytes = st_file(o->file)->bytes;

	if (!can_drop(o->file) || !st_file(o->file)->direct) {
		print_message("no O_DIRECT in %s\n", dir);
		return;
	}
	OK(read_all(o, how, 128, 4 << 20, 1, &e));
	EQ(resident(path, bytes), 0);
	/* and the look itself can see: */
	struct weight_ref w;
	volatile char x;
	OK(find(o, W_MLP_UP, 4, 0, &w));
	x = *(const char *)w.data;
	(void)x;
	assert_true(resident(path, bytes) > 0);
	assert_true(can_drop(o->file));
}

TEST(with_o_direct_nothing_enters_the_page_cache)
{
	each_way(read_and_look);
}

TEST(memory_file_systems_are_read)
{
	char name[] = "/dev/shm/hearth-read-XXXXXX";
	struct err e = { .code = 0 };
	int fd = mkstemp(name);
	struct odd o;

	if (fd < 0)
		skip();
	close(fd);
	write_odd_file(name);
	odd_open(&o, name);
	int r = read_all(&o, READ_AUTO, 128, 4 << 20, 1, &e);
	st_close(o.file);
	unlink(name);
	if (r < 0)
		fail_msg("%s", e.text);
}

/* ---- a whole model ------------------------------------------------------------------- */

/* Logits of 64 tokens and the numeric class of the tiny model, read in one way. */
static void serve(enum read_how how, float **ret_logits, size_t *ret_n,
		  char class[NUMERIC_CLASS_BYTES])
{
	const struct device_limits limits = { .n_slots = 1, .n_blocks = 1, .max_rows = 64,
					      .max_context = 64, .n_threads = 2 };
	const struct sampling greedy = { .top_p = 1, .repetition = 1 };
	static const kv_block block = 0;
	CLEANUP(buf_donep) struct buf name = BUF_INIT;
	struct err e = { .code = 0 };
	struct numeric_watch *watch;
	struct hf_config config;
	struct checkpoint *c;
	struct device *d;
	uint32_t tokens[64];
	struct run_result res;

	OK(buf_printf(&name, "%s/models/tiny", getenv("top_srcdir") ? getenv("top_srcdir") : ".."));
	OK(hf_config_open(name.p, &config, &e));
	OK(checkpoint_open(name.p, &config, &c, &e));
	OK(checkpoint_read_by(c, how, &e));
	OK(device_open("cpu", &config.shape, &limits, &d, &e));
	OK(numeric_watch_new(&config.shape, checkpoint_source(c), &watch));
	if (device_load(d, numeric_watch_source(watch), NULL, NULL, &e) < 0)
		fail_msg("%s", e.text);
	OK(numeric_class(watch, device_numeric_text(d), "test", class));
	EQ(checkpoint_read_stats(c)->n_streams, how == READ_MAPPED ? 0 : 1);
	numeric_watch_free(watch);
	OK(slot_begin(d, 0, &greedy, NULL, 0));
	for (uint32_t i = 0; i < 64; i++)
		tokens[i] = i * i * 7 % 199;
	*ret_n = 64 * (size_t)config.shape.vocab_rows * sizeof(float);
	*ret_logits = calloc(1, *ret_n);
	struct plan_run run = { .kind = ROW_PREFILL,
				.n = 64,
				.tokens = tokens,
				.blocks = &block,
				.n_blocks = 1,
				.logits = *ret_logits };
	OK(device_submit(d, &(struct plan){ .runs = &run, .n_runs = 1 }));
	assert_true(device_collect(d, &res, 1) >= 0);
	device_close(d);
	checkpoint_close(c);
}

TEST(a_model_is_the_same_however_it_was_read)
{
	char class[2][NUMERIC_CLASS_BYTES];
	float *logits[2];
	size_t n;

	serve(READ_MAPPED, &logits[0], &n, class[0]);
	for (enum read_how how = READ_AUTO; how < READ_MAPPED; how++) {
		if (!can(how))
			continue;
		serve(how, &logits[1], &n, class[1]);
		assert_memory_equal(logits[0], logits[1], n);
		assert_string_equal(class[0], class[1]);
		free(logits[1]);
	}
	free(logits[0]);
}

/* Half of a model on the device when its disk fails: one line, and nothing of it stays. */
TEST(a_load_that_fails_leaves_nothing)
{
	static const struct read_seam seam = { .result = broken_disk };
	const struct device_limits limits = { .n_slots = 1, .n_blocks = 1, .max_rows = 64,
					      .max_context = 64, .n_threads = 2 };
	CLEANUP(buf_donep) struct buf name = BUF_INIT;
	struct err e = { .code = 0 };
	uint32_t fds = open_fds();
	struct hf_config config;
	struct checkpoint *c;
	struct device *d;

	OK(buf_printf(&name, "%s/models/tiny", getenv("top_srcdir") ? getenv("top_srcdir") : ".."));
	OK(hf_config_open(name.p, &config, &e));
	OK(checkpoint_open(name.p, &config, &c, &e));
	OK(device_open("cpu", &config.shape, &limits, &d, &e));
	bad_at = 9 << 20;
	read_seam = &seam;
	EQ(device_load(d, checkpoint_source(c), NULL, NULL, &e), -EIO);
	read_seam = NULL;
	assert_non_null(strstr(e.text, "Input/output error"));
	device_close(d);
	checkpoint_close(c);
	EQ(open_fds(), fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_way_gives_the_bytes_of_the_file),
		cmocka_unit_test(a_callers_room_is_where_the_bytes_arrive),
		cmocka_unit_test(a_room_that_is_too_small_is_said),
		cmocka_unit_test(short_and_interrupted_reads_are_continued),
		cmocka_unit_test(a_disk_that_cannot_read_is_named_with_the_place),
		cmocka_unit_test(the_kernels_own_error_arrives),
		cmocka_unit_test(a_file_that_shrinks_meanwhile_is_one_line),
		cmocka_unit_test(without_o_direct_nothing_stays_in_the_page_cache),
		cmocka_unit_test(with_o_direct_nothing_enters_the_page_cache),
		cmocka_unit_test(memory_file_systems_are_read),
		cmocka_unit_test(a_model_is_the_same_however_it_was_read),
		cmocka_unit_test(a_load_that_fails_leaves_nothing),
	};
	char command[64];

	if (!mkdtemp(dir))
		return 99;
	snprintf(path, sizeof(path), "%s/odd.safetensors", dir);
	write_odd_file(path);
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command) == 0 ? r : 99;
}
