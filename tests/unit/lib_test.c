/* lib_test.c - claims about lib/. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/expo.h"
#include "lib/err.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/own.h"
#include "lib/utf8.h"

TEST(a_cut_error_text_looks_cut)
{
	struct err e;
	char big[1000];

	memset(big, 'x', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	EQ(err_set(&e, -EINVAL, "%s", big), -EINVAL);
	assert_string_equal(e.text + strlen(e.text) - 4, "x...");
	EQ(err_set(&e, -ENOENT, "gone"), -ENOENT);
	EQ(err_prefix(&e, -ENOENT, "a/%d", 1), -ENOENT);
	assert_string_equal(e.text, "a/1: gone");
}

TEST(buf_keeps_its_bytes_and_its_terminator)
{
	struct buf b = BUF_INIT;
	size_t n;
	char *p;

	OK(buf_put(&b, "a\0b", 3));
	OK(buf_printf(&b, "%d", 42));
	EQ(b.n, 5);
	assert_memory_equal(b.p, "a\0b42", 6);
	buf_shift(&b, 3);
	assert_string_equal(b.p, "42");
	EQ(buf_reserve(&b, SIZE_MAX / 2), -ENOMEM);
	assert_false(buf_ok(&b));
	b.failed = false;
	p = buf_take(&b, &n);
	EQ(n, 2);
	assert_string_equal(p, "42");
	free(p);
	p = buf_take(&b, &n);
	assert_string_equal(p, "");
	free(p);
}

static void same(const char *in, enum jx_style style, const char *want)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	JX_OWNED json_t *v = NULL;

	OK(jx_load(in, strlen(in), &v, NULL));
	OK(jx_put(&b, v, style));
	assert_string_equal(b.p, want);
}

TEST(numbers_keep_their_spelling)
{
	same("[123456789012345678901234567890, -0, 1e2, 1.10]", JX_COMPACT,
	     "[123456789012345678901234567890,-0,1e2,1.10]");
	/* what CPython 3.11 prints for json.dumps(json.loads(x)) */
	same("[123456789012345678901234567890, -0, -0.0, 1e2, 1.10, 1e16, 1.5e-5, 0.0001]",
	     JX_PYTHON,
	     "[123456789012345678901234567890, 0, -0.0, 100.0, 1.1, 1e+16, 1.5e-05, 0.0001]");
	same("[1e999, -1e999, 5e-324, 1e22, 123456789.125, 0.1]", JX_PYTHON,
	     "[Infinity, -Infinity, 5e-324, 1e+22, 123456789.125, 0.1]");
}

TEST(strings_are_never_taken_for_numbers)
{
	same("{\"a\":\"\\u00011\",\"b\":\"\\u0001\\u0001\",\"c\":1,\"\\u0001\":\"\\u0001\"}",
	     JX_COMPACT,
	     "{\"a\":\"\\u00011\",\"b\":\"\\u0001\\u0001\",\"c\":1,\"\\u0001\":\"\\u0001\"}");
	same("[\"1\", \"\", \"\\u0000\\\\\\\"\", \"\\u00e9\"]", JX_PYTHON,
	     "[\"1\", \"\", \"\\u0000\\\\\\\"\", \"\xc3\xa9\"]");
}

TEST(what_is_not_json_is_refused)
{
	static const char *const bad[] = {
		"", "[1", "01", "1.", "-", "+1", "[1e]", "1e+", ".5", "\"\\ud800\"", "\"\xff\"",
		"{\"a\":1", "nul", "[1,]", "\"abc", "{1:2}", "1 2", "\"\\", "[-]", "0x10", "1_0",
	};
	json_t *v = NULL;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		EQ(jx_load(bad[i], strlen(bad[i]), &v, NULL), -EINVAL);
		assert_null(v);
	}
}

TEST(numbers_are_read_only_when_they_fit)
{
	const char *text = "[9223372036854775807, 9223372036854775808, 1e400, 2.5, \"7\"]";
	JX_OWNED json_t *v = NULL;
	double x;
	int64_t i;

	OK(jx_load(text, strlen(text), &v, NULL));
	OK(jx_int64(json_array_get(v, 0), &i));
	assert_true(i == INT64_MAX);
	EQ(jx_int64(json_array_get(v, 1), &i), -ERANGE);
	EQ(jx_double(json_array_get(v, 2), &x), -ERANGE);
	EQ(jx_int64(json_array_get(v, 3), &i), -EINVAL);
	EQ(jx_double(json_array_get(v, 4), &x), -EINVAL);
}

TEST(utf8_follows_the_standard)
{
	bool more;
	uint32_t cp;
	char out[4];

	EQ(utf8_len("\xed\xa0\x80", 3), 0);	/* surrogate */
	EQ(utf8_len("\xc0\x80", 2), 0);		/* overlong */
	EQ(utf8_len("\xf4\x90\x80\x80", 4), 0);	/* above 10FFFF */
	EQ(utf8_get("\xf0\x9f\x98\x80", 4, &cp), 4);
	EQ(cp, 0x1f600);
	EQ(utf8_put(cp, out), 4);
	assert_memory_equal(out, "\xf0\x9f\x98\x80", 4);
	EQ(utf8_put(0x20ac, out), 3);
	assert_memory_equal(out, "\xe2\x82\xac", 3);
	EQ(utf8_put(0xe9, out), 2);
	assert_memory_equal(out, "\xc3\xa9", 2);
	EQ(utf8_bad_prefix("\xf0\x9f\x28", 3, &more), 2);
	assert_false(more);
	EQ(utf8_bad_prefix("\xf0\x9f", 2, &more), 2);
	assert_true(more);
	EQ(utf8_bad_prefix("\x80", 1, &more), 1);
	assert_false(more);
}

TEST(samples_are_what_each_form_of_exposition_wants)
{
	static const struct expo_row count = { "a_things_total", EXPO_COUNTER, "things" };
	static const struct expo_row info = { "a_build_info", EXPO_INFO, "build" };
	struct buf b = BUF_INIT;
	struct expo x = { .out = &b, .open = true, .labels = { "box", "b1" } };

	expo_begin(&x, &count);
	/* 2^53 - 1, to the last digit */
	expo_put(&x, 9007199254740991.0, "name", "a\"b\\c\nd", NULL);
	expo_begin(&x, &info);
	expo_put(&x, 1, NULL);
	EQ(expo_end(&x), 0);
	assert_string_equal(
		b.p, "# HELP a_things things\n# TYPE a_things counter\n"
		     "a_things_total{box=\"b1\",name=\"a\\\"b\\\\c\\nd\"} 9007199254740991\n"
		     "# HELP a_build build\n# TYPE a_build info\na_build_info{box=\"b1\"} 1\n"
		     "# EOF\n");
	buf_clear(&b);
	x = (struct expo){ .out = &b };
	expo_begin(&x, &count);
	expo_put(&x, 0.5, NULL);
	expo_begin(&x, &info);
	EQ(expo_end(&x), 0);
	assert_string_equal(
		b.p, "# HELP a_things_total things\n# TYPE a_things_total counter\n"
		     "a_things_total 0.5\n# HELP a_build_info build\n# TYPE a_build_info gauge\n");
	assert_true(expo_wants_open("text/html, application/openmetrics-text; version=1.0.0"));
	assert_false(expo_wants_open("text/plain"));
	assert_false(expo_wants_open(NULL));
	buf_done(&b);
}

/* ---- file ---------------------------------------------------------------------------- */

static char dir[] = "/tmp/lib_test.XXXXXX";

static int enter_folder(void **state)
{
	(void)state;
	return mkdtemp(dir) && chmod(dir, 0755) == 0 && chdir(dir) == 0 ? 0 : -1;
}

static int remove_folder(void **state)
{
	static const char *const names[] = { "file",   "empty", "fifo",	"socket",
					     "link", "dangling", "loop" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		(void)unlink(names[i]);
	(void)rmdir("folder");
	return chdir("/") == 0 ? rmdir(dir) : -1;
}

static void write_text(const char *name, const char *text)
{
	FILE *f = fopen(name, "we");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void make_socket(const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	CLEANUP(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(a.sun_path, name);
	OK(bind(fd, (struct sockaddr *)&a, sizeof(a)));
}

static void refused(const char *name, int code, const char *text)
{
	char *p = NULL, head[4];
	size_t n = 77;
	uint64_t bytes = 77;
	struct err e = { 0 };

	EQ(file_read(name, 1000, &p, &n, &e), code);
	assert_string_equal(e.text, text);
	EQ(file_open(name, 0, &bytes, &e), code);
	assert_string_equal(e.text, text);
	EQ(file_read_head(name, head, sizeof(head), &e), code);
	assert_string_equal(e.text, text);
	EQ(file_open(name, O_DIRECT, &bytes, NULL) < 0, 1);
	assert_null(p);
	EQ(n, 77);
	EQ(bytes, 77);
}

/* A FIFO that nobody writes to: open() of fopen() waited for ever. */
TEST(what_is_no_regular_file_is_refused_at_once)
{
	OK(mkfifo("fifo", 0600));
	OK(mkdir("folder", 0700));
	OK(symlink("fifo", "link"));
	make_socket("socket");
	refused("fifo", -EINVAL, "fifo: not a regular file");
	refused("link", -EINVAL, "link: not a regular file");
	refused("folder", -EINVAL, "folder: not a regular file");
	refused("socket", -EINVAL, "socket: not a regular file");
	refused("/dev/null", -EINVAL, "/dev/null: not a regular file");
	unlink("link");
}

TEST(a_file_that_cannot_be_had_is_told_by_its_name)
{
	uid_t uid = geteuid();

	OK(symlink("nowhere", "dangling"));
	OK(symlink("loop", "loop"));
	refused("none", -ENOENT, "none: No such file or directory");
	refused("dangling", -ENOENT, "dangling: No such file or directory");
	refused("loop", -ELOOP, "loop: Too many levels of symbolic links");
	write_text("file", "x");
	OK(chmod("file", 0));
	if (uid == 0)			/* whom no mode stops */
		OK(seteuid(65534));
	refused("file", -EACCES, "file: Permission denied");
	OK(seteuid(uid));
	unlink("file");
}

static void holds(const char *name, size_t max, const char *text)
{
	char *p = NULL;
	size_t n = 0;

	OK(file_read(name, max, &p, &n, NULL));
	EQ(n, strlen(text));
	assert_string_equal(p, text);
	free(p);
}

TEST(a_file_is_read_up_to_its_limit_and_no_further)
{
	char *p = NULL;
	struct err e;

	write_text("file", "hello");
	write_text("empty", "");
	OK(symlink("file", "link"));
	holds("file", 5, "hello");
	holds("file", 1 << 20, "hello");
	holds("link", 5, "hello");
	holds("empty", 5, "");
	holds("empty", 0, "");
	EQ(file_read("file", 4, &p, NULL, &e), -EFBIG);
	assert_string_equal(e.text, "file: larger than 4 bytes");
	assert_null(p);
	/* by its size alone: nobody has so much memory */
	OK(truncate("file", (off_t)1 << 40));
	EQ(file_read("file", 1000, &p, NULL, &e), -EFBIG);
	unlink("link");
}

/* procfs says 0, and a file that somebody appends to says less than it will hold. */
TEST(a_size_is_not_believed)
{
	char *whole = NULL, *p = NULL, head[8];
	size_t n = 0;
	uint64_t bytes = 77;
	struct err e;

	close(file_open("/proc/self/smaps", 0, &bytes, NULL));
	EQ(bytes, 0);
	OK(file_read("/proc/self/smaps", 16 << 20, &whole, &n, NULL));
	assert_true(n > 8192);		/* of several turns */
	EQ(strlen(whole), n);
	EQ(file_read("/proc/self/smaps", 1000, &p, NULL, &e), -EFBIG);
	EQ(file_read("/proc/self/smaps", 5000, &p, NULL, &e), -EFBIG);
	assert_null(p);
	EQ(file_read_head("/proc/self/smaps", head, sizeof(head), NULL), 8);
	assert_memory_equal(head, whole, 8);
	EQ(file_read("/proc/self/mem", 1000, &p, NULL, &e), -EIO);
	assert_string_equal(e.text, "/proc/self/mem: Input/output error");
	free(whole);
}

TEST(the_beginning_of_a_file_may_be_all_of_it)
{
	char head[8] = "xxxxxxx";

	write_text("file", "hello");
	EQ(file_read_head("file", head, 3, NULL), 3);
	assert_string_equal(head, "helxxxx");
	EQ(file_read_head("file", head, sizeof(head), NULL), 5);
	assert_memory_equal(head, "helloxx", 8);
}

/* io_uring answers EAGAIN to reads of a descriptor that may not wait. */
TEST(an_opened_file_may_wait_and_ends_at_exec)
{
	uint64_t bytes = 0;
	CLEANUP(closep) int fd = -1;

	write_text("file", "hello");
	fd = file_open("file", O_NOATIME, &bytes, NULL);
	assert_true(fd >= 0);
	EQ(bytes, 5);
	EQ(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE | O_NOATIME), O_RDONLY | O_NOATIME);
	EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

static int leased = -1;

static void give_lease_up(int signal)
{
	(void)signal;
	(void)fcntl(leased, F_SETLEASE, F_UNLCK);
}

/* As a file server may have one: not to wait at all would be "Resource temporarily unavailable". */
TEST(a_file_that_somebody_leased_is_waited_for)
{
	const struct sigaction give = { .sa_handler = give_lease_up, .sa_flags = SA_RESTART };
	struct sigaction was;

	write_text("file", "hello");
	leased = open("file", O_RDWR | O_CLOEXEC);
	assert_true(leased >= 0);
	sigaction(SIGIO, &give, &was);
	if (fcntl(leased, F_SETLEASE, F_WRLCK) < 0) {	/* some file systems have none */
		close(leased);
		skip();
	}
	holds("file", 5, "hello");
	EQ(fcntl(leased, F_GETLEASE), F_UNLCK);
	close(leased);
	sigaction(SIGIO, &was, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cut_error_text_looks_cut),
		cmocka_unit_test(buf_keeps_its_bytes_and_its_terminator),
		cmocka_unit_test(numbers_keep_their_spelling),
		cmocka_unit_test(strings_are_never_taken_for_numbers),
		cmocka_unit_test(what_is_not_json_is_refused),
		cmocka_unit_test(numbers_are_read_only_when_they_fit),
		cmocka_unit_test(utf8_follows_the_standard),
		cmocka_unit_test(samples_are_what_each_form_of_exposition_wants),
		cmocka_unit_test(what_is_no_regular_file_is_refused_at_once),
		cmocka_unit_test(a_file_that_cannot_be_had_is_told_by_its_name),
		cmocka_unit_test(a_file_is_read_up_to_its_limit_and_no_further),
		cmocka_unit_test(a_size_is_not_believed),
		cmocka_unit_test(the_beginning_of_a_file_may_be_all_of_it),
		cmocka_unit_test(an_opened_file_may_wait_and_ends_at_exec),
		cmocka_unit_test(a_file_that_somebody_leased_is_waited_for),
	};

	return cmocka_run_group_tests(tests, enter_folder, remove_folder);
}
