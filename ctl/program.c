/* program.c - see program.h. */
#include "ctl/program.h"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/own.h"

enum { MAX_OUTPUT = 1 << 20 };

extern char **environ;

/* The program beside this one, if it is there; else its name, for PATH. */
static void find(const char *name, char ret[PATH_MAX])
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n > 0 && !strchr(name, '/')) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		if (slash && snprintf(ret, PATH_MAX, "%.*s/%s", (int)(slash - self), self, name) <
			     PATH_MAX && access(ret, X_OK) == 0)
			return;
	}
	snprintf(ret, PATH_MAX, "%s", name);
}

static int start(char *const *argv, int out, pid_t *ret)
{
	posix_spawn_file_actions_t a;
	char path[PATH_MAX];
	int r;

	find(argv[0], path);
	if (posix_spawn_file_actions_init(&a) != 0)
		return -ENOMEM;
	posix_spawn_file_actions_addopen(&a, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&a, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&a, out, STDERR_FILENO);
	r = posix_spawnp(ret, path, &a, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&a);
	return -r;
}

static int drain(int fd, struct buf *out)
{
	char part[4096];
	ssize_t n;

	while ((n = read(fd, part, sizeof(part))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (out->n < MAX_OUTPUT && buf_put(out, part, (size_t)n) < 0)
			return -ENOMEM;
	}
	return 0;
}

int program_run(char *const *argv, struct buf *out, struct err *e)
{
	int fd[2], status = 0, r;
	pid_t pid = -1;

	if (pipe2(fd, O_CLOEXEC) < 0)
		return err_set(e, -errno, "pipe: %s", strerror(errno));
	r = start(argv, fd[1], &pid);
	close(fd[1]);
	if (r == 0)
		r = drain(fd[0], out);
	close(fd[0]);
	if (pid > 0)
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	if (r < 0)
		return err_set(e, r, "%s: %s", argv[0], strerror(-r));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Which program reads a file of this name. */
static const char *reader_of(const char *file)
{
	const char *base = strrchr(file, '/');

	base = base ? base + 1 : file;
	if (strstr(file, "/worker.d/") || !strncmp(base, "worker", 6))
		return "hearth-worker";
	return !strncmp(base, "hearthd", 7) ? "hearthd" : "hearth-router";
}

int program_check_config(const char *file, struct buf *said, struct err *e)
{
	const char *reader = reader_of(file);
	char *const daemon[] = { (char *)reader, "--check", "-c", (char *)file, NULL };
	/* a worker that only prints its options has read its files before */
	char *const worker[] = { "hearth-worker", "serve", "--config", (char *)file,
				 "--dump-options", NULL };
	const char *prefix;
	int r = program_run(!strcmp(reader, "hearth-worker") ? worker : daemon, said, e);

	if (r < 0)
		return r;
	if (said->n)
		said->p[strcspn(said->p, "\n")] = '\0';
	/* "hearth-router: hearth-router: FILE:2: what" */
	while (said->n && !strncmp(said->p, "hearth", 6) && (prefix = strstr(said->p, ": ")))
		memmove(said->p, prefix + 2, strlen(prefix + 2) + 1);
	return r ? 1 : 0;
}

static size_t add(char ret[PROGRAM_MAX_CONFIG][PATH_MAX], size_t n, const char *dir,
		  const char *name)
{
	if (n == PROGRAM_MAX_CONFIG ||
	    snprintf(ret[n], PATH_MAX, "%s/%s", dir, name) >= PATH_MAX || access(ret[n], F_OK) < 0)
		return n;
	return n + 1;
}

size_t program_list_config(const char *etc, char ret[PROGRAM_MAX_CONFIG][PATH_MAX])
{
	char dir[PATH_MAX];
	struct dirent **list = NULL;
	size_t n = add(ret, 0, etc, "hearth.conf");
	int found;

	n = add(ret, n, etc, "hearthd.conf");
	n = add(ret, n, etc, "worker.conf");
	if (snprintf(dir, sizeof(dir), "%s/worker.d", etc) >= (int)sizeof(dir))
		return n;
	found = scandir(dir, &list, NULL, alphasort);
	for (int i = 0; i < found; i++) {
		size_t len = strlen(list[i]->d_name);

		if (len > 5 && !strcmp(list[i]->d_name + len - 5, ".conf"))
			n = add(ret, n, dir, list[i]->d_name);
		free(list[i]);
	}
	free(list);
	return n;
}
