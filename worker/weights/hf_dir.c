/* hf_dir.c - where a model lies: see hf_dir.h. */
#include "worker/weights/hf_dir.h"

#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/file.h"
#include "lib/own.h"

static bool is_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* "org/name" of the characters that the hub allows, and nothing that walks upwards. */
static bool is_hub_id(const char *s)
{
	const char *slash = strchr(s, '/');

	if (!slash || slash == s || !slash[1] || strchr(slash + 1, '/') || strstr(s, ".."))
		return false;
	return strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./") ==
	       strlen(s) && s[0] != '.';
}

/* refs/main holds the commit hash; -ENOENT when this cache has no such model, -EINVAL when that is
 * no file. */
static int read_ref(const char *path, char *hash, size_t room, struct err *e)
{
	ssize_t n = file_read_head(path, hash, room - 1, e);

	if (n < 0)
		return n == -EINVAL ? -EINVAL : -ENOENT;
	hash[n] = '\0';
	hash[strcspn(hash, " \r\n")] = '\0';
	return hash[0] && !strchr(hash, '/') && hash[0] != '.' ? 0 : -ENOENT;
}

static int try_cache(const char *root, const char *id, char **ret_dir, struct err *e)
{
	CLEANUP(buf_donep) struct buf model = BUF_INIT, ref = BUF_INIT, dir = BUF_INIT;
	const char *slash = strchr(id, '/');
	char hash[128];

	if (buf_printf(&model, "%s/models--%.*s--%s", root, (int)(slash - id), id, slash + 1) < 0 ||
	    buf_printf(&ref, "%s/refs/main", model.p) < 0)
		return -ENOMEM;
	int r = read_ref(ref.p, hash, sizeof(hash), e);
	if (r < 0)
		return r;
	if (buf_printf(&dir, "%s/snapshots/%s", model.p, hash) < 0)
		return -ENOMEM;
	if (!is_dir(dir.p))
		return -ENOENT;
	*ret_dir = buf_take(&dir, NULL);
	return *ret_dir ? 0 : -ENOMEM;
}

int hf_dir_find(const char *name, char **ret_dir, struct err *e)
{
	static const struct {
		const char *env, *below;
	} roots[] = {
		{ "HF_HUB_CACHE", "" },
		{ "HF_HOME", "/hub" },
		{ "XDG_CACHE_HOME", "/huggingface/hub" },
		{ "HOME", "/.cache/huggingface/hub" },
	};
	CLEANUP(buf_donep) struct buf tried = BUF_INIT;

	if (is_dir(name)) {
		*ret_dir = strdup(name);
		return *ret_dir ? 0 : err_set(e, -ENOMEM, "out of memory");
	}
	if (access(name, F_OK) == 0)	/* a .gguf, or one of the shards */
		return err_set(e, -ENOTDIR, "%s: not a folder; a model is one, with config.json and "
			       "safetensors files", name);
	if (!is_hub_id(name))
		return err_set(e, -ENOENT, "%s: no such folder", name);
	for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++) {
		const char *base = getenv(roots[i].env);
		CLEANUP(buf_donep) struct buf root = BUF_INIT;

		if (!base || !base[0])
			continue;
		int r = buf_printf(&root, "%s%s", base, roots[i].below);
		if (r == 0)
			r = try_cache(root.p, name, ret_dir, e);
		if (r == -ENOMEM)
			return err_set(e, r, "out of memory");
		if (r != -ENOENT)
			return r;
		(void)buf_printf(&tried, "%s%s", tried.n ? ", " : "", root.p);
	}
	return err_set(e, -ENOENT, "%s: neither a folder nor in the Hugging Face cache (%s)", name,
		       tried.p ? tried.p : "none of HF_HUB_CACHE, HF_HOME, HOME is set");
}
