/* doctor.h - findings of hearthctl doctor: what is well, what is worth knowing, what to do. */
#ifndef HEARTH_CTL_DOCTOR_H
#define HEARTH_CTL_DOCTOR_H

#include "ctl/ctl.h"

enum finding_level { FINDING_OK, FINDING_NOTE, FINDING_ACT };

struct findings {
	json_t *list;
	bool act;		/* one of them wants something done */
};

/* act_text: what a person should do, or NULL; text may be longer than a line of a terminal. */
void finding_add(struct findings *f, const char *area, enum finding_level level,
		 const char *act_text, const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* doctor_box.c: this machine. */
void doctor_box(const struct ctl *c, struct findings *f);
void doctor_driver(const struct ctl *c, struct findings *f);
void doctor_memory(const struct ctl *c, struct findings *f);
void doctor_clock(struct findings *f);

/* doctor_rack.c: the router as it is reached from here, and the configuration. */
void doctor_rack(const struct ctl *c, struct findings *f);
void doctor_config(const struct ctl *c, struct findings *f);

/* memory.c */
struct box_msg;
int ctl_ask_memory(const struct ctl *c, struct box_msg *ret, struct err *e);

#endif
