/* link_keys.c - CURVE keys as texts: made, read, checked, and shown to people (link.h). */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "lib/file.h"
#include "lib/svc.h"
#include "proto/link_int.h"

int link_make_keys(char ret_public[LINK_KEY], char ret_secret[LINK_KEY])
{
	return zmq_curve_keypair(ret_public, ret_secret) < 0 ? -errno : 0;
}

int link_public_of(const char *secret, char ret_public[LINK_KEY])
{
	unsigned char raw[32];

	if (strlen(secret) != LINK_KEY - 1 || !zmq_z85_decode(raw, secret))
		return -EINVAL;
	explicit_bzero(raw, sizeof(raw));
	return zmq_curve_public(ret_public, secret) < 0 ? -errno : 0;
}

int link_read_secret(const char *file, char ret[LINK_KEY], struct err *e)
{
	char path[PATH_MAX], public[LINK_KEY];
	ssize_t n = svc_path(file, path, sizeof(path), e);

	if (n == 0)
		n = file_read_head(path, ret, LINK_KEY - 1, e);
	if (n < 0)
		return (int)n;
	ret[n] = '\0';
	if (link_public_of(ret, public) == -EINVAL)
		return err_set(e, -EINVAL, "%s: not a secret key of %d characters", path,
			       LINK_KEY - 1);
	return 0;
}

/* The first half of the key itself: whoever wants another one with the same half has 2^128 to try.
 */
int link_fingerprint(const char *key, char ret[LINK_FINGERPRINT])
{
	unsigned char raw[32];
	size_t at = 0;

	if (strlen(key) != LINK_KEY - 1 || !zmq_z85_decode(raw, key))
		return -EINVAL;
	for (size_t i = 0; i < 16; i += 2)
		at += (size_t)snprintf(ret + at, LINK_FINGERPRINT - at, "%s%02x%02x", i ? " " : "",
				       raw[i], raw[i + 1]);
	return 0;
}
