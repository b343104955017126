"""Text that means nothing, around the things to remember in corpus.py."""

import json

import words as W

SENTENCES = """The {a} {n} {v} the {m}.|{P} {v} a {a} {n} {d}.|Every {n} needs a {m}.|{P} and {Q} {v} the {n} near the {m}.|There is a {n} behind the {a} {m}.|On {D} the {n} was {a} and the {m} was {b}.|
{P} asked whether the {n} was {a}.|In {C} people like {f}.|The {n} cost {k} coins.|It took {k} days to reach {C}.|{P} lives near the {m} in {C}.|A {a} {n} and a {b} {m} stood {d} by the road.|
"{A} {n}", said {P}, "that is all."|Nobody {v} the {m}.|The {m} of {C} is {a}, but the {n} is {b}.|At {t} the {n} came back {d}.|{P} wrote a letter about the {a} {n}.|If the {n} is {a}, the {m} is {b}.|
After {k} hours {P} {v} the {n}.|They {v} {k} of the {n}s.|When it rained, {P} {v} the {m} {d}.|The {b} {m} belongs to {P}.|Some {n}s are {a}; others are {b}.|{P} did not like the {n}.|Then the {n} {v} the {m} {d}.|
The word {g} means a {a} {n} in the language of {C}.|{G} is a {n} from {C}.|In {y} the {n} was moved to {C}.|{P} sold {k} {n}s for {l} coins.|The number of {n}s grew from {k} to {l}.|Most of the {n}s came from {G}.|
It was a {a} day.|The sun was shining.|The grass is green.|The sky is blue.|Here we go.|There and back again.|Nothing else happened.|So it went on.|The meeting is about the {n}.|Chapter {k}: The {a} {n}.""".replace("\n", "").split("|")


def sentence(r):
    c = r.choice
    a, n, g = c(W.ADJECTIVES), c(W.NOUNS), W.made_up(r)
    return c(SENTENCES).format(a=a, A=a.capitalize(), b=c(W.ADJECTIVES), n=n, m=c(W.NOUNS), v=c(W.VERBS_PAST), d=c(W.ADVERBS), P=c(W.NAMES), Q=c(W.NAMES), D=c(W.DAYS), C=c(W.CITIES), f=c(W.FOODS),
                               k=r.randint(2, 99), l=r.randint(100, 9999), t=W.clock(r), y=r.randint(1200, 2020), g=g, G=g.capitalize())


def log_line(r):
    return f"{W.date(r)} {W.clock(r)} {r.choice(['INFO', 'WARN', 'DEBUG', 'ERROR'])} {r.choice(W.NOUNS)}: {r.choice(['started', 'stopped', 'ok', 'slow', 'retry', 'sent'])} in {r.randint(1, 9999)} ms"


def record(r):
    return json.dumps({"id": r.randint(1, 99999), "name": r.choice(W.NAMES), r.choice(W.NOUNS): r.choice([W.made_up(r), r.randint(0, 99), True])})


def gibberish(r):
    return " ".join(W.made_up(r, 1, 3) for _ in range(r.randint(4, 12))).capitalize() + "."


def common(r):
    """Frequent words in no order that makes sense."""
    w = [r.choice(W.COMMON) for _ in range(r.randint(5, 18))]
    if r.random() < 0.3:
        w.insert(r.randint(1, 4), r.choice(W.NAMES))
    return " ".join(w).capitalize() + r.choice([".", ".", ".", "!", "?"])


def numbers(r):
    return " ".join(str(r.randint(0, 9999)) for _ in range(r.randint(4, 14)))


def code_line(r):
    return r.choice(["let {x} = {n} + {m};", "if ({x} > {n}) return {y};", "{x} = {y}({n}, {m})", "def {x}({y}):", "    return {x} + {n}", "for {x} in {y}:", "// {x} and {y}", "print({x})"]
                    ).format(x=r.choice(W.NOUNS), y=W.made_up(r, 1, 2), n=r.randint(0, 99), m=r.randint(0, 99))


def mix(r, tokens, facts):
    """About `tokens` tokens of text with the sentences of facts somewhere in it, each at a random depth."""
    style = r.random()
    if style < 0.45:
        make, glue = sentence, " "
    elif style < 0.68:
        make, glue = r.choice([common, lambda q: q.choice([common, sentence])(q)]), " "
    elif style < 0.74:
        same = [sentence(r) for _ in range(r.randint(1, 4))]	# the same few sentences again and again
        make, glue = (lambda q: q.choice(same)), " "
    elif style < 0.80:
        make, glue = gibberish, " "
    elif style < 0.85:
        make, glue = log_line, "\n"
    elif style < 0.89:
        make, glue = record, "\n"
    elif style < 0.92:
        make, glue = numbers, "\n"
    elif style < 0.95:
        make, glue = code_line, "\n"
    else:
        kinds = [sentence, sentence, gibberish, log_line, numbers, record]
        make, glue = (lambda q: q.choice(kinds)(q)), "\n"
    size = tokens * 2.45 * {"\n": 0.72}.get(glue, 1.0)	# bytes a token, by the tokenizer on this text
    lines, have = [], 0
    while have < size:
        s = make(r)
        lines.append(s)
        have += len(s) + 1
    for f in facts:
        lines.insert(r.randint(0, len(lines)), f)
    if glue == "\n":
        return "\n".join(lines)
    out = []
    for s in lines:
        out.append(s)
        out.append("\n\n" if r.random() < 0.06 else " ")
    return "".join(out).strip()
