/* memory_test.c - around the broker: packets, holders, checks at start, configuration. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/checks.h"
#include "daemon/holders.h"
#include "daemon/memory_conf.h"
#include "lib/bytes.h"
#include "proto/box_wire.h"
#include "tests/unit/unit.h"

/* ---- packets ---------------------------------------------------------------------------- */

static void pack_present(struct buf *b, const char *alias)
{
	Hb__Present p = HB__PRESENT__INIT;

	p.alias = (char *)alias;
	p.device = (char *)"cpu";
	p.weights = 23 * BYTES_GIB;
	OK(box_pack(BOX_PRESENT, &p.base, b));
}

TEST(packets_come_out_as_they_went_in)
{
	struct buf b = BUF_INIT;
	struct box_msg m;
	struct err e;

	pack_present(&b, "tiny");
	OK(box_unpack(BOX_FROM_CLIENT, b.p, b.n, &m, &e));
	EQ(m.type, BOX_PRESENT);
	assert_string_equal(m.body.present->alias, "tiny");
	EQ(m.body.present->weights, 23 * BYTES_GIB);
	box_msg_done(&m);
	buf_done(&b);
}

/* Every cut, every flipped byte: an error or a message that passed the checks. */
TEST(damaged_packets_are_refused)
{
	struct buf b = BUF_INIT;
	struct err e;

	pack_present(&b, "tiny");
	for (size_t n = 0; n < b.n; n++) {
		struct box_msg m = { .type = 99 };

		assert_true(box_unpack(BOX_FROM_CLIENT, b.p, n, &m, &e) < 0);
		EQ(m.type, 99);
	}
	for (size_t i = 0; i < b.n; i++)
		for (int bit = 0; bit < 8; bit++) {
			struct box_msg m;

			b.p[i] = (char)(b.p[i] ^ (1 << bit));
			if (box_unpack(BOX_FROM_CLIENT, b.p, b.n, &m, &e) == 0)
				box_msg_done(&m);
			b.p[i] = (char)(b.p[i] ^ (1 << bit));
		}
	buf_done(&b);
}

TEST(sides_sizes_and_names)
{
	struct buf b = BUF_INIT, long_name = BUF_INIT;
	Hb__Granted g = HB__GRANTED__INIT;
	Hb__Refused r = HB__REFUSED__INIT;
	struct box_msg m;
	struct err e;

	pack_present(&b, "two words");
	EQ(box_unpack(BOX_FROM_CLIENT, b.p, b.n, &m, &e), -EPROTO);
	buf_clear(&b);
	for (int i = 0; i < BOX_MAX_NAME; i++)
		buf_putc(&long_name, 'x');
	pack_present(&b, long_name.p);
	EQ(box_unpack(BOX_FROM_CLIENT, b.p, b.n, &m, &e), -EPROTO);
	buf_clear(&b);
	g.lease = 7;
	OK(box_pack(BOX_GRANTED, &g.base, &b));
	EQ(box_unpack(BOX_FROM_CLIENT, b.p, b.n, &m, &e), -EPROTO);	/* wrong side */
	OK(box_unpack(BOX_FROM_DAEMON, b.p, b.n, &m, &e));
	box_msg_done(&m);
	buf_clear(&b);
	r.text = (char *)"line\nbreak";
	OK(box_pack(BOX_REFUSED, &r.base, &b));
	EQ(box_unpack(BOX_FROM_DAEMON, b.p, b.n, &m, &e), -EPROTO);
	while (long_name.n < 20000)
		buf_putc(&long_name, 'x');
	r.text = long_name.p;
	EQ(box_pack(BOX_REFUSED, &r.base, &b), -EMSGSIZE);
	EQ(box_pack(BOX_TAKEN, &r.base, &b), -EMSGSIZE);		/* another type's message */
	buf_done(&b);
	buf_done(&long_name);
}

TEST(a_socket_that_ends)
{
	Hb__Taken t = HB__TAKEN__INIT;
	struct box_msg m;
	struct err e;
	int s[2];

	OK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, s));
	EQ(box_recv(s[1], BOX_FROM_CLIENT, &m, &e), -EAGAIN);
	t.bytes = 5;
	OK(box_send(s[0], BOX_TAKEN, &t.base));
	OK(box_recv(s[1], BOX_FROM_CLIENT, &m, &e));
	EQ(m.body.taken->bytes, 5);
	box_msg_done(&m);
	close(s[0]);
	EQ(box_recv(s[1], BOX_FROM_CLIENT, &m, &e), -ECONNRESET);
	EQ(box_send(s[1], BOX_TAKEN, &t.base), -EPIPE);
	close(s[1]);
	EQ(box_connect("/nonexistent/socket"), -ENOENT);
}

/* ---- a box of files ----------------------------------------------------------------------- */

static char root[64];

static void put(const char *path, const char *text)
{
	char full[300], *slash;
	FILE *f;

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		(void)mkdir(full, 0700);
		*slash = '/';
	}
	f = fopen(full, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void put_process(int pid, const char *name, const char *cgroup, unsigned long long mib)
{
	char path[64], text[200];

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	put(path, name);
	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	put(path, cgroup);
	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	snprintf(text, sizeof(text), "999999 %llu 1 1 0 1 0\n",
		 (mib << 20) / (unsigned long long)sysconf(_SC_PAGESIZE) + 1);
	put(path, text);
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	snprintf(text, sizeof(text), "0-f ---p 0 00:00 0 [rollup]\nRss: %llu kB\nPss: %llu kB\n",
		 mib << 11, mib << 10);
	put(path, text);
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	snprintf(text, sizeof(text), "Name: x\nVmRSS: 99 kB\nRssAnon: %llu kB\nRssFile: 7 kB\n"
		 "RssShmem: 1024 kB\n", mib << 10);
	put(path, text);
}

static int set_up(void **state)
{
	(void)state;
	strcpy(root, "/tmp/memory-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

TEST(holders_by_unit_then_by_process)
{
	const int ours[] = { 77 };
	struct broker_holder h[8];
	uint64_t taken;
	size_t n;

	put_process(10, "python3\n", "0::/system.slice/tts.service\n", 9000);
	put_process(11, "python3\n", "0::/system.slice/tts.service\n", 5000);
	put_process(12, "odd\x1bname\n", "0::/\n", 3000);
	put_process(13, "vllm\n",
		    "12:memory:/x\n1:name=systemd:/machine.slice/docker-3f.scope/y\n0::/\n", 20000);
	put_process(14, "small\n", "0::/system.slice/small.service\n", 50);
	put_process(77, "hearth-worker\n", "0::/hearth.slice/hearth-worker@a.service\n", 90000);
	put("/sys/fs/cgroup/system.slice/tts.service/memory.stat", "anon 1\nfile 2147483648\n");
	n = holders_read(root, NULL, ours, 1, 128 * BYTES_MIB, h, 8);
	EQ(n, 3);
	assert_string_equal(h[0].name, "unit docker-3f.scope");
	EQ(h[0].bytes, 20000 * BYTES_MIB);
	assert_string_equal(h[1].name, "unit tts.service (and 2.0 GiB of page cache)");
	EQ(h[1].bytes, 14000 * BYTES_MIB);
	assert_string_equal(h[2].name, "process odd?name (12)");
	EQ(holders_read(root, NULL, ours, 1, 128 * BYTES_MIB, h, 2), 2);
	OK(holders_taken(root, 77, &taken));
	EQ(taken, 90001 * BYTES_MIB);
	EQ(holders_taken(root, 78, &taken), -ENOENT);
}

TEST(units_of_control_groups)
{
	char u[64];

	assert_true(holders_unit("/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope",
				 u, 64));
	assert_string_equal(u, "x.scope");
	assert_false(holders_unit("/user.slice", u, 64));
	assert_false(holders_unit("/.service", u, 64));
	assert_false(holders_unit("", u, 64));
}

static bool says(const struct checks *c, const char *text)
{
	for (size_t i = 0; i < c->n; i++)
		if (strstr(c->text[i], text))
			return true;
	return false;
}

static void put_meminfo(const char *more)
{
	char text[400];

	snprintf(text, sizeof(text), "MemTotal: 127600000 kB\nMemFree: 17825792 kB\n"
		 "MemAvailable: 18874368 kB\nCached: 1000 kB\n%s", more);
	put("/proc/meminfo", text);
}

TEST(a_quiet_box_and_a_troubled_one)
{
	struct checks c;

	put("/proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
				     "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
	put("/proc/cmdline", "root=/dev/x kho=off quiet\n");
	put("/proc/buddyinfo", "Node 0, zone Normal 0 0 0 0 0 0 0 0 0 0 4000\n");
	put_meminfo("CmaTotal: 9764864 kB\n");
	checks_read(root, NULL, &c);
	EQ(c.n, 0);

	put("/proc/cmdline", "root=/dev/x quiet\n");
	put("/proc/buddyinfo", "Node 0, zone Normal 4000000 0 0 0 0 0 0 0 0 0 40\n");
	put_meminfo("CmaTotal: 9764864 kB\nSwapTotal: 9000000 kB\nSwapFree: 1 kB\n"
		    "Hugetlb: 4194304 kB\n");
	put_process(20, "gnome-shell\n", "0::/\n", 1500);
	checks_read(root, NULL, &c);
	assert_true(says(&c, "kho=off"));
	assert_true(says(&c, "compact_memory"));
	assert_true(says(&c, "swap holds 8.6 GiB"));
	assert_true(says(&c, "huge pages"));
	assert_true(says(&c, "sessions hold 1.5 GiB"));
	assert_non_null(checks_driver("590.44.01"));
	assert_non_null(checks_driver("610.57.04"));
	assert_null(checks_driver("580.95.05"));
	assert_null(checks_driver(""));
}

/* ---- configuration --------------------------------------------------------------------------- */

static const struct conf_section sections[] = { MEMORY_CONF_SECTIONS, { NULL, false, NULL } };
static const struct conf_key keys[] = { MEMORY_CONF_KEYS, { .key = NULL } };
static const struct conf_table table = { sections, keys };

static int load(const char *text, struct memory_conf **ret, struct err *e)
{
	struct conf *c;
	int r = conf_load_text(&table, "test", text, strlen(text), &c, e);

	if (r < 0)
		return r;
	r = memory_conf_load(c, "/run/x", ret, e);
	conf_free(c);
	return r;
}

TEST(reserve_by_the_size_of_the_box)
{
	struct memory_conf *m;
	struct broker_policy p;
	struct err e;

	OK(load("", &m, &e));
	p = memory_conf_policy(m, 121 * BYTES_GIB);
	EQ(p.reserve, 12 * BYTES_GIB);
	EQ(p.yellow, 6 * BYTES_GIB);
	EQ(p.red, 3 * BYTES_GIB);
	EQ(p.drop, DROP_AUTO);
	EQ(p.judge, JUDGE_FREE);
	EQ(memory_conf_policy(m, 16 * BYTES_GIB).reserve, 2 * BYTES_GIB);
	assert_string_equal(m->socket, "/run/x/memory");
	memory_conf_free(m);
	OK(load("[memory]\nreserve_mib = 20480\ndrop_caches = never\n", &m, &e));
	EQ(memory_conf_policy(m, 16 * BYTES_GIB).reserve, 20 * BYTES_GIB);
	EQ(m->policy.drop, DROP_NEVER);
	memory_conf_free(m);
}

TEST(configuration_that_cannot_work)
{
	static const char *const bad[] = {
		"[memory]\nreserve_mib = 100\nyellow_mib = 200\n",
		"[memory]\nyellow_mib = 100\nred_mib = 100\n",
		"[memory]\ndrop_caches = perhaps\n",
		"[workload x]\nmemory = 1G\nstop-for = a\n",
		"[workload x]\nunit = /bin/rm\nmemory = 1G\nstop-for = a\n",
		"[workload x]\nunit = a.service\nmemory = lots\nstop-for = a\n",
		"[workload x]\nunit = a.service\nmemory = 1G\n",
		"[workload x]\nunit = .service\nmemory = 1G\nstop-for = a\n",
	};
	struct memory_conf *m;
	struct err e;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (load(bad[i], &m, &e) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
}

TEST(workloads_for_aliases)
{
	struct memory_conf *m;
	struct err e;

	OK(load("[workload tts]\nunit = tts.service\nmemory = 14G\nstop-for = qwen36-bf16 other\n"
		"[workload any]\nunit = docker-3f.scope\nmemory = 1G\nstop-for = *\nrestart = no\n",
		&m, &e));
	EQ(m->n_workloads, 2);
	EQ(m->workloads[0].memory, 14 * BYTES_GIB);
	assert_true(m->workloads[0].restart && !m->workloads[1].restart);
	assert_true(workload_conf_for(&m->workloads[0], "other"));
	assert_true(workload_conf_for(&m->workloads[0], "qwen36-bf16"));
	assert_false(workload_conf_for(&m->workloads[0], "qwen36"));
	assert_false(workload_conf_for(&m->workloads[0], ""));
	assert_true(workload_conf_for(&m->workloads[1], "qwen36"));
	memory_conf_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packets_come_out_as_they_went_in),
		cmocka_unit_test(damaged_packets_are_refused),
		cmocka_unit_test(sides_sizes_and_names),
		cmocka_unit_test(a_socket_that_ends),
		cmocka_unit_test_setup_teardown(holders_by_unit_then_by_process, set_up, tear_down),
		cmocka_unit_test(units_of_control_groups),
		cmocka_unit_test_setup_teardown(a_quiet_box_and_a_troubled_one, set_up, tear_down),
		cmocka_unit_test(reserve_by_the_size_of_the_box),
		cmocka_unit_test(configuration_that_cannot_work),
		cmocka_unit_test(workloads_for_aliases),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
