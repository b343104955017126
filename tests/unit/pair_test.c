/* pair_test.c - claims about the word that hearthctl pair hands from one machine to another. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <string.h>

#include "ctl/pair.h"

static struct pair sample(void)
{
	struct pair p = { .name = "b2", .endpoint = "tcp://router:7420" };
	char secret[LINK_KEY];

	EQ(link_make_keys(p.server, secret), 0);
	EQ(link_make_keys(p.own, p.secret), 0);
	return p;
}

TEST(what_is_put_is_what_is_parsed)
{
	for (int i = 0; i < 50; i++) {
		struct pair p = sample(), q;
		struct buf word = BUF_INIT;
		struct err e;

		EQ(pair_put(&p, &word), 0);
		EQ(strspn(word.p, "hearth0123456789abcdef"), word.n);	/* nothing for a shell */
		EQ(pair_parse(word.p, &q, &e), 0);
		assert_string_equal(q.name, p.name);
		assert_string_equal(q.endpoint, p.endpoint);
		assert_string_equal(q.server, p.server);
		assert_string_equal(q.secret, p.secret);
		assert_string_equal(q.own, p.own);	/* it follows from the secret */
		buf_done(&word);
	}
}

TEST(a_word_that_is_not_whole_is_refused_wherever_it_is_cut)
{
	struct pair p = sample(), q;
	struct buf word = BUF_INIT;
	struct err e;

	EQ(pair_put(&p, &word), 0);
	for (size_t n = 0; n < word.n; n++) {
		char cut[PAIR_MAX_WORD];

		snprintf(cut, sizeof(cut), "%.*s", (int)n, word.p);
		assert_true(pair_parse(cut, &q, &e) < 0);
	}
	buf_puts(&word, "00");
	assert_true(pair_parse(word.p, &q, &e) < 0);
	buf_done(&word);
}

static void refused(const char *name, const char *endpoint, const char *server, const char *secret)
{
	char text[1024], word[PAIR_MAX_WORD] = "hearth1";
	struct pair q;
	struct err e;
	int n = snprintf(text, sizeof(text), "%s %s %s %s", name, endpoint, server, secret);

	for (int i = 0; i < n; i++)
		snprintf(word + strlen(word), 3, "%02x", (unsigned char)text[i]);
	assert_true(pair_parse(word, &q, &e) < 0);
}

TEST(what_would_become_another_line_of_configuration_is_refused)
{
	struct pair p = sample();

	refused("a/b", p.endpoint, p.server, p.secret);
	refused("", p.endpoint, p.server, p.secret);
	refused("b2", "http://x", p.server, p.secret);
	refused("b2", "tcp://x\033[2J:1", p.server, p.secret);
	refused("b2", "tcp://x:1;y", p.server, p.secret);
	refused("b2", "ipc://x", p.server, p.secret);
	refused("b2", p.endpoint, "short", p.secret);
	refused("b2", p.endpoint, p.server, "not-a-key-of-forty-characters");
	refused("b2\n[x]", p.endpoint, p.server, p.secret);
	refused("b2", "tcp://x:1\nlauncher=evil", p.server, p.secret);
}

TEST(a_fingerprint_is_half_a_key_for_people)
{
	struct pair p = sample();
	char a[LINK_FINGERPRINT], b[LINK_FINGERPRINT];

	EQ(link_fingerprint(p.own, a), 0);
	EQ(strlen(a), LINK_FINGERPRINT - 1);
	EQ(link_fingerprint(p.server, b), 0);
	assert_string_not_equal(a, b);
	EQ(link_fingerprint("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", a), 0);
	assert_string_equal(a, "54fc ba24 e932 4996 9316 fb61 7c87 2bb0");
	EQ(link_fingerprint("short", a), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_is_what_is_parsed),
		cmocka_unit_test(a_word_that_is_not_whole_is_refused_wherever_it_is_cut),
		cmocka_unit_test(what_would_become_another_line_of_configuration_is_refused),
		cmocka_unit_test(a_fingerprint_is_half_a_key_for_people),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
