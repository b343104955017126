# The tokenizer: its part of libtext.a, its tests and tools.
libtext_a_SOURCES += \
	worker/text/added.c worker/text/added.h \
	worker/text/bpe.c worker/text/bpe.h \
	worker/text/bytes.c worker/text/bytes.h \
	worker/text/chars.c worker/text/chars.h \
	worker/text/detok.c worker/text/detok.h \
	worker/text/ids.h \
	worker/text/nfc.c worker/text/nfc.h \
	worker/text/pretokenize.c worker/text/pretokenize.h \
	worker/text/tokenizer.c worker/text/tokenizer.h \
	worker/text/tokenizer_impl.h worker/text/tokenizer_json.c \
	worker/text/unicode_class.h worker/text/unicode_nfc.h \
	worker/text/vocab.c worker/text/vocab.h

dist_noinst_SCRIPTS += \
	tests/golden/compare_tokenizer.py \
	tests/golden/make_qwen_tokenizer.py \
	tests/golden/make_small_tokenizer.py \
	tools/unicode/make_tables.py
dist_noinst_DATA += \
	tests/golden/qwen36_ids.jsonl \
	tests/golden/text_cases.py \
	tests/golden/tokenizer/README.md \
	tests/golden/tokenizer/decode.jsonl \
	tests/golden/tokenizer/encode.jsonl \
	tests/golden/tokenizer/tokenizer.json \
	tests/golden/tokenizer/tokenizer_config.json

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/tokenizer_test
TESTS += tests/unit/tokenizer_test
tests_unit_tokenizer_test_SOURCES = tests/unit/tokenizer_test.c tests/unit/unit.h
tests_unit_tokenizer_test_CFLAGS = $(unit_cflags)
tests_unit_tokenizer_test_LDADD = libtext.a $(unit_libs)
endif

# tests/tools/tok_driver MODEL_DIR: JSON lines in and out, or --bench FILE
check_PROGRAMS += tests/tools/tok_driver
tests_tools_tok_driver_SOURCES = tests/tools/tok_driver.c
tests_tools_tok_driver_LDADD = libtext.a $(lib_libs)
