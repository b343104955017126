/* conf_test.c - claims about configuration files. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/conf.h"
#include "lib/own.h"

static const struct conf_section sections[] = {
	{ "a", false, "First" }, { "b", true, "Many" }, { NULL, false, NULL },
};
static const struct conf_key keys[] = {
	{ "a", "n", CONF_INT, 1, 10, NULL, "3", false, "a number" },
	{ "a", "t", CONF_TEXT, 0, 0, NULL, NULL, true, "a text" },
	{ "a", "c", CONF_CHOICE, 0, 0, "x|yy", "x", true, "a choice" },
	{ "b", "on", CONF_BOOL, 0, 0, NULL, "no", true, "a switch" },
	{ .key = NULL },
};
static const struct conf_table table = { sections, keys };

static struct conf *load(const char *text)
{
	struct conf *c = NULL;
	struct err e;

	if (conf_load_text(&table, "f", text, strlen(text), &c, &e) < 0)
		fail_msg("%s", e.text);
	return c;
}

static void refused(const char *text, const char *message)
{
	struct conf *c = NULL;
	struct err e;

	assert_true(conf_load_text(&table, "f", text, strlen(text), &c, &e) < 0);
	assert_null(c);
	assert_string_equal(e.text, message);
}

TEST(what_is_not_set_has_its_default)
{
	struct conf *c = load("");

	EQ(conf_int(c, "a", NULL, "n"), 3);
	assert_null(conf_text(c, "a", NULL, "t"));
	assert_string_equal(conf_text(c, "a", NULL, "c"), "x");
	assert_null(conf_name(c, "b", 0));
	conf_free(c);
}

TEST(sections_values_and_names_are_read)
{
	struct conf *c = load("# c\n[a]\nn = 7 ; why\nt = one\n  two\nc=yy\n[b first]\non = TRUE\n"
			      "[b second]\n");

	EQ(conf_int(c, "a", NULL, "n"), 7);
	assert_string_equal(conf_text(c, "a", NULL, "t"), "one two");
	assert_string_equal(conf_text(c, "a", NULL, "c"), "yy");
	assert_string_equal(conf_name(c, "b", 0), "first");
	assert_string_equal(conf_name(c, "b", 1), "second");
	assert_null(conf_name(c, "b", 2));
	assert_true(conf_bool(c, "b", "first", "on"));
	assert_false(conf_bool(c, "b", "second", "on"));
	conf_free(c);
}

TEST(what_is_wrong_is_said_with_file_and_line)
{
	char text[400];

	refused("[a]\nx = 1\n", "f:2: unknown key 'x' in [a]");
	refused("\n[z]\n", "f:2: unknown section [z]");
	refused("[b]\n", "f:1: unknown section [b]");
	refused("[a]\nn = 11\n", "f:2: n: 11 is not in 1..10");
	refused("[a]\nn = 1x\n", "f:2: n: '1x' is not a whole number");
	refused("[a]\nc = z\n", "f:2: c: 'z' is not one of x|yy");
	refused("[b q]\non = maybe\n", "f:2: on: 'maybe' is neither yes nor no");
	refused("n = 3\n", "f:1: unknown section []");
	refused("[a]\nn = 1\nn = 2\n", "f:3: n: again in [a], line 2 has it already");
	refused("[b q]\non = no\n[a]\nt = x\n y\n[b  q]\non = no\n",
		"f:7: on: again in [b  q], line 2 has it already");
	refused("[a]\nt = x\n y\nt = x\n", "f:4: t: again in [a], line 2 has it already");
	refused("[a]\nn\n", "f:2: neither a section, a key with a value nor a comment");
	snprintf(text, sizeof(text), "[a]\nt = %0300d\n", 0);
	refused(text, "f:2: line too long (304 bytes), or a NUL in it");
	snprintf(text, sizeof(text), "[b %060d]\n", 0);
	refused(text, "f:1: a section name of 62 bytes, the limit is 49");
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

TEST(drop_ins_come_after_in_order)
{
	char dir[] = "/tmp/conf-test-XXXXXX", cmd[128];
	char main_file[64], p[96];
	struct conf *c = NULL;
	struct err e;

	assert_non_null(mkdtemp(dir));
	snprintf(main_file, sizeof(main_file), "%s/x.conf", dir);
	write_file(main_file, "[a]\nn = 1\nt = base\n");
	snprintf(p, sizeof(p), "%s.d", main_file);
	OK(mkdir(p, 0700));
	snprintf(p, sizeof(p), "%s.d/20.conf", main_file);
	write_file(p, "[a]\nn = 9\n");
	snprintf(p, sizeof(p), "%s.d/10.conf", main_file);
	write_file(p, "[a]\nn = 5\nt = ten\n");
	snprintf(p, sizeof(p), "%s.d/30.conf.bak", main_file);
	write_file(p, "[nonsense\n");
	OK(conf_load(&table, main_file, &c, &e));
	EQ(conf_int(c, "a", NULL, "n"), 9);
	assert_string_equal(conf_text(c, "a", NULL, "t"), "ten");
	conf_free(c);
	snprintf(p, sizeof(p), "%s.d/40.conf", main_file);
	write_file(p, "[a]\nq = 5\n");
	assert_true(conf_load(&table, main_file, &c, &e) < 0);
	assert_non_null(strstr(e.text, "x.conf.d/40.conf:2: unknown key 'q'"));
	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	OK(system(cmd));
}

TEST(the_command_line_wins_and_is_checked)
{
	struct conf *c = load("[a]\nn = 1\n");
	struct err e;

	OK(conf_override(c, "a.n=4", &e));
	OK(conf_override(c, "b q.on=yes", &e));
	EQ(conf_int(c, "a", NULL, "n"), 4);
	assert_true(conf_bool(c, "b", "q", "on"));
	assert_true(conf_override(c, "a.n=40", &e) < 0);
	assert_true(conf_override(c, "a.n", &e) < 0);
	assert_true(conf_override(c, "n=4", &e) < 0);
	assert_true(conf_override(c, "a.zz=4", &e) < 0);
	EQ(conf_int(c, "a", NULL, "n"), 4);
	conf_free(c);
}

TEST(changes_that_need_a_restart_are_named_once)
{
	struct conf *was = load("[a]\nn = 1\nt = q\n"), *now = load("[a]\nn = 2\nc = yy\n");
	CLEANUP(buf_donep) struct buf b = BUF_INIT;

	OK(conf_needs_restart(was, now, &b));
	assert_string_equal(b.p, "a.n");
	conf_free(was);
	conf_free(now);
}

/* Each commented default of the sample, when switched on, is a valid file. */
TEST(the_sample_is_a_valid_file)
{
	CLEANUP(buf_donep) struct buf sample = BUF_INIT;
	struct conf *c;

	OK(conf_put_sample(&table, &sample));
	for (size_t i = 0; i + 1 < sample.n; i++)
		if (sample.p[i] == '#' && sample.p[i + 1] != ' ')
			sample.p[i] = ' ';
	for (char *p; (p = strstr(sample.p, "[b NAME]"));)
		memcpy(p, "[b name]", 8);
	for (char *p = sample.p; (p = strstr(p, "\n "));)
		memmove(p + 1, p + 2, strlen(p + 2) + 1);
	c = load(sample.p);
	EQ(conf_int(c, "a", NULL, "n"), 3);
	conf_free(c);
}

struct seen {
	struct buf text;
};

static void see(void *arg, const struct conf_key *k, const char *name, const char *was,
		const char *now)
{
	struct seen *s = arg;

	buf_printf(&s->text, "%s%s%s.%s %s>%s;", k->section, name ? " " : "", name ? name : "",
		   k->key, was ? was : "-", now ? now : "-");
}

TEST(a_difference_is_seen_once_whichever_side_it_is_on)
{
	struct conf *a = load("[a]\nn = 8\nt = x\n[b old]\non = yes\n");
	struct conf *b = load("[a]\nc = yy\nt = x\n[b new]\non = yes\n[b same]\non = no\n");
	struct seen s = { BUF_INIT };

	conf_diff(a, b, see, &s);
	assert_string_equal(s.text.p, "a.n 8>3;b old.on yes>no;a.c x>yy;b new.on no>yes;");
	buf_clear(&s.text);
	conf_diff(a, a, see, &s);
	EQ(s.text.n, 0);
	buf_done(&s.text);
	conf_free(a);
	conf_free(b);
}

TEST(each_value_is_seen_with_its_default)
{
	struct conf *a = load("[a]\nn = 8\n[b one]\n");
	struct seen s = { BUF_INIT };

	conf_each(a, see, &s);
	assert_string_equal(s.text.p, "a.n 3>8;a.t ->-;a.c x>x;b one.on no>no;");
	buf_done(&s.text);
	conf_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_set_has_its_default),
		cmocka_unit_test(sections_values_and_names_are_read),
		cmocka_unit_test(what_is_wrong_is_said_with_file_and_line),
		cmocka_unit_test(drop_ins_come_after_in_order),
		cmocka_unit_test(the_command_line_wins_and_is_checked),
		cmocka_unit_test(changes_that_need_a_restart_are_named_once),
		cmocka_unit_test(a_difference_is_seen_once_whichever_side_it_is_on),
		cmocka_unit_test(each_value_is_seen_with_its_default),
		cmocka_unit_test(the_sample_is_a_valid_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
