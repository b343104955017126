/* doctor.c - hearthctl doctor: looks everywhere, and says what to do. */
#include "ctl/doctor.h"

#include <stdio.h>
#include <string.h>

#include "ctl/table.h"
#include "lib/own.h"

static const char *const levels[] = { "ok", "note", "act" };

void finding_add(struct findings *f, const char *area, enum finding_level level,
		 const char *act_text, const char *fmt, ...)
{
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	json_t *o = json_object();
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&text, fmt, ap);
	va_end(ap);
	ctl_set_text(o, "area", area);
	ctl_set_text(o, "level", levels[level]);
	ctl_set_text(o, "text", text.n ? text.p : "");
	ctl_set_text(o, "do", act_text);
	json_array_append_new(f->list, o);
	f->act |= level == FINDING_ACT;
}

static void print_one(const struct ctl *c, const json_t *o)
{
	static const char *const colors[] = { "\033[32m", "\033[33m", "\033[1;31m" };
	const char *level = ctl_text(o, "level"), *what = ctl_text(o, "do");
	int i = !strcmp(level, "act") ? 2 : !strcmp(level, "note") ? 1 : 0;

	printf("%s%-4s%s  %-13s ", c->color ? colors[i] : "", level, c->color ? "\033[0m" : "",
	       ctl_text(o, "area"));
	ctl_print_safe(ctl_text(o, "text"));
	if (*what) {
		fputs("\n                    -> ", stdout);
		ctl_print_safe(what);
	}
	putchar('\n');
}

int ctl_doctor(const struct ctl *c, char **argv, struct err *e)
{
	JX_OWNED json_t *list = json_array();
	struct findings f = { .list = list };
	size_t n_act = 0;

	(void)argv;
	doctor_box(c, &f);
	doctor_driver(c, &f);
	doctor_memory(c, &f);
	doctor_clock(&f);
	doctor_rack(c, &f);
	doctor_config(c, &f);
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (!c->json)
			print_one(c, json_array_get(list, i));
		n_act += !strcmp(ctl_text(json_array_get(list, i), "level"), "act");
	}
	if (c->json)
		return ctl_print_json(list) < 0 ? err_set(e, -ENOMEM, "out of memory") :
						  f.act ? EXIT_FINDING : 0;
	if (n_act)
		printf("\n%zu to do\n", n_act);
	else
		puts("\nnothing to do");
	return f.act ? EXIT_FINDING : 0;
}
