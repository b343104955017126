/* router.h - `hearth-bench router`: what a router costs under load. */
#ifndef HEARTH_BENCH_ROUTER_H
#define HEARTH_BENCH_ROUTER_H

int bench_router_main(int argc, char **argv);	/* an exit code of sysexits.h */

#endif
