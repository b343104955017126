"""Strings that a tokenizer may get wrong, the same ones for the same seed.

Used by make_small_tokenizer.py and compare_tokenizer.py.  Lone surrogates are left out: they cannot
come in through JSON.
"""
import random
import unicodedata

ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>",
         "<tool_call>",
         "</tool_call>", "<think>", "</think>", "<tool_response>", "<|fim_prefix|>", "<tts_pad>",
         "<tts_text_bos>", "<tts_text_bos_single>", "<|audio_pad|>", "<|audio_start|>"]
ALMOST = ["<", "<|", "<|im", "<|im_start|", "|>", "<|im_start |>", "< think>", "<think", "</think",
          "<think/>",
          "<<think>", "<|<|im_end|>", "<tts_text_bos_", "<tts_text_bos_single", "<|im_end|>\u0338",
          "<think>\u0301", "\u0301<think>", "<|IM_END|>"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r", "\r\n", "\n\n", "\v", "\f", "\x1c", "\x1d", "\x1f",
          "\x85",
          "\u00a0", "\u1680", "\u180e", "\u2000", "\u2009", "\u200b", "\u2028", "\u2029", "\u202f",
          "\u205f",
          "\u2060", "\u3000", "\ufeff"]
WORDS = """the of and to a in that is was he for it with as his on be at by I this had not are but from or have an
they which one you were all her she there would their we him been has when who will no more if out so up said
what its about than into them can only other time new some could these two may first then do any like my now
over such our man me even most made after also did many off before must well back through years much where
your way down should because long each just state those people too Mr how little good world make very year
still see own work men day get here old between both life being under three never know same last another
while us might great go come since against right came take used himself few house use place during high
without again home around small however found mind thought went say part once general upon school every don't
return int const char static void struct if else for while switch case break import def class self None True
False function var let async await print len range json utf8 http error value index buffer size""".split()
CONTRACTIONS = ["'s", "'S", "'t", "'T", "'re", "'RE", "'Re", "'rE", "'ve", "'VE", "'m", "'M", "'ll",
                "'LL",
                "'lL", "'d", "'D", "'\u017f", "'\u017ft", "\u2019s", "'r", "'l", "'v", "'x", "'",
                "''", "'sa",
                "'\u212a", "'st", "'\ufb05", "'\ufb06", "'\u1e9e", "'\u00df", "'l\u0142",
                "'s\u0301", "'\n", "'1"]
MARKS = ["\u0300", "\u0301", "\u0302", "\u0308", "\u030a", "\u0316", "\u0323", "\u0327", "\u0328",
         "\u031b",
         "\u0334", "\u0338", "\u0344", "\u0345", "\u034f", "\u05b0", "\u05c1", "\u064b", "\u0651",
         "\u0670",
         "\u093c", "\u094d", "\u09be", "\u0b3e", "\u0e38", "\u0f71", "\u0f72", "\u0f74", "\u1037",
         "\u135f",
         "\u1ab0", "\u20d0", "\u3099", "\u309a", "\ufe20", "\U000110ba", "\U0001d165", "\U0001e94a",
         "\u07fd",
         "\u0898", "\U00011f41", "\U00016d68", "\u1161", "\u1175", "\u11a8", "\u11c2"]
EMOJI = ["\U0001f600", "\U0001f680", "\u2764\ufe0f", "\U0001f468\u200d\U0001f469\u200d\U0001f467",
         "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea", "1\ufe0f\u20e3", "\U0001fae8",
         "\U0001f3f3\ufe0f\u200d\U0001f308"]
# One range a script, and what else is likely to be classified wrongly.
RANGES = [(0x00, 0x7f), (0x80, 0xff), (0x100, 0x24f), (0x250, 0x36f), (0x370, 0x3ff),
          (0x400, 0x52f),
          (0x530, 0x58f), (0x590, 0x5ff), (0x600, 0x6ff), (0x700, 0x7ff), (0x800, 0x8ff),
          (0x900, 0x97f),
          (0x980, 0x9ff), (0xa00, 0xaff), (0xb00, 0xbff), (0xc00, 0xcff), (0xd00, 0xdff),
          (0xe00, 0xeff),
          (0xf00, 0xfff), (0x1000, 0x109f), (0x10a0, 0x10ff), (0x1100, 0x11ff), (0x1200, 0x139f),
          (0x13a0, 0x167f), (0x1680, 0x16ff), (0x1700, 0x17ff), (0x1800, 0x18ff), (0x1900, 0x1aff),
          (0x1b00, 0x1cff), (0x1d00, 0x1dff), (0x1e00, 0x1eff), (0x1f00, 0x1fff), (0x2000, 0x206f),
          (0x2070, 0x218f), (0x2190, 0x23ff), (0x2400, 0x27ff), (0x2900, 0x2bff), (0x2c00, 0x2dff),
          (0x2e00, 0x303f), (0x3040, 0x30ff), (0x3100, 0x33ff), (0x3400, 0x4dbf), (0x4e00, 0x9fff),
          (0xa000, 0xa4cf), (0xa4d0, 0xa7ff), (0xa800, 0xabff), (0xac00, 0xd7a3), (0xd7a4, 0xd7ff),
          (0xe000, 0xe0ff), (0xf900, 0xfaff), (0xfb00, 0xfdff), (0xfe00, 0xfeff), (0xff00, 0xffff),
          (0x10000, 0x103ff), (0x10400, 0x107ff), (0x10800, 0x10fff), (0x11000, 0x117ff),
          (0x11800, 0x11fff),
          (0x12000, 0x123ff), (0x13000, 0x1345f), (0x16800, 0x16fff), (0x17000, 0x18cff),
          (0x1b000, 0x1b2ff),
          (0x1bc00, 0x1bcaf), (0x1cf00, 0x1d1ff), (0x1d400, 0x1d7ff), (0x1e000, 0x1e2ff),
          (0x1e400, 0x1e8df),
          (0x1e900, 0x1eeff), (0x1f000, 0x1f9ff), (0x1fa00, 0x1fbff), (0x20000, 0x2a6df),
          (0x2ebf0, 0x323af),
          (0xe0000, 0xe01ff), (0x10fff0, 0x10ffff)]


def one_char(r):
    lo, hi = r.choice(RANGES)
    return chr(r.randint(lo, hi))


def script_word(r):
    lo, hi = r.choice(RANGES)
    return "".join(chr(r.randint(lo, hi)) for _ in range(r.randint(1, 12)))


def run(r):
    atom = r.choice(["a", "A", " ", "\n", "\t", "0", "9", "!", "=", "-", "_", "\u00e9", "e\u0301",
                     "\u0301", "\u4e00",
                     "\U0001f600", "ab", "\r\n", " a", "' ", "\u3000", "<", "\u1100", "\u1161",
                     "\u0323\u0301"])
    return atom * r.choice([2, 3, 5, 8, 13, 31, 32, 33, 40, 41, 64, 65, 127, 128, 129, 200, 700])


def number(r):
    return r.choice(["%d" % r.getrandbits(r.randint(1, 90)), "%.6g" % r.random(), "\u0663\u0664",
                     "\u00b2\u00bd",
                     "\u2167", "\u3007", "\U0001d7ce", "0x%x" % r.getrandbits(40), "1,234.5",
                     "\u0be7\u0be8"])


def punct(r):
    return "".join(r.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\u00a7\u2026\u2014\u201c\u3002\uff0c")
                   for _ in range(r.randint(1, 6)))


def marked(r):
    base = r.choice(["a", "e", "o", "A", "q", "\u00e9", "\u01d7", "\u0915", "\u3046", "\u1ea0", "<",
                     "=", "1", " ", "", "\uac00",
                     "\u1100", "\u0b47", "\u212b", "\u2126", "\uf900", "\U0002f800", "\u0958",
                     "\u0f73", "\u1025"])
    return base + "".join(r.choice(MARKS) for _ in range(r.choice([1, 1, 2, 3, 5, 40])))


PARTS = [(lambda r: r.choice(WORDS), 10), (lambda r: " " + r.choice(WORDS), 10), (script_word, 6),
         (one_char, 6),
         (lambda r: r.choice(SPACES), 8), (lambda r: r.choice(CONTRACTIONS), 3), (number, 3),
         (punct, 5),
         (marked, 4), (lambda r: r.choice(EMOJI), 2), (lambda r: r.choice(ADDED), 2),
         (lambda r: r.choice(ALMOST), 1), (run, 1), (lambda r: r.choice(WORDS).upper(), 1)]


def one_case(r):
    makers, weights = zip(*PARTS)
    if r.random() < 0.3:        # one kind of thing only: longer pieces
        makers = [r.choice(makers)]
        weights = [1]
    n = r.choice([1, 2, 3, 5, 8, 20, 60])
    s = "".join(m(r) for m in r.choices(makers, weights, k=n))
    form = r.random()
    if form < 0.1:
        s = unicodedata.normalize("NFD", s)
    elif form < 0.15:
        s = unicodedata.normalize("NFC", s)
    return s.encode("utf-8", "ignore").decode()


def cases(seed, n):
    r = random.Random(seed)
    return ["", *(one_case(r) for _ in range(n - 1))]


def every_character():
    """All code points, eight a string, each where its class and its normal form show."""
    points = [c for c in range(0x110000) if not 0xd800 <= c <= 0xdfff]
    for i in range(0, len(points), 8):
        yield "".join(f"a{c}b {c}1 {c}! e\u0323{c}\u0302." for c in map(chr, points[i:i + 8]))


def long_ones():
    """One piece or one segment each, long enough for anything quadratic to be felt."""
    for atom in ("a", " ", "7", "\u0301", "a\u0301\u0323", "\U0001f600", "\n", "\r\n", "!",
                 "\u4e2d\u6587", "\uac00",
                 "\u1100\u1161\u11a8", "ab", "xyz ", "<", "<|", "'s", "\u3000", " \n",
                 "\u0915\u094d", "the"):
        yield atom * (20000 // len(atom))
    r = random.Random(7)
    yield "".join(r.choice("abcdefghij") for _ in range(20000))
    yield "a" + "".join(r.choice(MARKS) for _ in range(20000))
    yield "".join(chr(r.randint(0x4e00, 0x9fff)) for _ in range(20000))
