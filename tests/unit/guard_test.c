/* guard_test.c - a device that hangs, is lost or gives no numbers: claims about worker/watchdog.h,
 * flight.h, xid.h and engine_guard(), on the fake device. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "tests/fake/device.h"
#include "tests/unit/unit.h"
#include "worker/engine.h"
#include "worker/watchdog.h"
#include "worker/xid.h"

/* ---- the watchdog alone ------------------------------------------------------------------ */

struct watched {
	atomic_bool busy;
	atomic_uint mark, bitten;
	uint64_t bound_ms;
	bool moves;
	int tell;		/* a pipe: the bite; -1: none */
};

static void look(void *ctx, struct watch_look *ret)
{
	struct watched *x = ctx;

	*ret = (struct watch_look){ x->busy, x->moves ? ++x->mark : x->mark, x->bound_ms };
}

static void bite(void *ctx, uint64_t stood_ms)
{
	struct watched *x = ctx;

	assert_true(stood_ms >= x->bound_ms);
	x->bitten++;
	if (x->tell >= 0)
		(void)!write(x->tell, "b", 1);
}

static uint32_t bites(struct watched *x, uint32_t for_ms)
{
	const struct watch_hooks h = { x, look, bite };
	struct watchdog *w;

	x->tell = -1;
	OK(watchdog_start(&h, 10, &w));
	usleep(for_ms * 1000);
	watchdog_stop(w);
	return x->bitten;
}

TEST(it_bites_once_and_only_what_is_busy_and_stands_still)
{
	EQ(bites(&(struct watched){ .busy = true, .bound_ms = 50 }, 1500), 1);
	EQ(bites(&(struct watched){ .busy = false, .bound_ms = 50 }, 300), 0);
	EQ(bites(&(struct watched){ .busy = true, .moves = true, .bound_ms = 50 }, 300), 0);
	EQ(bites(&(struct watched){ .busy = true, .bound_ms = 60000 }, 100), 0);
}

#define WATCHED_BOUND_MS 1500

static void be_watched(int tell)
{
	struct watched x = { .busy = true, .bound_ms = WATCHED_BOUND_MS, .tell = tell };
	const struct watch_hooks h = { &x, look, bite };
	struct watchdog *w;

	if (watchdog_start(&h, 20, &w) < 0)
		_exit(1);
	pause();
}

/* 1: within ms something could be read from fd. */
static int readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms);
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* A watched child that stands still, stopped for much longer than its bound.  Whether it bit soon
 * after; *ran_ms: the most that it can have run by then, which a busy machine makes longer. */
static int stopped_and_bit(pid_t child, int fd, uint64_t began, uint64_t *ran_ms)
{
	uint64_t stopped, again;
	int bit;

	usleep(100000);
	OK(kill(child, SIGSTOP));
	stopped = now_ms();
	usleep(2500000);
	again = now_ms();
	OK(kill(child, SIGCONT));
	bit = readable(fd, 300);
	*ran_ms = stopped - began + now_ms() - again;
	return bit;
}

TEST(a_process_that_was_stopped_is_not_one_that_hangs)
{
	uint64_t ran_ms = WATCHED_BOUND_MS;
	int bit = 1;

	for (int attempt = 0; bit && ran_ms >= WATCHED_BOUND_MS; attempt++) {
		const uint64_t began = now_ms();
		int tell[2];
		pid_t child;

		assert_true(attempt < 20);	/* a machine that never gives a process its time */
		OK(pipe(tell));
		child = fork();
		if (!child)
			be_watched(tell[1]);
		bit = stopped_and_bit(child, tell[0], began, &ran_ms);
		if (!bit)
			EQ(readable(tell[0], 20000), 1);	/* it really hangs: its own ticks add up */
		OK(kill(child, SIGKILL));
		EQ(waitpid(child, NULL, 0), child);
		close(tell[0]);
		close(tell[1]);
	}
	EQ(bit, 0);
}

/* ---- figures and words -------------------------------------------------------------------- */

TEST(what_flies_is_said_and_long_steps_get_longer)
{
	const struct step_flight f[] = {
		{ .step = 41, .n_runs = 3, .rows = { [ROW_DECODE] = 2, [ROW_PREFILL] = 64 } },
		{ .step = 42, .n_runs = 1, .rows = { [ROW_REPLAY] = 8 } },
		{ .step = UINT64_MAX,
		  .n_runs = UINT32_MAX,
		  .rows = { UINT32_MAX, UINT32_MAX, UINT32_MAX } },
	};
	char text[FLIGHT_TEXT];

	flights_text(f, 0, text);
	assert_string_equal(text, "no step in flight");
	flights_text(f, 2, text);
	assert_string_equal(
		text,
		"step 41: 3 runs, 64 prefill + 2 decode rows; step 42: 1 runs, 8 replay rows");
	flights_text(f + 2, 1, text);
	assert_true(strlen(text) < FLIGHT_TEXT);
	EQ(flights_bound_ms(f, 0, 60000), 60000);
	EQ(flights_bound_ms(f, 1, 60000), 66600);
	EQ(flights_bound_ms(f, 2, 60000), 67400);
}

TEST(rows_without_numbers_add_up_until_a_good_step)
{
	struct number_watch w = { .limit = 3 };
	const uint64_t s = NS_PER_S;

	assert_false(number_watch_step(&w, 1, 1, 1 * s));
	assert_false(number_watch_step(&w, 1, 1, 2 * s));
	assert_false(number_watch_step(&w, 4, 0, 3 * s));	/* all well again */
	assert_false(number_watch_step(&w, 1, 1, 4 * s));
	assert_false(number_watch_step(&w, 0, 0, 5 * s));	/* a prompt: says nothing */
	assert_false(number_watch_step(&w, 8, 1, 6 * s));
	assert_true(number_watch_step(&w, 1, 1, 7 * s));
	w = (struct number_watch){ .limit = 3 };
	assert_false(number_watch_step(&w, 1, 1, 1 * s));
	assert_false(number_watch_step(&w, 1, 1, 2 * s));
	assert_false(number_watch_step(&w, 1, 1, 62 * s));	/* not within a minute */
	w = (struct number_watch){ .limit = 3 };
	assert_true(number_watch_step(&w, 2, 2, 1 * s));	/* the whole step */
	w = (struct number_watch){ .limit = 0 };
	for (uint64_t i = 0; i < 100; i++)
		assert_false(number_watch_step(&w, 8, 2, i));
}

TEST(an_xid_is_found_among_the_kernel_s_records)
{
	static const char xid[] =
		"4,871,5000000,-;NVRM: Xid (PCI:0000:65:00): 79, pid=1, GPU has fallen off the bus.\n"
		" SUBSYSTEM=pci\n";
	static const char *const others[] = { "6,870,4000000,-;usb 1-1: new device\n",
					      "NVRM: Xid",
					      "4;NVRM: Xid 1\n",
					      "4,1,9999999,-",
					      "4,1;NVRM: Xid",
					      "",
					      "4,1,9999999,-;NVRM: Xi" };
	char text[128], tiny[8];

	assert_true(xid_of_record(xid, strlen(xid), 4000000, text, sizeof(text)) > 0);
	assert_string_equal(text,
			    "NVRM: Xid (PCI:0000:65:00): 79, pid=1, GPU has fallen off the bus.");
	EQ(xid_of_record(xid, strlen(xid), 5000001, text, sizeof(text)), 0);	/* too old */
	EQ(xid_of_record(xid, strlen(xid), 0, tiny, sizeof(tiny)), 7);
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		EQ(xid_of_record(others[i], strlen(others[i]), 0, text, sizeof(text)), 0);
}

/* ---- the engine ------------------------------------------------------------------------------ */

static struct world {
	struct device *device;
	struct engine *engine;
	char said[512];
	atomic_uint n_said, n_left;
	uint32_t n_no_number, n_lost, n_done;
	int lost;
	uint32_t pos, slot;
} w;

static int open_fake(void *ctx, struct device **ret, struct sched_config *ret_c, struct err *e)
{
	const struct device_limits l = {
		.n_slots = 4, .n_blocks = 32, .max_rows = 128, .max_context = 1024
	};

	(void)ctx;
	*ret_c = (struct sched_config){ .n_slots = 4,
					.n_blocks = 32,
					.max_rows = 128,
					.max_context = 1024,
					.max_queue = 8,
					.prefill_rows = 64,
					.replay_rows = 8 };
	OK(device_open("fake", NULL, &l, ret, e));
	w.device = *ret;
	return 0;
}

static void say(void *ctx, const char *text)
{
	(void)ctx;
	snprintf(w.said, sizeof(w.said), "%s", text);
	w.n_said++;
}

static void leave(void *ctx)
{
	(void)ctx;
	w.n_left++;
}

static void world_open(uint32_t step_ms, void (*fault)(struct device *d))
{
	const struct engine_guard g = {
		.step_ms = step_ms, .grace_ms = 50, .no_numbers = 3, .say = say, .leave = leave
	};

	memset(&w, 0, sizeof(w));
	OK(engine_start(open_fake, NULL, &w.engine, NULL));
	fault(w.device);	/* the engine sleeps: nobody else calls it now */
	OK(engine_guard(w.engine, &g));
}

static struct seq *question(uint64_t id, uint32_t max_output)
{
	const uint32_t prompt[] = { 1, 2, 3, (uint32_t)id };
	struct seq_spec spec = { .id = id,
				 .prompt = prompt,
				 .n_prompt = 4,
				 .max_output = max_output,
				 .sampling = { .seed = id } };
	struct seq *s;

	OK(seq_new(&spec, &s));
	return s;
}

static void ask(uint64_t id, uint32_t max_output)
{
	struct seq *s = question(id, max_output);

	OK(engine_add(w.engine, &s, 1));
}

/* Takes events until n sequences are done or the engine is lost. */
static void wait_done(uint32_t n)
{
	const struct engine_event *ev;

	while (w.n_done < n && !w.n_lost) {
		assert_int_equal(readable(engine_fd(w.engine), 20000), 1);
		for (size_t i = 0, n_ev = engine_take(w.engine, &ev); i < n_ev; i++) {
			w.n_done += ev[i].kind == ENGINE_DONE;
			if (ev[i].kind == ENGINE_DONE && ev[i].end == SEQ_END_NO_NUMBER) {
				w.n_no_number++;
				w.pos = ev[i].pos;
				w.slot = ev[i].slot;
			}
			if (ev[i].kind == ENGINE_LOST) {
				w.n_lost++;
				w.lost = ev[i].code;
			}
		}
	}
}

static void wedge(struct device *d)
{
	fake_wedge(d, 10);
}

TEST(a_step_that_does_not_finish_is_said_told_and_left)
{
	struct err why;

	world_open(200, wedge);
	ask(1, 500);
	wait_done(1);
	EQ(w.lost, -ETIMEDOUT);
	for (int i = 0; i < 2000 && !w.n_left; i++)
		usleep(10000);
	EQ(w.n_left, 1);	/* though the owner did nothing, and the engine's thread hangs */
	EQ(w.n_said, 1);
	EQ(engine_why_lost(w.engine, &why), -ETIMEDOUT);
	assert_string_equal(why.text, w.said);
	assert_non_null(strstr(w.said, "the device hangs: nothing was finished for "));
	assert_non_null(strstr(
		w.said,
		"in flight: step 10: 1 runs, 1 decode rows; step 11: 1 runs, 1 decode rows"));
	fake_release(w.device);
	engine_stop(w.engine);
}

static void nothing(struct device *d)
{
	(void)d;
}

static void slowly(struct device *d)
{
	fake_slow(d, 60000);
}

TEST(neither_idleness_nor_slow_steps_are_a_hang)
{
	world_open(400, nothing);
	usleep(900000);
	ask(1, 20);
	wait_done(1);
	engine_stop(w.engine);
	EQ(w.n_said + w.n_left + w.n_lost, 0);
	world_open(400, slowly);
	ask(1, 20);	/* 20 times 60 ms: longer than the bound, but each step is not */
	wait_done(1);
	engine_stop(w.engine);
	EQ(w.n_said + w.n_left + w.n_lost, 0);
}

static void lose(struct device *d)
{
	fake_lose_device(d, 10);
}

TEST(a_lost_device_is_quoted)
{
	struct err why;

	world_open(60000, lose);
	EQ(engine_why_lost(w.engine, &why), 0);
	ask(1, 500);
	wait_done(1);
	EQ(w.lost, -ENODEV);
	EQ(engine_why_lost(w.engine, &why), -ENODEV);
	assert_non_null(strstr(why.text,
			       "the device was lost: fake: fell off the bus; in flight: step 9: "));
	engine_stop(w.engine);
	EQ(w.n_said + w.n_left, 0);	/* nothing hangs */
}

static void one_nan(struct device *d)
{
	fake_no_number(d, 5, 1, 1);
}

TEST(a_row_without_a_number_ends_its_stream_alone)
{
	world_open(60000, one_nan);
	ask(1, 50);
	ask(2, 50);
	wait_done(2);
	EQ(w.n_lost, 0);
	EQ(w.n_no_number, 1);
	assert_in_range(w.pos, 5, 4 + 5);
	assert_true(w.slot < 4);
	ask(3, 50);
	wait_done(3);
	EQ(w.n_no_number, 1);
	engine_stop(w.engine);
}

static void many_nan(struct device *d)
{
	fake_no_number(d, 5, 1000, 1);
}

TEST(three_in_a_row_end_the_engine)
{
	struct err why;

	world_open(60000, many_nan);
	for (uint32_t id = 1; id <= 3; id++) {
		ask(id, 50);
		wait_done(id);
		EQ(w.n_no_number, id);
		assert_true(id == 3 || !w.n_lost);
	}
	wait_done(4);	/* no more come: it is lost */
	EQ(w.lost, -EDOM);
	EQ(engine_why_lost(w.engine, &why), -EDOM);
	assert_non_null(strstr(why.text, "no numbers"));
	engine_stop(w.engine);
}

static void all_nan(struct device *d)
{
	fake_no_number(d, 20, 1, 4);
}

TEST(a_whole_step_of_them_ends_it_at_once)
{
	struct seq *both[2];

	world_open(60000, all_nan);
	both[0] = question(1, 500);
	both[1] = question(2, 500);
	OK(engine_add(w.engine, both, 2));	/* at once: the engine may be awake after one */
	wait_done(3);
	EQ(w.lost, -EDOM);
	EQ(w.n_no_number, 2);
	engine_stop(w.engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_bites_once_and_only_what_is_busy_and_stands_still),
		cmocka_unit_test(a_process_that_was_stopped_is_not_one_that_hangs),
		cmocka_unit_test(what_flies_is_said_and_long_steps_get_longer),
		cmocka_unit_test(rows_without_numbers_add_up_until_a_good_step),
		cmocka_unit_test(an_xid_is_found_among_the_kernel_s_records),
		cmocka_unit_test(a_step_that_does_not_finish_is_said_told_and_left),
		cmocka_unit_test(neither_idleness_nor_slow_steps_are_a_hang),
		cmocka_unit_test(a_lost_device_is_quoted),
		cmocka_unit_test(a_row_without_a_number_ends_its_stream_alone),
		cmocka_unit_test(three_in_a_row_end_the_engine),
		cmocka_unit_test(a_whole_step_of_them_ends_it_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
