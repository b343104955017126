/* settings_int.h - what settings.c, settings_file.c, settings_keys.c and settings_chain.c
 * share. */
#ifndef HEARTH_ROUTER_SETTINGS_INT_H
#define HEARTH_ROUTER_SETTINGS_INT_H

#include <errno.h>

#include "router/settings.h"

static inline int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

/* A number of a section, times `scale`, to the uint32_t at `offset` of what is filled. */
struct settings_number {
	const char *key;
	size_t offset;
	uint32_t scale;
};

void settings_numbers(const struct conf *c, const char *section, const char *name,
		      const struct settings_number *map, size_t n, void *to);

/* settings_file.c */
/* Words of `text` between any of `seps`; the list ends with NULL. */
int settings_split(const char *text, const char *seps, char ***ret, size_t *ret_n);
void settings_free_list(char **list, size_t n);		/* NULL ok */
/* What the file `name` holds, or the credential; e names it, and `key`, whose value it is. */
int settings_read_text(const char *name, const char *key, char **ret, struct err *e);
/* The lines of `text` one by one, without their ends; *line_no counts all of them. */
char *settings_next_line(char **text, int *line_no);
int settings_load_curve(struct settings *s, struct err *e);
void settings_free_secret(char *text);			/* wiped first; NULL ok */
static inline void settings_free_secretp(char **text)
{
	settings_free_secret(*text);
}

/* settings_keys.c: the file of client keys. */
int settings_load_keys(struct settings *s, const char *path, struct err *e);

/* settings_chain.c: the [upstream] and [alias] sections.  What was begun when it failed is freed
 * with the settings. */
int settings_load_upstreams(struct settings *s, struct err *e);
int settings_load_aliases(struct settings *s, struct err *e);

#endif
