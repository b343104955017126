noinst_LIBRARIES += libtext.a
libtext_a_SOURCES =
include worker/text/tokenizer.mk
