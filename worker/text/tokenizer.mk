# The tokenizer: its part of libtext.a, its tests and tools.
libtext_a_SOURCES += worker/text/added.c worker/text/added.h
libtext_a_SOURCES += worker/text/bpe.c worker/text/bpe.h
libtext_a_SOURCES += worker/text/bytes.c worker/text/bytes.h
libtext_a_SOURCES += worker/text/chars.c worker/text/chars.h
libtext_a_SOURCES += worker/text/detok.c worker/text/detok.h
libtext_a_SOURCES += worker/text/ids.h
libtext_a_SOURCES += worker/text/nfc.c worker/text/nfc.h
libtext_a_SOURCES += worker/text/pretokenize.c worker/text/pretokenize.h
libtext_a_SOURCES += worker/text/tokenizer.c worker/text/tokenizer.h
libtext_a_SOURCES += worker/text/tokenizer_impl.h
libtext_a_SOURCES += worker/text/tokenizer_json.c
libtext_a_SOURCES += worker/text/unicode_class.h
libtext_a_SOURCES += worker/text/unicode_nfc.h
libtext_a_SOURCES += worker/text/vocab.c worker/text/vocab.h
dist_noinst_SCRIPTS += tools/unicode/make_tables.py

# tests/tools/tok_driver MODEL_DIR: JSON lines in and out, or --bench FILE
check_PROGRAMS += tests/tools/tok_driver
tests_tools_tok_driver_SOURCES = tests/tools/tok_driver.c
tests_tools_tok_driver_LDADD = libtext.a liblib.a $(JANSSON_LIBS)
