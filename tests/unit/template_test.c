/* template_test.c - claims about worker/text/template.h.  The big comparison with Jinja2 is
 * tests/golden/compare_template.py. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/own.h"
#include "worker/text/template.h"

static void template_freep(struct template **t)
{
	template_free(*t);
}

static json_t *load(const char *text)
{
	struct err e = { 0 };
	json_t *v = NULL;

	if (jx_load(text, strlen(text), &v, &e) < 0)
		fail_msg("%s: %s", text, e.text);
	return v;
}

/* Renders; the code. */
static int render(const char *source, const char *request, const struct template_limits *limits,
		  struct rendered *out, struct err *e)
{
	CLEANUP(template_freep) struct template *t = NULL;
	JX_OWNED json_t *v = load(request);
	int r = template_parse(source, strlen(source), &t, e);

	return r < 0 ? r : template_render(t, v, limits, out, e);
}

static void gives(const char *source, const char *request, const char *want)
{
	CLEANUP(rendered_done) struct rendered out = RENDERED_INIT;
	struct err e = { 0 };

	if (render(source, request, NULL, &out, &e) < 0)
		fail_msg("%s: %s", source, e.text);
	assert_string_equal(out.text.p ? out.text.p : "", want);
}

static void fails(const char *source, const char *request, int code, const char *message)
{
	CLEANUP(rendered_done) struct rendered out = RENDERED_INIT;
	struct err e = { 0 };

	EQ(render(source, request, NULL, &out, &e), code);
	if (message)
		assert_string_equal(e.text, message);
	assert_true(e.text[0] != '\0');
}

#define KW(members) "{\"messages\":[],\"chat_template_kwargs\":{" members "}}"

/* The text with what came from the request between brackets. */
static void origin(const char *source, const char *want)
{
	static const char request[] =
		KW("\"d\":\"Ab c\",\"n\":12,\"big\":123456789012345678901,"
		   "\"o\":{\"k\":[1,\"v\"]},\"l\":[\"x\",\"y\"],\"two\":\"a\\nb\"");
	CLEANUP(rendered_done) struct rendered out = RENDERED_INIT;
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	struct err e = { 0 };
	size_t at = 0;

	if (render(source, request, NULL, &out, &e) < 0)
		fail_msg("%s: %s", source, e.text);
	for (size_t i = 0; i < out.n_data; i++) {
		buf_put(&b, out.text.p + at, out.data[i].from - at);
		buf_puts(&b, "[");
		buf_put(&b, out.text.p + out.data[i].from, out.data[i].to - out.data[i].from);
		buf_puts(&b, "]");
		at = out.data[i].to;
	}
	buf_put(&b, out.text.p ? out.text.p + at : "", out.text.n - at);
	assert_string_equal(b.p, want);
}

TEST(each_byte_knows_whether_it_came_from_the_request)
{
	origin("a{{ d }}b", "a[Ab c]b");
	origin("{{ d + '|' + d }}{{ d ~ 1 ~ n }}", "[Ab c]|[Ab cAb c]1[12]");
	origin("{{ ('  ' + d + ' x ')|trim }}", "[Ab c] x");
	origin("{{ d|upper }}{{ 'q'|upper }}{{ d|title }}", "[AB C]Q[Ab C]");
	origin("{{ ('<' + d + '>')[::-1] }}", ">[c bA]<");
	origin("{{ ('<' + d + '>')[1:3] }}{{ ('<' + d)[0] }}", "[Ab]<");
	origin("{{ d|replace('b', '_') }}{{ 'xbx'|replace('b', d) }}", "[A]_[ c]x[Ab c]x");
	origin("{{ d.split(' ')|join('+') }}{{ l|join(', ') }}", "[Ab]+[cx], [y]");
	origin("{{ '%s=%d' % (d, n) }}{{ '{}!'.format(d) }}", "[Ab c]=[12Ab c]!");
	origin("{{ n }} {{ n + 1 }} {{ big }} {{ 5 }}", "[12] [13] [123456789012345678901] 5");
	origin("{{ '12'|int }}{{ (d|length) }}{{ ('3' ~ n)|int }}", "124[312]");
	origin("{{ o|tojson }}", "{[\"k\"]: [[1], [\"v\"]]}");
	origin("{{ o }}", "{'[k]': [[1], '[v]']}");
	origin("{{ {'t': d}|tojson }}", "{\"t\": [\"Ab c\"]}");
	origin("{{ two|indent(2) }}{{ two.splitlines()|last }}", "[a]\n  [bb]");
	origin("{% macro m(x) %}({{ x }}){% endmacro %}{{ m(d) }}{{ m(d)|lower }}",
	       "([Ab c])([ab c])");
	origin("{% set s %}<{{ d }}>{% endset %}{{ s }}{% filter upper %}q{{ d }}{% endfilter %}",
	       "<[Ab c]>Q[AB C]");
	origin("{{ '<&'|e }}{{ (d ~ '<')|e }}", "&lt;&amp;[Ab c]&lt;");
	origin("{% for c in d %}{{ c }}.{% endfor %}", "[A].[b].[ ].[c].");
	origin("{{ d if missing else 'no' }}{{ missing|default(d) }}", "no[Ab c]");
	origin("nothing", "nothing");
}

TEST(numbers_print_as_python_reads_them)
{
	static const char request[] = KW("\"v\":[123456789012345678901234567890,-0,1e2,1.10,"
					 "-0.0,1e-7,1e22,5e-324,1E400]");

	gives("{{ v|tojson }}", request,
	      "[123456789012345678901234567890, 0, 100.0, 1.1, -0.0, 1e-07, 1e+22, 5e-324, Infinity]");
	gives("{% for x in v %}{{ x }} {% endfor %}", request,
	      "123456789012345678901234567890 0 100.0 1.1 -0.0 1e-07 1e+22 5e-324 inf ");
	gives("{{ v[0] == 123456789012345678901234567890 }}{{ v[0] > 5 }}{{ v[0] is odd }}",
	      request, "TrueTrueFalse");
	fails("{{ v[0] + 1 }}", request, -EINVAL,
	      "integers beyond 64 bits cannot be computed with");
	fails("{{ 9223372036854775807 * 2 }}", request, -EINVAL, NULL);
}

TEST(nul_and_unicode_white_space_are_kept_and_trimmed_as_python_does)
{
	CLEANUP(rendered_done) struct rendered out = RENDERED_INIT;
	struct err e = { 0 };

	OK(render("{{ s|trim }}|{{ s|tojson }}",
		  KW("\"s\":\"\\u001c\\u00a0\\u3000a\\u0000b\\u200b\\u0085\""), NULL, &out, &e));
	EQ(out.text.n,
	   strlen("a0b|\"\"") + 3 + strlen("\\u001c") + 2 + 3 + strlen("a\\u0000b") + 3 + 2);
	assert_memory_equal(out.text.p, "a\0b\xe2\x80\x8b|\"", 8);
}

TEST(an_error_carries_the_templates_own_words)
{
	static const char any[] = KW("\"d\":{\"a\":1}");

	fails("{{ raise_exception('No <|im_start|> \"here\"') }}", any, -EINVAL,
	      "No <|im_start|> \"here\"");
	fails("{{ d.x.y }}", any, -EINVAL, "'dict object' has no attribute 'x'");
	fails("{{ nope.y }}", any, -EINVAL, "'nope' is undefined");
	fails("{{ 'a' + 1 }}", any, -EINVAL, "can only concatenate str (not \"int\") to str");
	fails("a\n\n{{ d|nope }}", any, -EINVAL, "No filter named 'nope'. (line 3)");
	fails("{% if d %}\n{{ 1 }", any, -EINVAL, NULL);
	fails("{% for x in d %}", any, -EINVAL, NULL);
	fails("{{ \"\xff\" }}", any, -EINVAL, "the template is not UTF-8");
	fails("x", "{\"chat_template_kwargs\":{\"messages\":1}}", -EINVAL,
	      "chat_template_kwargs: may not set 'messages'");
	fails("x", "[]", -EINVAL, "the request is not an object");
	fails("x", "{\"chat_template_kwargs\":5}", -EINVAL,
	      "chat_template_kwargs: must be an object");
}

TEST(absent_members_are_as_in_apply_chat_template)
{
	gives("{{ tools }}{{ documents }}{{ add_generation_prompt }}{{ messages is defined }}",
	      "{}", "NoneNoneTrueFalse");
	gives("{{ tools }}{{ add_generation_prompt }}",
	      "{\"tools\":null,\"add_generation_prompt\":false}", "NoneFalse");
}

TEST(a_template_that_does_not_end_is_stopped)
{
	static const char loop[] = "{% for a in range(9999) %}{% for b in range(9999) %}{{ '' }}"
				   "{% endfor %}{% endfor %}";
	static const char grow[] = "{% set ns = namespace(s='x') %}{% for a in range(200) %}"
				   "{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}";
	static const char list[] = "{% set ns = namespace(s=[1]) %}{% for a in range(200) %}"
				   "{% set ns.s = ns.s + ns.s %}{% endfor %}";
	static const char deep[] = "{% set ns = namespace(s=[]) %}{% for a in range(90000) %}"
				   "{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}";
	static const char self[] = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";

	fails(loop, "{}", -E2BIG, "the template takes more than 50000000 steps");
	fails(grow, "{}", -E2BIG, NULL);
	fails(list, "{}", -E2BIG, NULL);
	fails(deep, "{}", -E2BIG, NULL);
	fails(self, "{}", -E2BIG, "the template nests more than 1200 calls deep");
	fails("{{ 'x' * 999999999999 }}", "{}", -E2BIG, NULL);
	fails("{{ 'x'.center(999999999999) }}", "{}", -E2BIG, NULL);
	fails("{{ 'x'|indent(99999999999) }}", "{}", -E2BIG, NULL);
}

TEST(limits_are_the_callers)
{
	const struct template_limits few_steps = { .steps = 100 }, small = { .output_bytes = 10 };
	const struct template_limits little = { .memory_bytes = 1000000 };
	CLEANUP(rendered_done) struct rendered out = RENDERED_INIT;
	struct err e = { 0 };

	EQ(render("{% for i in range(99) %}{{ i }}{% endfor %}", "{}", &few_steps, &out, &e),
	   -E2BIG);
	EQ(render("{{ 'x' * 11 }}", "{}", &small, &out, &e), -E2BIG);
	assert_string_equal(e.text, "the template writes more than 10 bytes");
	OK(render("{{ 'x' * 10 }}", "{}", &small, &out, &e));
	EQ(render("{% for i in range(99999) %}{{ [i] }}{% endfor %}", "{}", &little, &out, &e),
	   -E2BIG);
}

TEST(what_nests_too_deeply_does_not_parse)
{
	static const char *const open[] = { "{{ (", "{{ [", "{{ {1:", "{{ not ", "{{ -", "{{ a[",
					    "{{ a(", "{% if a %}", "{% for a in b %}" };
	static const char *const more[] = { "(", "[", "{1:", "not ", "-", "a[", "a(", "{% if a %}",
					    "{% for a in b %}" };

	for (size_t i = 0; i < sizeof(open) / sizeof(*open); i++) {
		CLEANUP(buf_donep) struct buf b = BUF_INIT;

		buf_puts(&b, open[i]);
		for (int k = 0; k < 100000; k++)
			buf_puts(&b, more[i]);
		fails(b.p, "{}", -EINVAL, NULL);
	}
	for (int pass = 0; pass < 2; pass++) {	/* left-deep: no recursion of the parser */
		CLEANUP(buf_donep) struct buf b = BUF_INIT;

		buf_puts(&b, "{{ a");
		for (int k = 0; k < 100000; k++)
			buf_puts(&b, pass ? "+a" : ".a");
		buf_puts(&b, " }}");
		fails(b.p, "{}", -EINVAL, NULL);
	}
}

TEST(a_long_sum_in_a_loop_is_not_quadratic)
{
	gives("{% set ns = namespace(s='') %}{% for a in range(90000) %}"
	      "{% set ns.s = ns.s + 'some text of forty bytes, as it may be. ' %}{% endfor %}"
	      "{{ ns.s|length }}", "{}", "3600000");
}

/* ---- a model's folder ---- */

struct folder {
	char path[64];
};

static void put_file(const struct folder *f, const char *name, const char *text)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", f->path, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void folder_done(struct folder *f)
{
	static const char *const names[] = { "chat_template.jinja", "tokenizer_config.json" };
	char path[128];

	for (size_t i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", f->path, names[i]);
		unlink(path);
	}
	rmdir(f->path);
}

static void folder_gives(const struct folder *f, const char *want)
{
	CLEANUP(template_freep) struct template *t = NULL;
	CLEANUP(rendered_done) struct rendered out = RENDERED_INIT;
	JX_OWNED json_t *request = load("{}");
	struct err e = { 0 };

	if (template_open(f->path, &t, &e) < 0)
		fail_msg("%s", e.text);
	OK(template_render(t, request, NULL, &out, &e));
	assert_string_equal(out.text.p, want);
	EQ(out.n_data, 0);
}

TEST(a_folders_template_is_found_where_models_keep_it)
{
	CLEANUP(folder_done) struct folder f = { "/tmp/template_test.XXXXXX" };
	CLEANUP(template_freep) struct template *t = NULL;
	struct err e = { 0 };

	assert_non_null(mkdtemp(f.path));
	EQ(template_open(f.path, &t, &e), -ENOENT);
	put_file(
		&f, "tokenizer_config.json",
		"{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"},"
		"\"chat_template\":\"a{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}\"}");
	folder_gives(&f, "a<s></s>False");
	put_file(&f, "tokenizer_config.json",
		 "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":"
		 "\"t\"},{\"name\":\"default\",\"template\":\"d\"}]}");
	folder_gives(&f, "d");
	put_file(&f, "chat_template.jinja", "file\n");
	folder_gives(&f, "file");
	put_file(&f, "chat_template.jinja", "{{");
	EQ(template_open(f.path, &t, &e), -EINVAL);
	put_file(&f, "tokenizer_config.json", "{");
	EQ(template_open(f.path, &t, &e), -EINVAL);
	assert_null(t);
}

/* ---- the official template ---- */

/* NULL where it is not there. */
static struct template *official(void)
{
	const char *top = getenv("top_srcdir"), *shared = getenv("HEARTH_SHARED");
	struct template *t = NULL;
	char path[512];

	snprintf(path, sizeof(path), "%s/../shared/data/qwen3.6", top ? top : ".");
	if (shared)
		snprintf(path, sizeof(path), "%s/data/qwen3.6", shared);
	if (access(path, R_OK) != 0)
		return NULL;
	OK(template_open(path, &t, NULL));
	return t;
}

/* By coreutils: no library of ours has it. */
static void sha256(const struct buf *b, char ret[65])
{
	char path[] = "/tmp/template_test.XXXXXX", command[96];
	int fd = mkstemp(path);
	FILE *pipe;

	assert_true(fd >= 0);
	EQ(write(fd, b->p, b->n), (ssize_t)b->n);
	close(fd);
	snprintf(command, sizeof(command), "sha256sum %s", path);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	EQ(fread(ret, 1, 64, pipe), 64);
	pclose(pipe);
	unlink(path);
	ret[64] = '\0';
}

#define TOOL                                                                                \
	"{\"type\": \"function\", \"function\": {\"name\": \"get_weather\", "               \
	"\"description\": \"Get weather\", \"parameters\": {\"type\": \"object\", "         \
	"\"properties\": {\"city\": {\"type\": \"string\"}, \"days\": {\"type\": "          \
	"\"integer\"}}, \"required\": [\"city\"]}}}"
#define THINK                                                                               \
	"{\"role\":\"system\",\"content\":\" Be brief. \"},"                                \
	"{\"role\":\"user\",\"content\":\"A\"},{\"role\":\"assistant\",\"content\":"        \
	"\"<think>\\nr1\\n</think>\\n\\nB\"},{\"role\":\"user\",\"content\":\"C\"}"
#define T                                                                                   \
	"{\"role\":\"user\",\"content\":\"Weather in Rom?\"},{\"role\":\"assistant\","      \
	"\"content\":\"Let me look.\",\"reasoning_content\":\"need tool\",\"tool_calls\":"  \
	"[{\"function\":{\"name\":\"get_weather\",\"arguments\":{\"city\":\"Rom\","         \
	"\"days\":2,\"deep\":{\"a\":[1,true,null]}}}},{\"function\":{\"name\":"             \
	"\"get_weather\",\"arguments\":{\"city\":\"K\xc3\xb6ln\"}}}]},"                     \
	"{\"role\":\"tool\",\"content\":\"sunny\"},{\"role\":\"tool\",\"content\":\"rain\"}"
#define HI "{\"role\":\"user\",\"content\":\"Hi\"}"

/* spec/qwen36.md 6.3a: made by Jinja2 in transformers' environment. */
static const struct {
	const char *request;
	size_t bytes;
	const char *hash;
} golden[] = {
	{ "{\"messages\":[" HI "]}", 60,
	  "7562ba8388193b82d95953831c2d4d61f85796a9ea065d8d3e3db7b30d9a9447" },
	{ "{\"messages\":[" HI "],\"chat_template_kwargs\":{\"enable_thinking\":false}}", 71,
	  "87b9f5b6243d88239331c78a91695eae31fdc67fcadd1bc07508791d9b1a03be" },
	{ "{\"messages\":[" THINK "]}", 161,
	  "110406027abd5ebacc2f084c0a84fde014dba6ac59c68864f1000d9ad7120f6c" },
	{ "{\"messages\":[" THINK "],\"chat_template_kwargs\":{\"preserve_thinking\":true}}", 182,
	  "ae2b25a9f9230a1340dd90f1fa4bbdbe066f8bf0a631218fb77b3b210ad432d0" },
	{ "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"What?\"},"
	  "{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}}]}]}",
	  106, "ee0694f1c3b44876ffd2261d9a6d9431d2554c97b9fc66c701025cc90d944734" },
	{ "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"}," HI "],\"tools\":[" TOOL "]}",
	  1197, "ae7bb131fce5e563a980168e0fc5235c805d12228e4f4f0fab905e27a96d3a94" },
	{ "{\"messages\":[" T "]}", 526,
	  "f2919a3316fdb4274af50ff63642baa9eceef342e5b9720609fd9bb63ff75eed" },
	{ "{\"messages\":[" T "],\"tools\":[" TOOL "]}", 1660,
	  "32eee248ae076d4c20270906f0c00cc0adaaa63d380476044aa46b60385a1e9d" },
};

TEST(the_official_template_gives_the_golden_renders)
{
	CLEANUP(template_freep) struct template *t = official();

	if (!t)
		skip();
	for (size_t i = 0; i < sizeof(golden) / sizeof(*golden); i++) {
		CLEANUP(rendered_done) struct rendered out = RENDERED_INIT;
		JX_OWNED json_t *request = load(golden[i].request);
		struct err e = { 0 };
		char hash[65];

		if (template_render(t, request, NULL, &out, &e) < 0)
			fail_msg("%zu: %s", i, e.text);
		EQ(out.text.n, golden[i].bytes);
		sha256(&out.text, hash);
		assert_string_equal(hash, golden[i].hash);
	}
}

TEST(the_official_template_refuses_what_it_should)
{
	static const char *const cases[][2] = {
		{ "{\"messages\":[]}", "No messages provided." },
		{ "{\"messages\":[{\"role\":\"assistant\",\"content\":\"A\"}]}",
		  "No user query found in messages." },
		{ "{\"messages\":[" HI ",{\"role\":\"system\",\"content\":\"S\"}]}",
		  "System message must be at the beginning." },
		{ "{\"messages\":[{\"role\":\"developer\",\"content\":\"S\"}," HI "]}",
		  "Unexpected message role." },
		{ "{\"messages\":[{\"role\":\"user\",\"content\":5}]}",
		  "Unexpected content type." },
	};
	CLEANUP(template_freep) struct template *t = official();

	if (!t)
		skip();
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		CLEANUP(rendered_done) struct rendered out = RENDERED_INIT;
		JX_OWNED json_t *request = load(cases[i][0]);
		struct err e = { 0 };

		EQ(template_render(t, request, NULL, &out, &e), -EINVAL);
		assert_string_equal(e.text, cases[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_byte_knows_whether_it_came_from_the_request),
		cmocka_unit_test(numbers_print_as_python_reads_them),
		cmocka_unit_test(nul_and_unicode_white_space_are_kept_and_trimmed_as_python_does),
		cmocka_unit_test(an_error_carries_the_templates_own_words),
		cmocka_unit_test(absent_members_are_as_in_apply_chat_template),
		cmocka_unit_test(a_template_that_does_not_end_is_stopped),
		cmocka_unit_test(limits_are_the_callers),
		cmocka_unit_test(what_nests_too_deeply_does_not_parse),
		cmocka_unit_test(a_long_sum_in_a_loop_is_not_quadratic),
		cmocka_unit_test(a_folders_template_is_found_where_models_keep_it),
		cmocka_unit_test(the_official_template_gives_the_golden_renders),
		cmocka_unit_test(the_official_template_refuses_what_it_should),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
