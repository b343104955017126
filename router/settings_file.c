/* settings_file.c - lists of words, files of secrets, and the bus's CURVE keys. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "lib/file.h"
#include "lib/own.h"
#include "lib/svc.h"
#include "router/settings_int.h"

enum { MAX_KEY_FILE = 1 << 20 };

void settings_free_list(char **list, size_t n)
{
	for (size_t i = 0; list && i < n; i++)
		free(list[i]);
	free(list);
}

int settings_split(const char *text, const char *seps, char ***ret, size_t *ret_n)
{
	const char *p = text + strspn(text, seps);
	char **list = calloc(1, sizeof(*list));
	size_t n = 0;

	while (list && *p) {
		size_t len = strcspn(p, seps);
		char **more = realloc(list, (n + 2) * sizeof(*list));
		char *word = more ? strndup(p, len) : NULL;

		if (!word) {
			settings_free_list(more ? more : list, n);
			return -ENOMEM;
		}
		list = more;
		list[n++] = word;
		list[n] = NULL;
		p += len;
		p += strspn(p, seps);
	}
	if (!list)
		return -ENOMEM;
	*ret = list;
	*ret_n = n;
	return 0;
}

static int read_text(const char *name, char **ret, struct err *e)
{
	char path[PATH_MAX];
	int r = svc_path(name, path, sizeof(path), e);

	return r < 0 ? r : file_read(path, MAX_KEY_FILE, ret, NULL, e);
}

int settings_read_text(const char *name, const char *key, char **ret, struct err *e)
{
	struct err why = { 0 };
	int r = read_text(name, ret, &why);

	return r < 0 ? err_set(e, r, "%s (%s)", why.text, key) : 0;
}

void settings_free_secret(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

char *settings_next_line(char **text, int *line_no)
{
	char *line = *text;
	size_t n;

	if (!line || !*line)
		return NULL;
	n = strcspn(line, "\n");
	*text = line[n] ? line + n + 1 : NULL;
	line[n] = '\0';
	(*line_no)++;
	return line;
}

static int add_allowed(struct settings *s, const char *key)
{
	char **more = realloc(s->curve_allowed, (s->n_curve_allowed + 2) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	s->curve_allowed = more;
	more[s->n_curve_allowed] = strdup(key);
	if (!more[s->n_curve_allowed])
		return -ENOMEM;
	more[++s->n_curve_allowed] = NULL;
	return 0;
}

/* A key may hold, and begin with, a #: a word of 40 characters is a key wherever it stands before a
 * comment. */
static int load_allowed(struct settings *s, const char *path, struct err *e)
{
	CLEANUP(freep) char *text = NULL;
	char *at, *line;
	int line_no = 0, r = settings_read_text(path, "bus.curve_allow_file", &text, e);

	at = text;
	while (r == 0 && (line = settings_next_line(&at, &line_no))) {
		char *inner = NULL;

		for (char *key = strtok_r(line, " \t\r", &inner); key && r == 0;
		     key = strtok_r(NULL, " \t\r", &inner)) {
			if (strlen(key) != 40 && *key == '#')
				break;
			if (strlen(key) != 40)
				r = err_set(e, -EINVAL, "%s:%d: not a public key of 40 characters",
					    path, line_no);
			else if (add_allowed(s, key) < 0)
				r = no_memory(e);
		}
	}
	return r;
}

int settings_load_curve(struct settings *s, struct err *e)
{
	const char *own = conf_text(s->conf, "bus", NULL, "curve_file");
	const char *allow = conf_text(s->conf, "bus", NULL, "curve_allow_file");
	CLEANUP(settings_free_secretp) char *text = NULL;
	char **pair = NULL;
	size_t n = 0;
	int r;

	if (!own)
		return allow ? err_set(e, -EINVAL, "bus.curve_allow_file without bus.curve_file")
			     : 0;
	if (!allow)
		return err_set(e, -EINVAL,
			       "bus.curve_file without bus.curve_allow_file lets anyone in");
	r = settings_read_text(own, "bus.curve_file", &text, e);
	if (r == 0)
		r = load_allowed(s, allow, e);
	if (r < 0)
		return r;
	if (settings_split(text, " \t\r\n", &pair, &n) < 0)
		return no_memory(e);
	if (n != 2 || strlen(pair[0]) != 40 || strlen(pair[1]) != 40) {
		settings_free_list(pair, n);
		return err_set(e, -EINVAL, "%s: not two keys of 40 characters", own);
	}
	s->curve_public = pair[0];
	s->curve_secret = pair[1];
	free(pair);
	return 0;
}
