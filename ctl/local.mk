if SERVING
bin_PROGRAMS += bin/hearthctl
bin_hearthctl_SOURCES = ctl/chat.c ctl/commands.c ctl/ctl.h ctl/http.c ctl/main.c ctl/memory.c ctl/model.c ctl/status.c
bin_hearthctl_CPPFLAGS = $(AM_CPPFLAGS) $(CURL_CFLAGS) $(PROTOBUF_C_CFLAGS) $(SMARTCOLS_CFLAGS)
bin_hearthctl_LDADD = $(box_libs) $(lib_libs) $(CURL_LIBS) $(SMARTCOLS_LIBS)
endif
EXTRA_DIST += ctl/README.md
