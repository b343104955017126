/* settings_table.c - every key there is: what --help, the sample file and the man page say, and
 * what a configuration file may. */
#include "router/settings.h"

static const struct conf_section sections[] = {
	{ "http", false, "Towards clients" },
	{ "bus", false, "Towards workers" },
	{ "route", false, "How long, how often, how far" },
	{ "openai", false, "The OpenAI dialect" },
	{ "alias", true, "A name that clients ask for: an ordered chain of targets" },
	{ "upstream", true, "Another server that speaks the OpenAI dialect" },
	{ "log", false, "What is written to the journal" },
	{ NULL, false, NULL },
};

#define INT CONF_INT
#define TEXT CONF_TEXT
#define K(section, key, type, min, max, def, reload, help) \
	{ section, key, type, min, max, NULL, def, reload, help }
#define DAY_S 86400

static const struct conf_key keys[] = {
	K("http", "listen", TEXT, 1, 1000, "127.0.0.1:8080", false,
	  "host:port to listen on, several with a blank between; sockets of a systemd.socket(5) "
	  "unit take their place"),
	K("http", "keys_file", TEXT, 0, 0, NULL, true,
	  "file of API keys, a line each: NAME KEY, or NAME KEY admin; needed off loopback; this "
	  "and other files of secrets may be credential:NAME (systemd.exec(5), LoadCredential)"),
	{"http", "trust_local", CONF_BOOL, 0, 0, NULL, "yes", true,
	 "callers of this machine who send no key may use /admin and /metrics all the same"},
	K("http", "max_body_mib", INT, 1, 1024, "64", false, "largest request body, MiB"),
	K("http", "max_bodies_mib", INT, 1, 1048576, "1024", false,
	  "memory that request bodies may take together, MiB"),
	K("http", "max_header_kib", INT, 1, 1024, "32", false,
	  "largest request line with headers, KiB"),
	K("http", "header_s", INT, 1, DAY_S, "10", false,
	  "from a request's first byte to the end of its headers, s"),
	K("http", "body_s", INT, 1, DAY_S, "30", false, "longest silence inside a request body, s"),
	K("http", "idle_s", INT, 1, DAY_S, "120", false,
	  "a connection without a request is closed after, s"),
	K("http", "stall_s", INT, 1, DAY_S, "120", false,
	  "a reader that takes nothing is cut after, s"),
	K("http", "max_connections", INT, 1, 1000000, "16384", false,
	  "client connections at the same time"),
	K("http", "cors_origin", TEXT, 0, 0, "*", false,
	  "Access-Control-Allow-Origin; empty: no such header"),
	K("bus", "listen", TEXT, 1, 1000, "ipc:///run/hearth/bus", false,
	  "ipc:// or tcp:// endpoints, several with a blank between"),
	K("bus", "curve_file", TEXT, 0, 0, NULL, false,
	  "file of the router's CURVE keys: public and secret, a line each"),
	K("bus", "curve_allow_file", TEXT, 0, 0, NULL, true,
	  "file of the boxes' public CURVE keys, a line each; what follows # is a comment"),
	K("bus", "beat_ms", INT, 50, 60000, "1000", false, "a sign of life this often, ms"),
	K("bus", "dead_ms", INT, 100, 600000, "3000", false,
	  "a silent worker is given up after, ms"),
	K("route", "grace_ms", INT, 0, 240000, "8000", true,
	  "nothing is sent before the first token or this time, ms"),
	K("route", "keepalive_ms", INT, 100, 10000, "9000", true,
	  "a comment in a silent stream, ms"),
	K("route", "answer_s", INT, 1, DAY_S, "600", true,
	  "all attempts together, until the first token, s"),
	K("route", "deadline_s", INT, 1, DAY_S, "3600", true, "a request as a whole, s"),
	K("route", "accept_ms", INT, 10, 600000, "10000", true,
	  "a worker must accept or refuse within, ms"),
	K("route", "first_token_s", INT, 1, DAY_S, "300", true, "a worker's first token, s"),
	K("route", "idle_s", INT, 1, DAY_S, "120", true,
	  "longest silence of a worker in a stream, s"),
	K("route", "credit", INT, 2, 4096, "64", true,
	  "deltas a worker may be ahead of its reader"),
	K("route", "load_wait_s", INT, 0, DAY_S, "300", true,
	  "a request waits for a model that is being loaded at most this long, s"),
	K("route", "breaker_failures", INT, 1, 1000, "3", true,
	  "failures in a row that open a target's breaker"),
	K("route", "breaker_ms", INT, 10, 60000, "2000", true,
	  "first time a breaker stays open, doubling to 60 s"),
	K("route", "drain_s", INT, 0, DAY_S, "60", true,
	  "requests under way get this long when we stop, s"),
	K("route", "settle_ms", INT, 0, 60000, "2000", true,
	  "after a start behind sockets of the service manager, clients wait this long for workers "
	  "to connect, ms"),
	{"openai", "reasoning_fields", CONF_CHOICE, 0, 0, "both|reasoning_content|reasoning",
	 "both", true, "names under which reasoning text is sent"},
	K("alias", "chain", TEXT, 1, 4000, NULL, true,
	  "worker:MODEL and upstream:NAME or upstream:NAME/ITS-MODEL, in order, a blank between"),
	{"alias", "load", CONF_CHOICE, 0, 0, "background|wait|never", "background", true,
	 "a local model that is not loaded: go on to the next target while it loads, wait for it, "
	 "or leave it alone"},
	K("upstream", "url", TEXT, 1, 1000, NULL, true, "base URL, as https://api.example.com/v1"),
	K("upstream", "key_file", TEXT, 0, 0, NULL, true, "file that holds its API key"),
	K("upstream", "connect_ms", INT, 10, 60000, "5000", true, "time to connect, ms"),
	K("upstream", "first_token_ms", INT, 10, 3600000, "60000", true,
	  "time to its first token, ms"),
	K("upstream", "idle_ms", INT, 10, 3600000, "60000", true,
	  "longest silence in its stream, ms"),
	K("upstream", "able", TEXT, 0, 1000,
	  "chat completion tools logprobs n tool_choice json_object json_schema vision", true,
	  "what it can do, a blank between"),
	K("upstream", "max_context", INT, 0, 100000000, "0", true, "tokens; 0: unknown"),
	{"upstream", "probe", CONF_BOOL, 0, 0, NULL, "yes", true,
	 "after failures, ask GET URL/models before a request is risked"},
	{"log", "level", CONF_CHOICE, 0, 0, "error|warning|notice|debug", "notice", true,
	 "lines above this level are not written"},
	K("log", "keep_requests", INT, 0, 100000, "1000", false,
	  "requests that are over and hearthctl explain still knows"),
	{.key = NULL},
};

const struct conf_table settings_table = { sections, keys };
