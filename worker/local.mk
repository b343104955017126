noinst_LIBRARIES += libtext.a
libtext_a_SOURCES =
include worker/text/template.mk
