/* fake_systemd.c - the part of systemd's bus interface that hearthd uses, for tests without
 * systemd.
 *
 *	fake_systemd WORKER_PROGRAM RUN_DIR [auto-restart]
 *
 * On the bus of DBUS_SYSTEM_BUS_ADDRESS.  A unit hearth-worker@ALIAS.service runs WORKER_PROGRAM
 * serve with the words of RUN_DIR/worker/ALIAS.env, with a NOTIFY_SOCKET, and its states follow
 * systemd's: inactive, activating, active, deactivating, failed.  An alias "missing" has no unit.
 * With auto-restart a unit that failed goes to activating/auto-restart and starts after a second.
 * Prints a line for each call.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

enum { MAX_UNITS = 8 };

struct unit {
	char name[128], *path;
	const char *active, *sub, *result;
	char status[256];
	int code, exit_status;
	uint32_t pid;
	uint32_t start_job, stop_job;
	time_t again;
};

static struct unit units[MAX_UNITS];
static size_t n_units;
static uint32_t next_job = 1;
static sd_bus *bus;
static const char *program, *run_dir;
static char notify_path[108];
static bool auto_restart;

static struct unit *unit_of(const char *name)
{
	struct unit *u;

	for (size_t i = 0; i < n_units; i++)
		if (!strcmp(units[i].name, name))
			return &units[i];
	if (n_units == MAX_UNITS || strstr(name, "@missing."))
		return NULL;
	u = &units[n_units++];
	snprintf(u->name, sizeof(u->name), "%s", name);
	u->active = "inactive";
	u->sub = "dead";
	u->result = "success";
	sd_bus_path_encode("/org/freedesktop/systemd1/unit", name, &u->path);
	return u;
}

static void changed(const struct unit *u)
{
	sd_bus_emit_properties_changed(bus, u->path, "org.freedesktop.systemd1.Unit", "ActiveState",
				       NULL);
	sd_bus_emit_properties_changed(bus, u->path, "org.freedesktop.systemd1.Service",
				       "StatusText", NULL);
}

static void job_removed(const struct unit *u, uint32_t *job, const char *result)
{
	char path[64];

	if (!*job)
		return;
	snprintf(path, sizeof(path), "/org/freedesktop/systemd1/job/%u", *job);
	sd_bus_emit_signal(bus, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
			   "JobRemoved", "uoss", *job, path, u->name, result);
	*job = 0;
}

static void run(struct unit *u)
{
	char path[300], line[4096] = "", *argv[80] = { (char *)(uintptr_t)program, "serve" };
	char alias[128] = "";
	size_t n = 2;
	FILE *f;

	sscanf(u->name, "hearth-worker@%127[^.]", alias);
	snprintf(path, sizeof(path), "%s/worker/%s.env", run_dir, alias);
	f = fopen(path, "r");
	if (!f || !fgets(line, sizeof(line), f))
		exit(9);
	fclose(f);
	line[strcspn(line, "\n")] = '\0';
	line[strlen(line) - 1] = '\0';		/* the closing quote */
	for (char *w = strtok(strchr(line, '"') + 1, " "); w && n < 79; w = strtok(NULL, " "))
		argv[n++] = w;
	u->active = "activating";
	u->sub = "start";
	u->result = "success";
	u->status[0] = '\0';
	u->code = u->exit_status = 0;
	u->pid = (uint32_t)fork();
	if (u->pid == 0) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		setenv("NOTIFY_SOCKET", notify_path, 1);
		execv(program, argv);
		_exit(203);
	}
	changed(u);
}

/* ---- the manager ---------------------------------------------------------------------- */

static int no_unit(sd_bus_message *m, const char *name)
{
	return sd_bus_reply_method_errorf(m, "org.freedesktop.systemd1.NoSuchUnit",
					  "Unit %s not found.", name);
}

static int start_unit(sd_bus_message *m, void *arg, sd_bus_error *e)
{
	const char *name, *mode;
	struct unit *u;
	char path[64];

	(void)arg, (void)e;
	sd_bus_message_read(m, "ss", &name, &mode);
	printf("start %s\n", name);
	u = unit_of(name);
	if (!u)
		return no_unit(m, name);
	u->start_job = next_job++;
	snprintf(path, sizeof(path), "/org/freedesktop/systemd1/job/%u", u->start_job);
	sd_bus_reply_method_return(m, "o", path);
	if (u->again)		/* the job waits for the restart, as systemd's does */
		changed(u);
	else if (!u->pid)
		run(u);
	else if (!strcmp(u->active, "active"))
		job_removed(u, &u->start_job, "done");
	return 1;
}

static int stop_unit(sd_bus_message *m, void *arg, sd_bus_error *e)
{
	const char *name, *mode;
	struct unit *u;
	char path[64];

	(void)arg, (void)e;
	sd_bus_message_read(m, "ss", &name, &mode);
	printf("stop %s\n", name);
	u = unit_of(name);
	if (!u)
		return no_unit(m, name);
	u->stop_job = next_job++;
	snprintf(path, sizeof(path), "/org/freedesktop/systemd1/job/%u", u->stop_job);
	sd_bus_reply_method_return(m, "o", path);
	job_removed(u, &u->start_job, "canceled");
	u->again = 0;
	if (u->pid) {
		u->active = "deactivating";
		kill((pid_t)u->pid, SIGTERM);
	} else {
		u->active = strcmp(u->result, "success") ? "failed" : "inactive";
		u->sub = u->active;
		job_removed(u, &u->stop_job, "done");
	}
	changed(u);
	return 1;
}

static int kill_unit(sd_bus_message *m, void *arg, sd_bus_error *e)
{
	const char *name, *whom;
	struct unit *u;
	int sig;

	(void)arg, (void)e;
	sd_bus_message_read(m, "ssi", &name, &whom, &sig);
	printf("kill %s %d\n", name, sig);
	u = unit_of(name);
	if (u && u->pid)
		kill((pid_t)u->pid, sig);
	return sd_bus_reply_method_return(m, NULL);
}

static int reset_failed_unit(sd_bus_message *m, void *arg, sd_bus_error *e)
{
	const char *name;
	struct unit *u;

	(void)arg, (void)e;
	sd_bus_message_read(m, "s", &name);
	u = unit_of(name);
	if (u)
		u->result = "success";
	return sd_bus_reply_method_return(m, NULL);
}

static int nothing(sd_bus_message *m, void *arg, sd_bus_error *e)
{
	(void)arg, (void)e;
	return sd_bus_reply_method_return(m, NULL);
}

static const sd_bus_vtable manager[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("StartUnit", "ss", "o", start_unit, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("StopUnit", "ss", "o", stop_unit, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("KillUnit", "ssi", NULL, kill_unit, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("ResetFailedUnit", "s", NULL, reset_failed_unit, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Subscribe", NULL, NULL, nothing, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_SIGNAL("JobRemoved", "uoss", 0),
	SD_BUS_VTABLE_END,
};

/* ---- units ------------------------------------------------------------------------------ */

static int find_unit(sd_bus *b, const char *path, const char *interface, void *arg, void **ret,
		     sd_bus_error *e)
{
	char *name = NULL;
	struct unit *u;

	(void)b, (void)interface, (void)arg, (void)e;
	if (sd_bus_path_decode(path, "/org/freedesktop/systemd1/unit", &name) <= 0)
		return 0;
	u = unit_of(name);
	free(name);
	*ret = u;
	return u != NULL;
}

static int get_property(sd_bus *b, const char *path, const char *interface, const char *name,
			sd_bus_message *reply, void *arg, sd_bus_error *e)
{
	const struct unit *u = arg;

	(void)b, (void)path, (void)interface, (void)e;
	if (!strcmp(name, "ActiveState"))
		return sd_bus_message_append(reply, "s", u->active);
	if (!strcmp(name, "SubState"))
		return sd_bus_message_append(reply, "s", u->sub);
	if (!strcmp(name, "Result"))
		return sd_bus_message_append(reply, "s", u->result);
	if (!strcmp(name, "StatusText"))
		return sd_bus_message_append(reply, "s", u->status);
	if (!strcmp(name, "ExecMainCode"))
		return sd_bus_message_append(reply, "i", u->code);
	if (!strcmp(name, "ExecMainStatus"))
		return sd_bus_message_append(reply, "i", u->exit_status);
	return sd_bus_message_append(reply, "u", u->pid);
}

#define PROPERTY(name, type) \
	SD_BUS_PROPERTY(name, type, get_property, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)
static const sd_bus_vtable unit_table[] = {
	SD_BUS_VTABLE_START(0), PROPERTY("ActiveState", "s"), PROPERTY("SubState", "s"),
	SD_BUS_VTABLE_END,
};
static const sd_bus_vtable service_table[] = {
	SD_BUS_VTABLE_START(0), PROPERTY("Result", "s"), PROPERTY("StatusText", "s"),
	PROPERTY("ExecMainCode", "i"), PROPERTY("ExecMainStatus", "i"), PROPERTY("MainPID", "u"),
	SD_BUS_VTABLE_END,
};

static void on_child(struct unit *u, const siginfo_t *si)
{
	bool bad = si->si_code != CLD_EXITED || si->si_status != 0;

	u->pid = 0;
	u->code = si->si_code;
	u->exit_status = si->si_status;
	u->result = !bad ? "success" : si->si_code == CLD_EXITED ? "exit-code" : "signal";
	u->active = u->sub = bad ? "failed" : "inactive";
	if (bad && auto_restart && !u->stop_job) {
		u->active = "activating";
		u->sub = "auto-restart";
		u->again = time(NULL) + 2;
	}
	job_removed(u, &u->start_job, "failed");
	job_removed(u, &u->stop_job, "done");
	changed(u);
}

static void reap(void)
{
	siginfo_t si = { 0 };

	while (waitid(P_ALL, 0, &si, WEXITED | WNOHANG) == 0 && si.si_pid) {
		for (size_t i = 0; i < n_units; i++)
			if (units[i].pid == (uint32_t)si.si_pid)
				on_child(&units[i], &si);
		si.si_pid = 0;
	}
}

static void read_notify(int fd)
{
	char text[4097], control[CMSG_SPACE(sizeof(struct ucred))];
	struct iovec iov = { text, sizeof(text) - 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
			    .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);
	struct ucred who;

	if (n < 0 || !CMSG_FIRSTHDR(&m))
		return;
	memcpy(&who, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(who));
	text[n] = '\0';
	for (size_t i = 0; i < n_units; i++) {
		struct unit *u = &units[i];
		const char *s = strstr(text, "STATUS=");

		if (u->pid != (uint32_t)who.pid)
			continue;
		if (s)
			snprintf(u->status, sizeof(u->status), "%.*s", (int)strcspn(s + 7, "\n"),
				 s + 7);
		if (strstr(text, "READY=1")) {
			u->active = "active";
			u->sub = "running";
			job_removed(u, &u->start_job, "done");
		}
		changed(u);
	}
}

static int open_notify(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int one = 1, fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(notify_path, sizeof(notify_path), "%.80s/fake-notify", run_dir);
	memcpy(a.sun_path, notify_path, sizeof(a.sun_path));
	unlink(notify_path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		exit(8);
	setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one));
	return fd;
}

static void turn(int notify)
{
	struct pollfd fds[] = { { .fd = sd_bus_get_fd(bus), .events = POLLIN },
				{ .fd = notify, .events = POLLIN } };
	int r;

	while ((r = sd_bus_process(bus, NULL)) > 0)
		;
	if (r < 0)
		exit(7);
	fds[0].events = (short)sd_bus_get_events(bus);
	poll(fds, 2, 50);
	read_notify(notify);
	reap();
	for (size_t i = 0; i < n_units; i++) {
		if (units[i].again && time(NULL) >= units[i].again) {
			units[i].again = 0;
			printf("restart %s\n", units[i].name);
			run(&units[i]);
		}
	}
}

int main(int argc, char **argv)
{
	int notify;

	if (argc < 3)
		return 64;
	program = argv[1];
	run_dir = argv[2];
	auto_restart = argc > 3;
	setvbuf(stdout, NULL, _IOLBF, 0);
	notify = open_notify();
	if (sd_bus_open_system(&bus) < 0 ||
	    sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/systemd1",
				     "org.freedesktop.systemd1.Manager", manager, NULL) < 0 ||
	    sd_bus_add_fallback_vtable(bus, NULL, "/org/freedesktop/systemd1/unit",
				       "org.freedesktop.systemd1.Unit", unit_table, find_unit,
				       NULL) < 0 ||
	    sd_bus_add_fallback_vtable(bus, NULL, "/org/freedesktop/systemd1/unit",
				       "org.freedesktop.systemd1.Service", service_table, find_unit,
				       NULL) < 0 ||
	    sd_bus_request_name(bus, "org.freedesktop.systemd1", 0) < 0)
		return 6;
	printf("up\n");
	for (;;)
		turn(notify);
}
