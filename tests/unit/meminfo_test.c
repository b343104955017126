/* meminfo_test.c - the kernel's files from trees of the test's own, and the running kernel's. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/bytes.h"
#include "lib/meminfo.h"
#include "tests/unit/unit.h"

static char root[64];

static void put(const char *path, const char *text)
{
	char full[256];
	FILE *f;

	snprintf(full, sizeof(full), "%s%s", root, path);
	f = fopen(full, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int set_up(void **state)
{
	char sub[128];

	(void)state;
	strcpy(root, "/tmp/meminfo-XXXXXX");
	assert_non_null(mkdtemp(root));
	snprintf(sub, sizeof(sub), "%s/proc", root);
	OK(mkdir(sub, 0700));
	snprintf(sub, sizeof(sub), "%s/proc/pressure", root);
	return mkdir(sub, 0700);
}

static int tear_down(void **state)
{
	static const char *const names[] = { "/proc/meminfo",
					     "/proc/buddyinfo",
					     "/proc/zoneinfo",
					     "/proc/pressure/memory",
					     "/proc/pressure",
					     "/proc",
					     "" };
	char full[256];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		snprintf(full, sizeof(full), "%s%s", root, names[i]);
		if (unlink(full) < 0)
			(void)rmdir(full);
	}
	return 0;
}

TEST(a_box_of_121_gib)
{
	struct meminfo m;
	struct err e;

	put("/proc/meminfo", "MemTotal:       127600000 kB\nMemFree:         17825792 kB\n"
			     "MemAvailable:    18874368 kB\nBuffers:  1024 kB\n"
			     "Cached:         90000000 kB\nSwapCached: 7 kB\nShmem: 2048 kB\n"
			     "SReclaimable: 4096 kB\nSwapTotal: 16 kB\nSwapFree: 8 kB\n"
			     "CmaTotal: 9764864 kB\nHugePages_Total: 3\nHugetlb: 6144 kB\n");
	OK(meminfo_read(root, &m, &e));
	EQ(m.total, (uint64_t)127600000 << 10);
	EQ(m.free, 17 * BYTES_GIB);
	EQ(m.available, 18 * BYTES_GIB);
	EQ(m.cached, (uint64_t)90000000 << 10);
	EQ(m.swap_total, 16 << 10);
	EQ(m.cma_total, (uint64_t)9764864 << 10);
	EQ(m.hugetlb, 6144 << 10);
	EQ(meminfo_droppable(&m), (uint64_t)(90000000 + 1024 + 4096 - 2048) << 10);
}

TEST(files_that_cannot_be_believed)
{
	struct meminfo m = { .total = 7 };
	struct err e;

	EQ(meminfo_read("/nonexistent", &m, &e), -ENOENT);
	put("/proc/meminfo", "MemTotal: 1 kB\nMemFree: 1 kB\n");
	EQ(meminfo_read(root, &m, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "MemAvailable"));
	put("/proc/meminfo", "MemTotal: 99999999999999999999999 kB\nMemFree: x kB\n\n:\n"
			     "MemAvailable 1 kB\n");
	EQ(meminfo_read(root, &m, &e), -EBADMSG);
	EQ(m.total, 7);		/* untouched */
}

TEST(free_pages_of_each_cpu)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	put("/proc/zoneinfo",
	    "Node 0, zone   Normal\n  pages free     5937012\n        boost    0\n"
	    "      nr_free_pages 5937012\n  pagesets\n    cpu: 0\n"
	    "              count:    337\n              high:     1444\n"
	    "              high_max: 48307\n    cpu: 1\n              count:    1024\n"
	    "  node_unreclaimable:  0\nNode 1, zone Normal\n  pagesets\n    cpu: 0\n"
	    "              count:    7\n              count:    x\n");
	EQ(meminfo_percpu(root), (337 + 1024 + 7) * page);
	EQ(meminfo_percpu("/nonexistent"), 0);
	assert_true(meminfo_percpu(NULL) > 0);		/* this kernel has the lines */
}

TEST(pressure)
{
	struct meminfo_psi p;

	put("/proc/pressure/memory", "some avg10=12.50 avg60=0.10 avg300=0.00 total=123456\n"
				     "full avg10=3.25 avg60=0.00 avg300=0.00 total=4567\n");
	OK(meminfo_psi_read(root, &p));
	assert_true(p.some10 == 12.5 && p.full10 == 3.25);
	EQ(p.some_us, 123456);
	EQ(p.full_us, 4567);
	EQ(meminfo_psi_read("/nonexistent", &p), -ENOENT);
}

TEST(fragments)
{
	uint64_t large, small;

	put("/proc/buddyinfo",
	    "Node 0, zone      DMA      0      0      0      0      0      0      0      0      1      1      3 \n"
	    "Node 0, zone   Normal   7658      0      0      0      0      0      0      0      0      2      5 \n");
	OK(meminfo_buddy_read(root, &large, &small));
	if (sysconf(_SC_PAGESIZE) == 4096) {
		EQ(large, (1 + 2) * (2 << 20) + (3 + 5) * (4 << 20));
		EQ(small, 7658 * 4096 + (1 << 20));
	}
	put("/proc/buddyinfo", "nonsense\nNode\nzone\nNode 0, zone\n");
	OK(meminfo_buddy_read(root, &large, &small));
	EQ(large + small, 0);
}

TEST(this_kernel)
{
	struct meminfo m;
	struct err e;

	OK(meminfo_read(NULL, &m, &e));
	assert_true(m.total > m.free && m.available <= m.total);
}

TEST(sizes_are_powers_of_1024)
{
	uint64_t x = 5;

	OK(bytes_parse("4096", &x));
	EQ(x, 4096);
	OK(bytes_parse("64K", &x));
	EQ(x, 65536);
	OK(bytes_parse("2T", &x));
	assert_true(x == UINT64_C(1) << 41);
	EQ(bytes_parse("", &x), -EINVAL);
	EQ(bytes_parse("-1", &x), -EINVAL);
	EQ(bytes_parse("3Q", &x), -EINVAL);
	EQ(bytes_parse("3KB", &x), -EINVAL);
	EQ(bytes_parse("1e30", &x), -EINVAL);
	EQ(bytes_parse("nan", &x), -EINVAL);
}

TEST(sizes_for_people)
{
	uint64_t x;

	OK(bytes_parse("11.5G", &x));
	EQ(x, 11 * BYTES_GIB + BYTES_GIB / 2);
	EQ(bytes_parse("12 GiB", &x), -EINVAL);
	EQ(bytes_parse("-1", &x), -EINVAL);
	EQ(bytes_parse("", &x), -EINVAL);
	assert_string_equal(BYTES(12 * BYTES_GIB), "12.0 GiB");
	assert_string_equal(BYTES(1023), "1023 B");
	assert_string_equal(BYTES(300 * BYTES_MIB), "300 MiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_box_of_121_gib),
		cmocka_unit_test(files_that_cannot_be_believed),
		cmocka_unit_test(free_pages_of_each_cpu),
		cmocka_unit_test(pressure),
		cmocka_unit_test(fragments),
		cmocka_unit_test(this_kernel),
		cmocka_unit_test(sizes_are_powers_of_1024),
		cmocka_unit_test(sizes_for_people),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
