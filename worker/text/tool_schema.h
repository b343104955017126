/* tool_schema.h - which types a tool's parameter may have.
 *
 * Reads the JSON schema of a tool as clients write it, which is often not quite JSON
 * schema.  The types of a parameter are those named by `type` (a string or a list), by
 * `anyOf`, `oneOf` and what `$ref` points to inside the tool's parameters, and those of the
 * values in `enum` and `const`.  `allOf` narrows them; `nullable: true` then adds null.
 *
 * Names in any case: string, str, text, varchar, char, enum; int*, uint*, long*, short*,
 * unsigned*; num*, float*; boolean, bool, binary; object, dict*; array, arr, list*; null.
 * Any other name is taken for string.
 *
 * A schema met inside itself adds nothing; one that is very large is read up to a limit.
 */
#ifndef HEARTH_WORKER_TEXT_TOOL_SCHEMA_H
#define HEARTH_WORKER_TEXT_TOOL_SCHEMA_H

#include "lib/json.h"

/* In the order in which a value is tried. */
enum tool_type {
	TOOL_NULL = 1 << 0,
	TOOL_INTEGER = 1 << 1,
	TOOL_NUMBER = 1 << 2,
	TOOL_BOOLEAN = 1 << 3,
	TOOL_OBJECT = 1 << 4,
	TOOL_ARRAY = 1 << 5,
	TOOL_STRING = 1 << 6,
};

/* What is known of one parameter; borrowed from the tools. */
struct tool_param {
	const json_t *root;	/* the tool's parameters: where $ref begins; may be NULL */
	const json_t *schema;	/* the parameter's own; NULL when there is none */
	unsigned types;		/* of enum tool_type; never 0: no type is string */
};

/* The `parameters` of the first tool of that name, in the chat form ({"function": {"name"}})
 * or the flat one ({"name"}).  NULL when there is none. */
const json_t *tool_schema_find(const json_t *tools, const char *name, size_t n);

/* `root` as found above, NULL too. */
struct tool_param tool_schema_param(const json_t *root, const char *key, size_t n);

/* Whether the n bytes are a string that the schema's `enum` or `const` lists. */
bool tool_schema_lists(const struct tool_param *p, const char *s, size_t n);

#endif
