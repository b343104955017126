/* http.c - one request to the router, with libcurl. */
#include <curl/curl.h>
#include <string.h>

#include "ctl/ctl.h"
#include "ctl/table.h"
#include "lib/json.h"
#include "lib/own.h"

enum { MAX_ERROR = 1 << 16 };

struct transfer {
	CURL *easy;
	struct buf *out;
	struct buf error;
	int (*take)(void *arg, const char *p, size_t n);
	void *arg;
};

static size_t on_bytes(char *p, size_t one, size_t n, void *arg)
{
	struct transfer *t = arg;
	long status = 0;

	(void)one;
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200)
		return t->error.n > MAX_ERROR || buf_put(&t->error, p, n) == 0 ? n : 0;
	if (t->take)
		return t->take(t->arg, p, n) == 0 ? n : 0;
	return buf_put(t->out, p, n) == 0 ? n : 0;
}

static int say_status(const struct transfer *t, long status, struct err *e)
{
	JX_OWNED json_t *v = NULL;
	const char *text = NULL;

	if (jx_load(t->error.n ? t->error.p : "", t->error.n, &v, NULL) == 0)
		text = jx_str(json_object_get(json_object_get(v, "error"), "message"), NULL);
	return err_set(e, status == 404 ? -ENXIO : status == 401 || status == 403 ? -EACCES :
			  status == 422 ? -EBADMSG : -EREMOTEIO,
		       "the router answered %ld: %s", status, text ? text : "no reason");
}

static struct curl_slist *make_headers(const struct ctl *c, bool body)
{
	struct curl_slist *h =
		body ? curl_slist_append(NULL, "Content-Type: application/json") : NULL;
	CLEANUP(buf_donep) struct buf line = BUF_INIT;

	if (!c->key)
		return h;
	buf_printf(&line, "Authorization: Bearer %s", c->key);
	return curl_slist_append(h, line.p ? line.p : "");
}

int ctl_request(const struct ctl *c, const char *path, const struct buf *body, struct buf *out,
		int (*take)(void *arg, const char *p, size_t n), void *arg, struct err *e)
{
	struct transfer t = { .out = out, .take = take, .arg = arg };
	struct curl_slist *headers = make_headers(c, body != NULL);
	CLEANUP(buf_donep) struct buf url = BUF_INIT;
	char why[CURL_ERROR_SIZE] = "";
	long status = 0;
	CURLcode code;
	int r = 0;

	buf_printf(&url, "%s%s", c->url, path);
	t.easy = curl_easy_init();
	if (!t.easy || !buf_ok(&url))
		return err_set(e, -ENOMEM, "out of memory");
	curl_easy_setopt(t.easy, CURLOPT_URL, url.p);
	curl_easy_setopt(t.easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(t.easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(t.easy, CURLOPT_WRITEFUNCTION, on_bytes);
	curl_easy_setopt(t.easy, CURLOPT_WRITEDATA, &t);
	curl_easy_setopt(t.easy, CURLOPT_ERRORBUFFER, why);
	curl_easy_setopt(t.easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(t.easy, CURLOPT_CONNECTTIMEOUT_MS, 5000L);
	if (c->limit_ms)
		curl_easy_setopt(t.easy, CURLOPT_TIMEOUT_MS, (long)c->limit_ms);
	if (body) {
		curl_easy_setopt(t.easy, CURLOPT_POST, 1L);
		curl_easy_setopt(t.easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->n);
		curl_easy_setopt(t.easy, CURLOPT_POSTFIELDS, body->p);
	}
	code = curl_easy_perform(t.easy);
	curl_easy_getinfo(t.easy, CURLINFO_RESPONSE_CODE, &status);
	if (status && status != 200)
		r = say_status(&t, status, e);
	else if (code != CURLE_OK)
		r = err_set(e, -ECONNREFUSED, "%s: %s", url.p,
			    *why ? why : curl_easy_strerror(code));
	curl_easy_cleanup(t.easy);
	curl_slist_free_all(headers);
	buf_done(&t.error);
	return r;
}

bool ctl_is_here(const struct ctl *c)
{
	static const char *const hosts[] = { "127.", "localhost", "[::1]" };
	const char *host = strstr(c->url, "://");

	host = host ? host + 3 : c->url;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(*hosts); i++)
		if (!strncmp(host, hosts[i], strlen(hosts[i])))
			return true;
	return false;
}

int ctl_ask(const struct ctl *c, const char *path, const struct buf *body, struct buf *text,
	    json_t **ret, struct err *e)
{
	CLEANUP(buf_donep) struct buf own = BUF_INIT;
	struct buf *out = text ? text : &own;
	int r = ctl_request(c, path, body, out, NULL, NULL, e);

	if (r < 0)
		return r;
	r = jx_load(out->n ? out->p : "", out->n, ret, NULL);
	if (r == 0)
		ctl_make_safe(*ret);	/* names come from clients and other machines */
	return r < 0 ? err_set(e, -EPROTO, "%s%s: the answer is not JSON; is this a Hearth router?",
			       c->url, path) : 0;
}
