/* unit_facts.c - see unit_facts.h. */
#include "config.h"

#include "daemon/unit_facts.h"

#ifdef HAVE_SYSTEMD

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "daemon/runner.h"

enum launch_end unit_facts_end(const struct unit_facts *f, char *why, size_t n)
{
	/* also of a unit that ended in order and was forgotten before it was asked */
	if (!strcmp(f->result, "success")) {
		snprintf(why, n, "ended by itself");
		return LAUNCH_ENDED;
	}
	if (f->main_code == CLD_EXITED) {
		snprintf(why, n, "exit status %d (%s)%s%.150s", f->main_status, f->result,
			 *f->status ? ": " : "", f->status);
		return runner_end_of(f->main_status);
	}
	if (f->main_code == CLD_KILLED || f->main_code == CLD_DUMPED)
		snprintf(why, n, "killed by signal %d (%s; %s)", f->main_status,
			 strsignal(f->main_status), f->result);
	else
		snprintf(why, n, "systemd says: %s", f->result);
	return LAUNCH_FAILED;
}

static int read_text(sd_bus_message *m, char *ret, size_t n)
{
	const char *s;
	int r = sd_bus_message_read(m, "v", "s", &s);

	if (r >= 0)
		snprintf(ret, n, "%s", s);
	return r;
}

static int read_one(sd_bus_message *m, const char *name, struct unit_facts *f)
{
	uint32_t x;
	int r;

	if (!strcmp(name, "ActiveState"))
		return read_text(m, f->active, sizeof(f->active));
	if (!strcmp(name, "SubState"))
		return read_text(m, f->sub, sizeof(f->sub));
	if (!strcmp(name, "Result"))
		return read_text(m, f->result, sizeof(f->result));
	if (!strcmp(name, "StatusText"))
		return read_text(m, f->status, sizeof(f->status));
	if (!strcmp(name, "ExecMainCode"))
		return sd_bus_message_read(m, "v", "i", &f->main_code);
	if (!strcmp(name, "ExecMainStatus"))
		return sd_bus_message_read(m, "v", "i", &f->main_status);
	if (!strcmp(name, "MainPID")) {
		r = sd_bus_message_read(m, "v", "u", &x);
		f->pid = r >= 0 ? (int)x : 0;
		return r;
	}
	return sd_bus_message_skip(m, "v");
}

int unit_facts_read(sd_bus_message *m, struct unit_facts *f)
{
	const char *name;
	int r = sd_bus_message_enter_container(m, 'a', "{sv}");

	while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
		r = sd_bus_message_read(m, "s", &name);
		if (r >= 0)
			r = read_one(m, name, f);
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
	}
	return r;
}

#endif
