/* conf_fuzz.c - any bytes as a configuration file: accepted with sane values, or refused. */
#include <stdint.h>
#include <stdlib.h>

#include "lib/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct conf_section sections[] = {
	{ "a", false, "First" }, { "b", true, "Many" }, { NULL, false, NULL },
};
static const struct conf_key keys[] = {
	{ "a", "n", CONF_INT, 1, 10, NULL, "3", false, "a number" },
	{ "a", "t", CONF_TEXT, 1, 50, NULL, NULL, true, "a text" },
	{ "a", "c", CONF_CHOICE, 0, 0, "x|yy", "x", true, "a choice" },
	{ "b", "on", CONF_BOOL, 0, 0, NULL, "no", true, "a switch" },
	{ .key = NULL },
};
static const struct conf_table table = { sections, keys };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct conf *c = NULL;
	struct err e;

	if (conf_load_text(&table, "fuzz", (const char *)data, n, &c, &e) < 0)
		return 0;
	if (conf_int(c, "a", NULL, "n") < 1 || conf_int(c, "a", NULL, "n") > 10)
		abort();
	for (size_t i = 0; conf_name(c, "b", i); i++)
		(void)conf_bool(c, "b", conf_name(c, "b", i), "on");
	conf_free(c);
	return 0;
}
