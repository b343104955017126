/* hf_dir.h - where a model lies on this disk.
 *
 * A model is named by its folder or by its hub id ("Qwen/Qwen3.6-35B-A3B"), which is
 * looked for in the local Hugging Face cache; nothing is ever downloaded.
 */
#ifndef HEARTH_WORKER_WEIGHTS_HF_DIR_H
#define HEARTH_WORKER_WEIGHTS_HF_DIR_H

#include "lib/err.h"

/* *ret_dir is on the heap.  An existing folder is taken as it is.  Otherwise the caches
 * are tried in this order: $HF_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub,
 * ~/.cache/huggingface/hub; in each, models--ORG--NAME/snapshots/<text of refs/main>.
 * -ENOTDIR: a file.  -EINVAL: refs/main is no file.  -ENOENT: neither a folder nor in a cache (the text names the places looked at). */
int hf_dir_find(const char *name, char **ret_dir, struct err *e);

#endif
