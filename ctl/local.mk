if SERVING
bin_PROGRAMS += bin/hearthctl
bin_hearthctl_SOURCES = \
	ctl/chat.c \
	ctl/commands.c ctl/ctl.h \
	ctl/completion.c \
	ctl/config.c \
	ctl/doctor.c ctl/doctor.h ctl/doctor_box.c ctl/doctor_rack.c \
	ctl/explain.c \
	ctl/fail.c \
	ctl/file.c ctl/file.h \
	ctl/http.c \
	ctl/journal.c ctl/journal.h ctl/journal_remote.c \
	ctl/keys.c \
	ctl/logs.c \
	ctl/main.c \
	ctl/memory.c \
	ctl/model.c \
	ctl/pair.h ctl/pair_invite.c ctl/pair_join.c ctl/pair_word.c \
	ctl/program.c ctl/program.h \
	ctl/status.c \
	ctl/table.c ctl/table.h \
	ctl/top.c ctl/top.h ctl/top_screen.c
bin_hearthctl_CPPFLAGS = $(AM_CPPFLAGS) $(CURL_CFLAGS) $(PROTOBUF_C_CFLAGS) $(SMARTCOLS_CFLAGS) $(NCURSES_CFLAGS) $(SYSTEMD_CFLAGS)
bin_hearthctl_LDADD = $(wire_libs) $(box_libs) $(lib_libs) $(CURL_LIBS) $(SMARTCOLS_LIBS) $(NCURSES_LIBS)

# From the program itself, so they cannot differ from --help.
bashcompletiondir = $(datadir)/bash-completion/completions
zshcompletiondir = $(datadir)/zsh/vendor-completions
nodist_bashcompletion_DATA = ctl/completion/hearthctl
nodist_zshcompletion_DATA = ctl/completion/_hearthctl
CLEANFILES += $(nodist_bashcompletion_DATA) $(nodist_zshcompletion_DATA)
ctl/completion/hearthctl: bin/hearthctl
	$(AM_V_GEN)$(MKDIR_P) ctl/completion && bin/hearthctl --completion bash >$@.new && mv $@.new $@
ctl/completion/_hearthctl: bin/hearthctl
	$(AM_V_GEN)$(MKDIR_P) ctl/completion && bin/hearthctl --completion zsh >$@.new && mv $@.new $@
endif
EXTRA_DIST += ctl/README.md
