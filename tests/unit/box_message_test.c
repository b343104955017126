/* box_message_test.c - claims about what boxes and the router say to each other: what is refused
 * before anybody has to believe it. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire.h"

/* What the other side's reader makes of a message. */
static int code(enum wire_type t, enum wire_side from, const ProtobufCMessage *m)
{
	struct buf header = BUF_INIT, body = BUF_INIT;
	struct wire_msg in = { 0 };
	uint32_t seq = 0;
	int r = wire_pack(t, 0, m, &header, &body);

	if (r == 0)
		r = wire_unpack(from, &seq, header.p, header.n, body.p, body.n, &in, NULL);
	wire_msg_done(&in);
	buf_done(&header);
	buf_done(&body);
	return r;
}

static int report_code(const Hw__BoxReport *r)
{
	return code(WIRE_BOX_REPORT, WIRE_FROM_WORKER, &r->base);
}

TEST(a_box_greets_without_a_model_and_a_worker_never)
{
	Hw__Hello h = HW__HELLO__INIT;

	h.worker = "b1";
	h.model = h.numeric_class = "-";
	EQ(code(WIRE_HELLO, WIRE_FROM_WORKER, &h.base), -EPROTO);
	h.has_kind = 1;
	h.kind = HW__PEER_KIND__BOX;
	OK(code(WIRE_HELLO, WIRE_FROM_WORKER, &h.base));
	h.kind = (Hw__PeerKind)7;		/* of a later version */
	EQ(code(WIRE_HELLO, WIRE_FROM_WORKER, &h.base), -EPROTO);
}

TEST(a_report_is_believed_only_as_far_as_it_makes_sense)
{
	Hw__BoxReport r = HW__BOX_REPORT__INIT;
	Hw__BoxModel m = HW__BOX_MODEL__INIT, *list[] = { &m };
	char reason[600];

	m.alias = "tiny";
	m.worker = "b1/tiny";
	m.state = HW__MODEL_STATE__LOADING;
	m.has_permille = 1;
	m.permille = 1000;
	m.reason = "ok \xc3\xa9";
	r.model = list;
	r.n_model = 1;
	OK(report_code(&r));
	EQ(code(WIRE_BOX_REPORT, WIRE_FROM_ROUTER, &r.base), -EPROTO);
	m.permille = 1001;
	EQ(report_code(&r), -EPROTO);
	m.permille = 0;
	m.alias = "ti ny";
	EQ(report_code(&r), -EPROTO);
	m.alias = "tiny";
	m.worker = "";
	EQ(report_code(&r), -EPROTO);
	m.worker = "b1/tiny";
	m.reason = "two\nlines";
	EQ(report_code(&r), -EPROTO);
	m.reason = "\xff";
	EQ(report_code(&r), -EPROTO);
	memset(reason, 'x', sizeof(reason));
	reason[513] = '\0';
	m.reason = reason;
	EQ(report_code(&r), -EPROTO);
	reason[512] = '\0';
	OK(report_code(&r));
	m.state = (Hw__ModelState)10;
	EQ(report_code(&r), -EPROTO);
	m.state = HW__MODEL_STATE__QUARANTINED;
	OK(report_code(&r));
	r.has_load_1 = 1;
	r.load_1 = (double)NAN;
	EQ(report_code(&r), -EPROTO);
	r.load_1 = -1;
	EQ(report_code(&r), -EPROTO);
}

TEST(a_box_has_so_many_models_and_no_more)
{
	Hw__BoxReport r = HW__BOX_REPORT__INIT;
	Hw__BoxModel m = HW__BOX_MODEL__INIT, *list[WIRE_MAX_BOX_MODELS + 1];
	Hw__AliasUse u = HW__ALIAS_USE__INIT, *uses[WIRE_MAX_BOX_MODELS + 1];
	Hw__BoxUse use = HW__BOX_USE__INIT;

	m.alias = m.worker = u.alias = "a";
	m.state = HW__MODEL_STATE__UNLOADED;
	for (int i = 0; i <= WIRE_MAX_BOX_MODELS; i++) {
		list[i] = &m;
		uses[i] = &u;
	}
	r.model = list;
	r.n_model = WIRE_MAX_BOX_MODELS;
	OK(report_code(&r));
	r.n_model++;
	EQ(report_code(&r), -EPROTO);
	use.use = uses;
	use.n_use = WIRE_MAX_BOX_MODELS;
	OK(code(WIRE_BOX_USE, WIRE_FROM_ROUTER, &use.base));
	use.n_use++;
	EQ(code(WIRE_BOX_USE, WIRE_FROM_ROUTER, &use.base), -EPROTO);
}

/* The longest that every name and reason may be, in as many models as a box may have. */
TEST(the_longest_report_there_can_be_fits_its_limit)
{
	Hw__BoxReport r = HW__BOX_REPORT__INIT;
	Hw__BoxModel m = HW__BOX_MODEL__INIT, *list[WIRE_MAX_BOX_MODELS];
	char name[129], reason[257];

	memset(name, 'n', 128);
	name[128] = '\0';
	memset(reason, 'r', 256);	/* LAUNCH_REASON */
	reason[256] = '\0';
	m.alias = m.worker = name;
	m.reason = reason;
	m.state = HW__MODEL_STATE__READY;
	m.has_permille = m.has_ready_ms = m.has_pinned = m.has_drained = m.has_on_demand = 1;
	m.has_failures = m.has_idle_s = m.has_ttl_s = m.has_bytes = m.has_pid = 1;
	m.ready_ms = m.failures = m.idle_s = m.ttl_s = m.pid = UINT32_MAX;
	m.bytes = UINT64_MAX;
	for (int i = 0; i < WIRE_MAX_BOX_MODELS; i++)
		list[i] = &m;
	r.model = list;
	r.n_model = WIRE_MAX_BOX_MODELS;
	OK(report_code(&r));
}

TEST(commands_name_a_verb_and_an_alias)
{
	Hw__BoxCommand c = HW__BOX_COMMAND__INIT;

	c.alias = "*";
	c.verb = HW__BOX_VERB__DRAIN;
	OK(code(WIRE_BOX_COMMAND, WIRE_FROM_ROUTER, &c.base));
	EQ(code(WIRE_BOX_COMMAND, WIRE_FROM_WORKER, &c.base), -EPROTO);
	c.verb = (Hw__BoxVerb)6;
	EQ(code(WIRE_BOX_COMMAND, WIRE_FROM_ROUTER, &c.base), -EPROTO);
	c.verb = HW__BOX_VERB__LOAD;
	c.alias = "a\nb";
	EQ(code(WIRE_BOX_COMMAND, WIRE_FROM_ROUTER, &c.base), -EPROTO);
}

TEST(a_reply_is_a_line_for_a_person)
{
	Hw__BoxReply r = HW__BOX_REPLY__INIT;

	r.ok = 1;
	OK(code(WIRE_BOX_REPLY, WIRE_FROM_WORKER, &r.base));
	r.message = "escape \x1b[2J";
	EQ(code(WIRE_BOX_REPLY, WIRE_FROM_WORKER, &r.base), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_box_greets_without_a_model_and_a_worker_never),
		cmocka_unit_test(a_report_is_believed_only_as_far_as_it_makes_sense),
		cmocka_unit_test(a_box_has_so_many_models_and_no_more),
		cmocka_unit_test(the_longest_report_there_can_be_fits_its_limit),
		cmocka_unit_test(commands_name_a_verb_and_an_alias),
		cmocka_unit_test(a_reply_is_a_line_for_a_person),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
