/* commands.c - the tables of hearthctl: every command and every option there is. */
#include <string.h>

#include "ctl/ctl.h"

const struct ctl_command ctl_commands[] = {
	{"status", NULL, 0, 0, ctl_status,
	 "workers, upstreams and aliases as the router sees them"},
	{"top", NULL, 0, 0, ctl_top, "boxes, workers and requests, live; q ends it"},
	{"doctor", NULL, 0, 0, ctl_doctor,
	 "box, driver, memory, network, clocks, configuration: what is wrong, what to do"},
	{"memory", NULL, 0, 0, ctl_memory,
	 "this box's memory: who holds it, what each model would need"},
	{"chat", "[TEXT]", 0, 1, ctl_chat, "ask once, or without TEXT line by line"},
	{"load", "ALIAS", 1, 1, ctl_load, "have a box load a model (also out of quarantine)"},
	{"unload", "ALIAS", 1, 1, ctl_unload, "running answers are finished first"},
	{"drain", "ALIAS", 1, 1, ctl_drain, "unload it, and keep it out until undrain"},
	{"undrain", "ALIAS", 1, 1, ctl_undrain, "let it be loaded again"},
	{"config check", "[FILE]", 0, 1, ctl_config_check,
	 "have each file read by the program it is for; says file, line and what"},
	{"config show", NULL, 0, 0, ctl_config_show, "what the router runs with"},
	{"config diff", NULL, 0, 0, ctl_config_diff, "what its files would change"},
	{"config reload", NULL, 0, 0, ctl_config_reload,
	 "have the router take them; a bad file changes nothing"},
	{"explain", "[ID]", 0, 1, ctl_explain,
	 "what became of a request: who was asked, when, and why another; or the latest"},
	{"logs", "ID", 1, 1, ctl_logs,
	 "what was written about a request, by it and meanwhile by its workers"},
	{"keys list", NULL, 0, 0, ctl_keys_list, "names and roles of the API keys"},
	{"keys add", "NAME", 1, 1, ctl_keys_add, "make an API key; it is shown this once"},
	{"keys remove", "NAME", 1, 1, ctl_keys_remove, "its answers under way are finished"},
	{"pair invite", "BOX", 1, 1, ctl_pair_invite,
	 "on the router: make a box's keys, let it in; prints the word for pair join"},
	{"pair join", "[WORD]", 0, 1, ctl_pair_join,
	 "on the box: take the word (from standard input), write keys, try them"},
	{"pair list", NULL, 0, 0, ctl_pair_list, "the boxes that may connect"},
	{"pair remove", "BOX", 1, 1, ctl_pair_remove, "it may not connect any more"},
	{NULL, NULL, 0, 0, NULL, NULL},
};

const struct opts_row ctl_options[] = {
	{'u', "url", "URL", "the router (default http://127.0.0.1:8080)"},
	{'k', "key-file", "FILE",
	 "API key, the file's first line; all but chat wants one of the role admin"},
	{'m', "model", "NAME", "for chat (default: the first the router has)"},
	{'b', "box", "NAME", "for load to undrain: of this box; ALIAS may then be '*'"},
	{'w', "wait", NULL, "for load: until it is ready, with its progress"},
	{CTL_HEARTHD, "hearthd", "SOCKET", "this box's daemon (default /run/hearthd/memory)"},
	{CTL_ONCE, "once", NULL, "for top: one frame, as without a terminal"},
	{CTL_INTERVAL, "interval", "SECONDS", "for top: a frame this often (default 1)"},
	{CTL_LOG, "log", "PATH",
	 "for logs: this file or folder of a journal, or plain file; again for more"},
	{CTL_ON, "on", "HOST", "for logs: its journal too, over ssh; again for more"},
	{CTL_ETC, "etc", "FOLDER", "the configuration (default /etc/hearth)"},
	{CTL_ROOT, "root", "FOLDER", "for doctor: look at /proc, /sys and /dev below it"},
	{CTL_KEYS_FILE, "keys-file", "FILE", "for keys (default: as the router is configured)"},
	{CTL_ROLE, "role", "ROLE",
	 "for keys add: client (the default), or admin, which may use load, status and the like"},
	{CTL_BUS, "bus", "ENDPOINT",
	 "for pair invite: tcp://HOST:PORT where the box reaches this router"},
	{CTL_NO_RELOAD, "no-reload", NULL, "for keys and pair: change files only"},
	{CTL_JSON, "json", NULL, "the answer as JSON"},
	{CTL_COMPLETION, "completion", "SHELL", "the completion for bash or zsh"},
	{CTL_DUMP, "dump-options", NULL, "these lists, a line each: name, argument, text"},
	{'h', "help", NULL, "this text"},
	{'V', "version", NULL, "the version"},
	{0, NULL, NULL, NULL},
};

/* How many of the words `name` is; 0: it is not. */
static int words_of(const char *name, int argc, char **argv)
{
	const char *blank = strchr(name, ' ');
	size_t n = blank ? (size_t)(blank - name) : strlen(name);

	if (argc < 1 || strlen(argv[0]) != n || strncmp(name, argv[0], n) != 0)
		return 0;
	if (!blank)
		return 1;
	return argc > 1 && !strcmp(blank + 1, argv[1]) ? 2 : 0;
}

const struct ctl_command *ctl_find(int argc, char **argv, int *ret_used)
{
	for (const struct ctl_command *m = ctl_commands; m->name; m++) {
		*ret_used = words_of(m->name, argc, argv);
		if (*ret_used)
			return m;
	}
	return NULL;
}

void ctl_put_help(struct buf *out)
{
	buf_puts(out, "hearthctl - look at a Hearth router and its boxes, and talk to them\n\n"
		      "usage: hearthctl [OPTION]... COMMAND\n\n");
	for (const struct ctl_command *m = ctl_commands; m->name; m++) {
		size_t began = out->n;

		buf_printf(out, "  %s%s%s", m->name, m->arg ? " " : "", m->arg ? m->arg : "");
		while (buf_ok(out) && out->n - began < 24)
			buf_putc(out, ' ');
		buf_printf(out, " %s\n", m->text);
	}
	buf_putc(out, '\n');
	opts_put_help(ctl_options, out);
	buf_puts(out,
		 "\nColour is used on a terminal unless NO_COLOR is set.\n"
		 "Exit status: 0; 1 doctor: something must be done, config diff: there is a "
		 "change;\n"
		 "64 wrong usage; 66 nothing is known of what was asked for; 69 the router or a "
		 "box\n"
		 "cannot be reached, or refused; 77 not allowed; 78 the configuration is wrong.\n");
}

void ctl_put_dump(struct buf *out)
{
	for (const struct ctl_command *m = ctl_commands; m->name; m++)
		opts_put_dump_row(m->name, m->arg, m->text, out);
	opts_put_dump(ctl_options, out);
}
