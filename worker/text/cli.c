/* cli.c - see cli.h. */
#include "worker/text/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "lib/own.h"
#include "worker/text/cli_verbs.h"

struct verb {
	const char *name;
	enum { NOTHING, TEMPLATE, TOKENIZER } needs;	/* of the model */
	int (*answer)(struct cli_model *m, const json_t *in, json_t **ret_out, struct err *e);
};

static const struct verb verbs[] = {
	{ "render", TEMPLATE, cli_render },
	{ "encode", TOKENIZER, cli_encode },
	{ "decode", TOKENIZER, cli_decode },
	{ "parse", NOTHING, cli_parse },
};

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

static int answer_line(const struct verb *verb, struct cli_model *m, const char *line, size_t n,
		       json_t **ret_out, struct err *e)
{
	JX_OWNED json_t *in = NULL;
	int r = jx_load(line, n, &in, e);

	if (r < 0)
		return r;
	if (!json_is_object(in))
		return err_set(e, -EINVAL, "the line must be a JSON object");
	return verb->answer(m, in, ret_out, e);
}

/* Whether the answer could be written. */
static bool put_answer(const struct verb *verb, struct cli_model *m, const char *line, size_t n)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	JX_OWNED json_t *out = NULL;
	struct err e = { .text = "out of memory" };

	if (answer_line(verb, m, line, n, &out, &e) == 0 && out) {
		jx_put(&b, out, JX_SPACED);
	} else {
		buf_puts(&b, "{\"error\": {\"message\": ");
		jx_put_str(&b, e.text, strlen(e.text));
		buf_puts(&b, "}}");
	}
	buf_putc(&b, '\n');
	return buf_ok(&b) && fwrite(b.p, 1, b.n, stdout) == b.n && fflush(stdout) == 0;
}

static int answer_all(const struct verb *verb, struct cli_model *m)
{
	CLEANUP(freep) char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	while ((n = getline(&line, &cap, stdin)) >= 0) {
		if (n > 0 && line[n - 1] == '\n')
			n--;
		if (!put_answer(verb, m, line, (size_t)n))
			return EX_IOERR;
	}
	return feof(stdin) ? 0 : EX_IOERR;
}

static int open_model(const struct verb *verb, const char *dir, struct cli_model *m,
		      struct err *e)
{
	switch (verb->needs) {
	case TEMPLATE:
		return template_open(dir, &m->template, e);
	case TOKENIZER:
		return tokenizer_open(dir, &m->tokenizer, e);
	default:
		return 0;
	}
}

int text_cli_main(int argc, char **argv)
{
	const struct verb *verb = argc == 3 ? find_verb(argv[1]) : NULL;
	struct cli_model m = { NULL, NULL };
	struct err e;
	int status;

	if (!verb) {
		const bool asked =
			argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"));

		fprintf(asked ? stdout : stderr,
			"usage: hearth-worker text render|encode|decode|parse MODEL_DIR\n"
			"JSON lines in, one JSON line out for each\n");
		return asked ? 0 : EX_USAGE;
	}
	if (open_model(verb, argv[2], &m, &e) < 0) {
		fprintf(stderr, "hearth-worker text: %s\n", e.text);
		return EX_CONFIG;
	}
	status = answer_all(verb, &m);
	template_free(m.template);
	tokenizer_free(m.tokenizer);
	return status;
}
