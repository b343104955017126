/* serve_args_test.c - claims about worker/serve_args.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/own.h"
#include "tests/unit/unit.h"
#include "worker/serve_args.h"

static int parse(struct serve_args *a, struct err *e, int n, const char *const *words)
{
	char *argv[32] = { (char *)(uintptr_t)"serve" };

	for (int i = 0; i < n; i++)
		argv[i + 1] = (char *)(uintptr_t)words[i];
	return serve_args_parse(n + 1, argv, a, e);
}

#define PARSE(a, e, ...)                                                              \
	parse(a, e, sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(const char *),   \
	      (const char *[]){ __VA_ARGS__ })

TEST(what_is_needed_and_nothing_else_takes_the_defaults)
{
	struct serve_args a;

	OK(PARSE(&a, NULL, "models/tiny", "--connect", "ipc:///x", "--alias", "tiny"));
	assert_string_equal(a.load.model_dir, "models/tiny");
	assert_string_equal(a.endpoint, "ipc:///x");
	assert_string_equal(a.load.device, "cpu");
	EQ(a.load.slots, 16);
	EQ(a.load.context, 0);
	EQ(a.drain_ms, 30000);
	assert_false(a.load.drafts);
	assert_true(!a.load.quantize && !a.load.kv);
}

TEST(values_come_after_a_blank_or_an_equals_sign)
{
	struct serve_args a;

	OK(PARSE(&a, NULL, "--kv-bytes=1.5G", "--slots", "4", "m", "--drafts", "--connect=c",
		 "--alias=a", "--name", "n", "--context=4096", "--quantize", "head+dense",
		 "--kv=fp8"));
	assert_string_equal(a.load.quantize, "head+dense");
	assert_string_equal(a.load.kv, "fp8");
	assert_true(a.load.kv_bytes == 3 * (UINT64_C(1) << 29));
	EQ(a.load.slots, 4);
	EQ(a.load.context, 4096);
	assert_true(a.load.drafts);
	assert_string_equal(a.name, "n");
}

TEST(wrong_usage_is_named)
{
	static const struct {
		const char *words[6];
		const char *said;
	} cases[] = {
		{ { "--connect", "c", "--alias", "a" }, "folder" },
		{ { "m", "--quantize", "experts" }, "head+dense" },
		{ { "m", "--kv", "int8" }, "fp8" },
		{ { "m", "--alias", "a" }, "connect" },
		{ { "m", "--connect", "c" }, "alias" },
		{ { "m", "--slots", "0" }, "slots" },
		{ { "m", "--slots", "-4" }, "slots" },
		{ { "m", "--slots", "4x" }, "slots" },
		{ { "m", "--slots" }, "slots" },
		{ { "m", "--kv-bytes", "many" }, "kv-bytes" },
		{ { "m", "--drafts=yes" }, "drafts" },
		{ { "m", "--speed", "9" }, "speed" },
		{ { "m", "n" }, "'n'" },
		{ { "m", "-x" }, "-x" },
		{ { "m", "--connect=c", "--alias=a", "--curve-public=k" }, "curve" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct serve_args a;
		struct err e = { 0 };
		int n = 0;

		while (n < 6 && cases[i].words[n])
			n++;
		EQ(parse(&a, &e, n, cases[i].words), -EINVAL);
		assert_non_null(strstr(e.text, cases[i].said));
	}
}

static void put_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

TEST(files_are_read_in_order_and_words_win)
{
	char dir[] = "/tmp/hearth-args-XXXXXX", box[64], model[64], drop[80], drop_in[96];
	struct serve_args a;
	struct err e = { 0 };

	assert_non_null(mkdtemp(dir));
	snprintf(box, sizeof(box), "%s/worker.conf", dir);
	snprintf(model, sizeof(model), "%s/m.conf", dir);
	snprintf(drop, sizeof(drop), "%s.d", model);
	snprintf(drop_in, sizeof(drop_in), "%s/10.conf", drop);
	put_file(box, "[worker]\nconnect = ipc:///bus\nslots = 3\ndrain_ms = 5\n");
	put_file(model, "[worker]\nmodel = /m\nslots = 4\nkv_bytes = 2M\ndrafts = yes\n");
	assert_int_equal(mkdir(drop, 0700), 0);
	put_file(drop_in, "[worker]\nslots = 5\n");
	OK(PARSE(&a, &e, "--config", box, "--drain-ms=7", "--config", model, "--alias", "m"));
	assert_string_equal(a.load.model_dir, "/m");
	assert_string_equal(a.endpoint, "ipc:///bus");
	EQ(a.load.slots, 5);
	EQ(a.drain_ms, 7);
	EQ(a.load.kv_bytes, 2 << 20);
	assert_true(a.load.drafts);
	serve_args_done(&a);
	OK(PARSE(&a, &e, "--config", model, "/other", "--alias", "m", "--connect=c"));
	assert_string_equal(a.load.model_dir, "/other");
	serve_args_done(&a);

	put_file(drop_in, "[worker]\nkv_bytes = much\n");
	EQ(PARSE(&a, &e, "--config", model, "--alias", "m", "--connect=c"), -EINVAL);
	assert_non_null(strstr(e.text, "kv-bytes"));
	put_file(drop_in, "[worker]\nhelp = yes\n");
	EQ(PARSE(&a, &e, "--config", model, "--alias", "m", "--connect=c"), -EINVAL);
	assert_non_null(strstr(e.text, "help"));
	unlink(drop_in);
	rmdir(drop);
	unlink(model);
	EQ(PARSE(&a, &e, "--config", model, "--alias", "m", "--connect=c"), -ENOENT);
	unlink(box);
	rmdir(dir);
}

TEST(help_needs_nothing_else_and_names_every_option)
{
	struct serve_args a;
	CLEANUP(freep) char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	OK(PARSE(&a, NULL, "--help"));
	assert_true(a.help);
	OK(PARSE(&a, NULL, "-h"));
	assert_true(a.help);
	serve_args_help(f);
	fclose(f);
	assert_non_null(strstr(text, "--kv-bytes"));
	assert_non_null(strstr(text, "--curve-secret-file"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_needed_and_nothing_else_takes_the_defaults),
		cmocka_unit_test(values_come_after_a_blank_or_an_equals_sign),
		cmocka_unit_test(wrong_usage_is_named),
		cmocka_unit_test(files_are_read_in_order_and_words_win),
		cmocka_unit_test(help_needs_nothing_else_and_names_every_option),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
