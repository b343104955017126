# The engine: blocks, sequences, the scheduler, and the thread that owns the device.
noinst_LIBRARIES += libengine.a
libengine_a_SOURCES = \
	worker/kv_pool.c worker/kv_pool.h \
	worker/sched.c worker/sched.h \
	worker/seq.c worker/seq.h
