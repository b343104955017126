/* check.h - hearth-worker check MODEL: what a model folder is, needs and could do, without a
 * GPU. */
#ifndef HEARTH_WORKER_CHECK_H
#define HEARTH_WORKER_CHECK_H

/* argv[0] is the subcommand.  0: the folder can be served; 78: it cannot, one line on stderr says
 * why;
 * 64: wrong usage. */
int check_main(int argc, char **argv);

#endif
