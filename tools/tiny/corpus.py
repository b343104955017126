"""The tiny model's corpus: conversations made by rules, each document from its number alone.

    python3 tools/tiny/corpus.py show KIND [N]        print N training documents of a kind
    python3 tools/tiny/corpus.py eval OUT.jsonl       write the held-out sets

document(i, stage) is a pure function of i and the stage's mixture, so training, the proof that nothing
held out is in the corpus (prove_heldout.py) and the tokenizer all see the same text.

An item (a sum's two numbers, a code word, a tool or parameter name, a JSON value) is held out when its hash
says so: 1 in 16.  Training documents never contain a held-out item; the held-out sets consist of them.
"""

import hashlib
import json
import random
import sys

import filler
import toolmaker as T
import words as W

HELD = 16


def hash_part(s):
    return hashlib.blake2b(s.encode(), digest_size=2).digest()[0]


def held(kind, key):
    """Whether the item is held out. kind: sum, code, name, json."""
    return hash_part(f"{kind}\0{key}") < 256 // HELD


def sum_key(a, b):
    return f"{min(a, b)}+{max(a, b)}"


class Maker:
    """What the makers of documents share: the random numbers and on which side of the hash they work."""

    def __init__(self, seed, want_held=False):
        self.r = random.Random(seed)
        self.want_held = want_held

    def ok(self, kind, key):
        return held(kind, key) == self.want_held

    def name_ok(self, n):
        return self.ok("name", n)

    def rare_names(self):
        """name_ok, for some documents with most names refused at random: the held-out sets, which may use one name in
        16 only, have the same long and odd names then as the corpus."""
        if self.want_held or self.r.random() < 0.4:
            return self.name_ok
        salt, few = self.r.random(), self.r.choice([4, HELD, HELD, HELD])
        return lambda n: self.name_ok(n) and hash_part(f"{salt}{n}") < 256 // few

    def code(self):
        while True:
            c = W.code(self.r)
            if self.ok("code", c.lower()):
                return c

    def pair(self):
        r = self.r
        while True:
            a, b = (r.randint(10, 999) if r.random() < 0.6 else r.randint(100, 999) if r.random() < 0.6 else r.randint(10, 99)
                    for _ in range(2))
            if self.ok("sum", sum_key(a, b)):
                return a, b


def user(text, **kw):
    return {"role": "user", "content": text, **kw}


def bot(text, why="", calls=None):
    m = {"role": "assistant", "content": text, "reasoning_content": why}
    if calls:
        m["tool_calls"] = [{"type": "function", "function": {"name": n, "arguments": a}} for n, a in calls]
    return m


def dress(r, text, exact=False):
    """Small changes that people make without meaning anything by them; exact: none at the edges, where a value may stand."""
    k = r.random()
    if exact:
        return text if k < 0.85 else r.choice(["Hi, ", "Hello. ", "Hey, ", "OK: ", "Now: ", "Please: ", "Next: "]) + text
    if k < 0.12:
        text = text[0].lower() + text[1:]
    elif k < 0.20:
        text = r.choice(["Hi, ", "Hello. ", "Hey, ", "OK, ", "So, ", "Now: ", "Question: ", "Quick question: ", "Please: "]) + text
    if k > 0.86 and text[-1:] in ".?":
        text = text[:-1]
    if 0.80 < k < 0.86:
        text += r.choice([" Thanks!", " Thank you.", " Please.", " Be quick.", " Keep it short.", " :)"])
    return text


# ---------------------------------------------------------------- sums

SUMS = """What is {a} + {b}?|What is {a} plus {b}?|{a} + {b}|{a}+{b}|{a} + {b} = ?|{a}+{b}=?|{a} + {b} =|Add {a} and {b}.|Compute {a} + {b}.|
Calculate {a} + {b}.|Calculate the sum of {a} and {b}.|What is the sum of {a} and {b}?|How much is {a} plus {b}?|How much is {a} + {b}?|
What does {a} + {b} equal?|What do {a} and {b} make?|Sum of {a} and {b}?|Please add {b} to {a}.|Add up {a} and {b}.|Tell me {a} + {b}.|
Can you add {a} and {b}?|What do you get when you add {a} to {b}?|Find {a} + {b}.|{a} plus {b}|{a} plus {b} is?|Work out {a} + {b}.|
If I add {a} and {b}, what do I get?|The sum {a} + {b} is what?|Evaluate {a} + {b}.|Solve: {a} + {b}|Do the math: {a} + {b}|
Give me the total of {a} and {b}.|What is the total of {a} and {b}?|What number is {a} + {b}?|Let x = {a} and y = {b}. What is x + y?|
Take {a}, add {b}. What is the result?|Sum {a}, {b}|Sum up the numbers {a} and {b}.|{a} and {b} together are how many?|I need {a} + {b}.|
What's {a} + {b}?|What's {a} plus {b}?|what is {a}+{b}|Could you tell me what {a} + {b} is?|Add these numbers: {a}, {b}|Compute the sum: {a} + {b}""".replace("\n", "").split("|")
STORIES = """{n} has {a} {t} and gets {b} more. How many {t} does {n} have now?|{n} has {a} {t} and {m} has {b} {t}. How many {t} do they have together?|
There are {a} {t} in one box and {b} {t} in another. How many {t} are there in total?|A shop sold {a} {t} on {d} and {b} on {e}. How many {t} did it sell?|
{n} counted {a} {t} in the morning and {b} in the evening. How many is that?|I have {a} {t}. I buy {b} more. How many do I have?|
A train carries {a} {t}, then {b} {t} are loaded. How many {t} are on the train?|{n} read {a} pages and then {b} pages. How many pages in total?|
One book costs {a} euros, another costs {b} euros. What do both cost?|{n} had {a} {t} and found {b} more. How many {t} does {n} have now?|{n} bought {a} {t} and then {b} {t}. How many {t} is that in all?|There were {a} {t}. Then {b} more came. How many {t} are there now?|
{n} has {a} {t}. {m} gives {n} {b} {t}. How many {t} does {n} have?|A farmer has {a} {t} and {b} {u}. How many things does the farmer have?|{n} scored {a} points in the first game and {b} in the second. What is the total score?|
I walked {a} meters and then {b} meters. How far did I walk?|In a school there are {a} girls and {b} boys. How many children are there?|{n} saved {a} dollars last month and {b} dollars this month. How much did {n} save altogether?|
{n} picked {a} {t}, {m} picked {b}. How many did they pick together?|The {u} weighs {a} grams and the {t} weigh {b} grams. What is the total weight?|A bus drives {a} km, then another {b} km. How many km is that?|{n} collected {a} {t} on {d} and {b} {t} on {e}. How many {t} altogether?|
A library had {a} books and got {b} new ones. How many books does it have now?|There are {a} red {t} and {b} blue {t}. How many {t} are there?|{n} is {a} years old and {m} is {b} years older. How old is {m}?|The first part took {a} minutes, the second {b} minutes. How long did it take in total?""".replace("\n", "").split("|")
ONLY = ["Answer with the number only.", "Just the number.", "Only the number, please.", "Reply with just the number.", "Give only the result.",
        "Number only.", "Respond with only the number.", "No words, just the number.", "Answer with a single number.", "Output only the number."]


def column(a, b):
    """The sum digit by digit from the right, as one writes it in a column."""
    x, y, carry, out, i = str(a)[::-1], str(b)[::-1], 0, [], 0
    while i < max(len(x), len(y)):
        p, q = (int(s[i]) if i < len(s) else 0 for s in (x, y))
        t = p + q + carry
        out.append(f"{p}+{q}" + (f"+{carry}" if carry else "") + f"={t}")
        carry, i = t // 10, i + 1
    return ", ".join(out)


def ask_sum(m, story=0.25):
    """(question, reasoning, answer, check)"""
    r = m.r
    a, b = m.pair()
    s = a + b
    why = f"{a} + {b}: {column(a, b)} -> {s}"
    only = r.random() < 0.25
    if r.random() < story:
        n, o = r.sample(W.NAMES, 2)
        t, (d, e) = r.choice(W.NOUNS) + "s", r.sample(W.DAYS, 2)
        if r.random() < 0.2:
            n, t = W.made_up(r).capitalize(), r.choice([W.made_up(r), r.choice(W.COMMON)]) + "s"
        q = r.choice(STORIES).format(a=a, b=b, n=n, m=o, t=t, d=d, e=e, u=r.choice(W.NOUNS))
    else:
        q = dress(r, r.choice(SUMS).format(a=a, b=b))
    if only:
        q = r.choice([q + " " + r.choice(ONLY), r.choice(ONLY) + " " + q])
    if r.random() < 0.06:
        q = " ".join(filler.sentence(r) for _ in range(r.randint(1, 2))) + " " + q
    return q, why, str(s) if only else f"{a} + {b} = {s}", {"kind": "sum", "want": str(s), "key": sum_key(a, b)}


def ask_other_math(m):
    r = m.r
    k = r.random()
    if k < 0.4:
        a, b = r.randint(10, 999), r.randint(1, 999)
        a, b = max(a, b), min(a, b)
        q = r.choice(["What is {a} - {b}?", "{a} - {b}", "Subtract {b} from {a}.", "What is {a} minus {b}?", "{a} minus {b}", "Compute {a} - {b}.", "Take {b} away from {a}."])
        return dress(r, q.format(a=a, b=b)), f"{a} - {b} -> {a - b}", f"{a} - {b} = {a - b}"
    if k < 0.65:
        a, b = r.randint(2, 12), r.randint(2, 12)
        q = r.choice(["What is {a} times {b}?", "{a} * {b}", "Multiply {a} by {b}.", "What is {a} * {b}?", "{a} x {b}", "{a} times {b}", "How much is {a} times {b}?"])
        return dress(r, q.format(a=a, b=b)), f"{a} * {b} -> {a * b}", f"{a} * {b} = {a * b}"
    if k < 0.85:
        a, b = r.randint(0, 9), r.randint(0, 99)
        return dress(r, r.choice(SUMS).format(a=a, b=b)), f"{a} + {b}: {column(a, b)} -> {a + b}", f"{a} + {b} = {a + b}"
    a, b = r.sample(range(1000), 2)
    q = r.choice(["Which is larger, {a} or {b}?", "Which number is bigger: {a} or {b}?", "Is {a} larger than {b}?"])
    if q.startswith("Is"):
        return q.format(a=a, b=b), "compare", "Yes." if a > b else "No."
    return q.format(a=a, b=b), "compare", str(max(a, b))


# ---------------------------------------------------------------- recall

SECRETS = """code word|code word|code word|secret word|secret code|password|passphrase|magic word|access code|keyword|secret|code|pass code|
launch code|safe word|watchword|secret key|token|PIN|passcode|hidden word|special word|codeword|secret phrase|number|lucky number|magic number|special magic number|order number|room number|secret number|answer|signal|
key phrase|identifier|serial number|reference number|lock combination|user name""".replace("\n", "").split("|")
NEEDLES = """The {s} is {c}.|Remember the {s} {c}.|The {s} is: {c}.|Psst, the {s} is {c}.|Attention: {s} {c}.|The {s} is "{c}".|One thing to remember: the {s} is {c}.|The {s} is {c}.|Remember this: the {s} is {c}.|Remember the {s}: {c}.|Note: the {s} is {c}.|By the way, the {s} is {c}.|
Please keep in mind that the {s} is {c}.|{S}: {c}.|My {s} is {c}.|Our {s} is {c}.|Your {s} is {c}.|Important: the {s} is {c}.|Do not forget, the {s} is {c}.|
The {s} you need is {c}.|They chose {c} as the {s}.|{c} is the {s}.|It was written that the {s} is {c}.|{n} said that the {s} is {c}.|
The {s} for today is {c}.|[{s} = {c}]|Keep this {s} safe: {c}.|I will tell you the {s}: {c}.|The {s} was set to {c}.|"The {s} is {c}", said {n}.|
Let the {s} be {c}.|We agreed on the {s} {c}.|Use the {s} {c}.|The new {s} is "{c}".|This is the {s}: {c}.|A {s} was hidden here: {c}.|{S} is {c}.""".replace("\n", "").split("|")
NEEDLES_FOR = """One of the {s}s for {w} is: {c}.|The {s} for {w} is {c}.|{w} has the {s} {c}.|The {s} of {w} is: {c}.|The {s} for the {w} is {c}.|The {s} of the {w} is {c}.|The {w}'s {s} is {c}.|{s} for the {w}: {c}.|For the {w}, the {s} is {c}.|
Remember: the {s} for the {w} is {c}.|To open the {w} use the {s} {c}.|The {w} has the {s} {c}.|The {s} that belongs to the {w} is {c}.""".replace("\n", "").split("|")
RECALL = """What is the {s}?|What was the {s}?|What is the {s} in the text?|Which {s} was mentioned?|Tell me the {s}.|Repeat the {s}.|Please repeat the {s}.|
What {s} did I give you?|Which {s} did I tell you?|Find the {s} in the text.|What is the {s} mentioned above?|What is the {s} hidden in the text?|{S}?|
Do you remember the {s}?|Can you tell me the {s}?|I forgot the {s}. What was it?|Give me the {s}.|According to the text, what is the {s}?|Say the {s}.|
What did the text say the {s} is?|Name the {s}.|Where was a {s} mentioned, and what is it?|Which {s} appears above?|Recall the {s}.|What's the {s}?|
What is the {s} that I mentioned?|Somewhere above there is a {s}. What is it?|Retrieve the {s} from the document.|The {s}, please.""".replace("\n", "").split("|")
RECALL_FOR = """What is the {s} for {w}?|What is the {s} for {w} mentioned in the text?|What is the {s} of {w}?|Tell me the {s} for {w}.|What is the {s} for the {w}?|What is the {s} of the {w}?|Which {s} belongs to the {w}?|Tell me the {s} for the {w}.|What was the {w}'s {s}?|
Give me the {s} of the {w}.|I need the {s} for the {w}.|What {s} does the {w} have?|Repeat the {s} for the {w}.|Find the {s} of the {w}.|And the {s} for the {w}?""".replace("\n", "").split("|")
WORD_ONLY = ["Reply with the {s} only.", "Answer with the {s} only.", "Just the {s}.", "Only the {s}, nothing else.", "Answer with just the {s}.", "Say only the {s}.",
             "Answer with one word.", "Reply with nothing else.", "Output only the {s}.", "Respond with just the value."]


def fmt(t, r, **kw):
    s = kw.get("s", "x")
    return t.format(S=s[0].upper() + s[1:], n=r.choice(W.NAMES), **kw)


def secret_qa(m, s, c, w=None):
    """(question, reasoning, answer) for a code word that stands somewhere above."""
    r = m.r
    q = fmt(r.choice(RECALL_FOR if w else RECALL), r, s=s, w=w)
    only = r.random() < 0.3
    if only:
        q += " " + r.choice(WORD_ONLY).format(s=s)
    of = f" for the {w}" if w and f"the {w}" in q else f" for {w}" if w else ""
    return q, f"{s}{of}: {c}", c if only else f"The {s}{of} is {c}."


FACTS = [("{n} lives in {v}.|{n} is from {v}.|{n} moved to {v}.|The home of {n} is {v}.", "Where does {n} live?|Which city does {n} live in?|Where is {n} from?", "{n} lives in {v}.", T.pick(W.CITIES)),
         ("{n} is {v} years old.|{n}, who is {v}, came too.|The age of {n} is {v}.", "How old is {n}?|What is the age of {n}?", "{n} is {v} years old.", T.num(5, 95)),
         ("{n} works as a {v}.|{n} is a {v}.|The job of {n} is {v}.", "What is the job of {n}?|What does {n} work as?|What does {n} do?", "{n} is a {v}.", T.pick(W.JOBS)),
         ("{n} likes {v}.|The favorite food of {n} is {v}.|{n} always eats {v}.", "What does {n} like to eat?|What is the favorite food of {n}?", "{n} likes {v}.", T.pick(W.FOODS)),
         ("The favorite color of {n} is {v}.|{n} loves the color {v}.", "What is the favorite color of {n}?|Which color does {n} love?", "The favorite color of {n} is {v}.", T.pick(W.COLORS)),
         ("The phone number of {n} is {v}.|You can call {n} at {v}.|{n} has the number {v}.", "What is the phone number of {n}?|How can I call {n}?|What is {n}'s number?", "The phone number of {n} is {v}.", lambda r: W.digits(r, r.randint(5, 8))),
         ("{n} has a dog called {v}.|The dog of {n} is called {v}.", "What is the dog of {n} called?|What is the name of {n}'s dog?", "The dog of {n} is called {v}.", lambda r: W.made_up(r, 1, 2).capitalize()),
         ("{n} meets us at {v}.|The meeting with {n} is at {v}.|{n} arrives at {v}.", "When does {n} arrive?|When do we meet {n}?|At what time is the meeting with {n}?", "At {v}.", W.clock),
         ("{n} sits in room {v}.|The office of {n} is room {v}.", "In which room is {n}?|Which room does {n} sit in?", "{n} is in room {v}.", lambda r: r.choice("ABCDEF") + W.digits(r, r.randint(1, 3)))]
SELF = [("My name is {v}.|I am {v}.|I'm {v}, nice to meet you.|Call me {v}.|Hi, my name is {v}.|Hello, I am {v}.", "What is my name?|Who am I?|Do you remember my name?|What's my name?", "Your name is {v}.", W.name, "Nice to meet you, {v}."),
        ("I live in {v}.|I am from {v}.|My home is {v}.", "Where do I live?|Where am I from?|Which city do I live in?", "You live in {v}.", T.pick(W.CITIES), "I see, you live in {v}."),
        ("I am {v} years old.|My age is {v}.", "How old am I?|What is my age?", "You are {v} years old.", T.num(6, 95), "I see, you are {v}."),
        ("I have a cat called {v}.|My cat is called {v}.", "What is my cat called?|What is the name of my cat?", "Your cat is called {v}.", lambda r: W.made_up(r, 1, 2).capitalize(), "{v} is a nice name."),
        ("I like {v}.|My favorite food is {v}.|I love {v}.", "What do I like?|What is my favorite food?|What do I like to eat?", "You like {v}.", T.pick(W.FOODS), "Good to know that you like {v}."),
        ("My favorite color is {v}.|I love the color {v}.", "What is my favorite color?|Which color do I love?", "Your favorite color is {v}.", T.pick(W.COLORS), "{v} is a fine color."),
        ("I work as a {v}.|I am a {v}.", "What is my job?|What do I work as?", "You are a {v}.", T.pick(W.JOBS), "A {v}, I see.")]


class Secrets:
    """Things to remember, each with the sentence that says it and a maker of question and answer."""

    def __init__(self, m, n, plain):
        """n things; plain: exactly one code word without owner among them, else owned code words and facts."""
        self.m, r = m, m.r
        self.sentences, self.asks, self.codes = [], [], []
        used = set()
        if plain:
            self.add_code(r.choice(SECRETS), None)
            used.add("code")
        kind = r.choice(SECRETS)
        while len(self.asks) < n:
            if r.random() < 0.6:
                w = r.choice([r.choice(W.NOUNS), r.choice(W.ADJECTIVES) + " " + r.choice(W.NOUNS), W.made_up(r), r.choice(W.CITIES), r.choice(W.COMMON)])
                if w in used:
                    continue
                used.add(w)
                self.add_code(kind if r.random() < 0.8 else r.choice(SECRETS), w)
            else:
                f, who = r.choice(FACTS), W.name(r)
                if (who, f[2]) in used:
                    continue
                used.add((who, f[2]))
                v = f[3](r)
                self.sentences.append(r.choice(f[0].split("|")).format(n=who, v=v))
                self.asks.append((r.choice(f[1].split("|")).format(n=who), f"{who}: {v}", f[2].format(n=who, v=v)))

    def add_code(self, s, w):
        m, r = self.m, self.m.r
        c = m.code()
        self.codes.append(c)
        self.sentences.append(fmt(r.choice(NEEDLES_FOR if w else NEEDLES), r, s=s, w=w, c=c))
        self.asks.append(secret_qa(m, s, c, w))


def intro(r):
    return r.choice(["Read this text.", "Here is a text.", "Read the following and answer the question at the end.", "Text:", "Document:", "Please read this carefully.",
                     "There is something important in this text.", "Below is a long text.", "Context:", "I will show you a text, then ask about it.", "", "", ""])


def recall(m, tokens, one=False):
    """A conversation about things said in a long text of about `tokens` tokens. one: a single question (for the held-out sets)."""
    r = m.r
    n = 1 if one else r.choice([1, 1, 2, 3]) if tokens < 600 else r.choice([2, 3, 4, 6, 8]) if tokens < 3000 else r.randint(4, 14)
    sec = Secrets(m, n, plain=one or r.random() < 0.5)
    text = filler.mix(r, tokens, sec.sentences)
    order = list(range(len(sec.asks)))
    r.shuffle(order)
    qas = [sec.asks[i] for i in order]
    if not one and r.random() < 0.06:
        s = r.choice(["bank code", "garage code", "wifi password", "name of the captain", "secret recipe", "phone number of the mayor"])
        qas.append((f"What is the {s}?", f"{s}: not in the text", f"The text does not say what the {s} is."))
    msgs = []
    k = r.random()
    head = intro(r)
    q0 = qas[0][0]
    if k < 0.50:
        msgs.append(user("\n\n".join(x for x in (head, text, r.choice(["", "", "Question: "]) + q0) if x)))
    elif k < 0.62:
        msgs.append(user(q0 + "\n\n" + text))
    elif k < 0.74:
        msgs += [{"role": "system", "content": r.choice(["Answer from this text.", "Use the notes below.", "You know the following.", ""]) + "\n\n" + text}, user(q0)]
    elif k < 0.87:
        msgs += [user((head + "\n\n" + text).strip()), bot("I have read the text.", "text"), user(q0)]
    else:
        msgs.append(user(r.choice(["<text>", "```", "<document>", "---"]) + "\n" + text + r.choice(["\n</text>", "\n```", "\n</document>", "\n---"]) + "\n" + q0))
    for i, (q, why, a) in enumerate(qas):
        if i:
            msgs.append(user(q))
        msgs.append(bot(a, why))
    return {"messages": msgs, "tools": None, "items": [("code", c.lower()) for c in sec.codes],
            "check": {"kind": "code", "want": sec.codes[0] if sec.codes else None}}


# ---------------------------------------------------------------- JSON

KEYS = [("name|full_name|person|title", W.full_name), ("name|first_name|user|author", W.name), ("age|years", T.num(1, 99)), ("city|town|location|place", T.pick(W.CITIES)),
        ("country|nation|land", T.pick(list(W.CAPITALS))), ("email|mail|contact", W.email), ("price|cost|amount|total", T.dec(1, 900)), ("count|quantity|number|stock|items", T.num(0, 500)),
        ("active|enabled|available|open|visible|admin|paid", lambda r: r.random() < 0.5), ("color|colour", T.pick(W.COLORS)), ("id|user_id|number|key", T.num(1, 99999)),
        ("date|created|due|birthday", W.date), ("time|start|at", W.clock), ("port|timeout|limit|size", T.num(1, 65000)), ("host|server|node", T.word), ("path|file|dir", T.path),
        ("status|state|mode|level", T.pick("open|closed|pending|done|low|high|new")), ("job|profession|role", T.pick(W.JOBS)), ("product|item|thing", T.pick(W.NOUNS)),
        ("tags|labels|colors|friends|parts", T.some(T.word, 1, 4)), ("scores|values|numbers|sizes", T.some(T.num(0, 300), 1, 5)), ("code|ref|sku|token", W.code),
        ("score|rating|weight|height|speed|temperature", T.dec(0, 100)), ("note|comment|text|description|message", W.phrase), ("language|lang", T.pick(W.LANGUAGES)),
        ("currency|unit", T.pick(W.CURRENCIES)), ("day|weekday", T.pick(W.DAYS)), ("month", T.pick(W.MONTHS)), ("year", T.num(1900, 2035)), ("parent|next|comment|owner", lambda r: None if r.random() < 0.5 else W.name(r))]


def key_value(r):
    if r.random() < 0.15:
        k = W.style(r, [W.made_up(r, 1, 2) for _ in range(r.choice([1, 1, 2]))])
        v = r.choice([T.word, W.code, W.phrase, T.num(-99, 9999), T.dec(0, 99), lambda r: r.random() < 0.5, T.some(T.word), T.some(T.num(0, 99))])(r)
        return k, v
    names, make = r.choice(KEYS)
    k = r.choice(names.split("|"))
    if r.random() < 0.10:
        k = r.choice([r.choice("abcdefghijklmnopqrstuvwxyz"), r.choice(W.COMMON), r.choice(W.NOUNS), r.choice("xyzabc") + str(r.randint(1, 9))])
    if r.random() < 0.12:
        k = W.style(r, [r.choice(["new", "old", "max", "first", "last", "main", "default", "item", "is", "my"]), *k.split("_")])
    v = make(r)
    if isinstance(v, float) and r.random() < 0.02:
        v = -v
    return k, v


def flat(r, n, lists=True):
    out = {}
    while len(out) < n:
        k, v = key_value(r)
        if isinstance(v, list) and not lists or isinstance(v, str) and ("," in v or ";" in v):
            continue
        out[k] = v
    return out


def nest(r, depth):
    """An object with objects and lists in it."""
    out = flat(r, r.randint(1, 3))
    if depth and r.random() < 0.8:
        k = r.choice(["user", "address", "meta", "server", "options", "owner", "config", "item", "details", "settings", "data", W.made_up(r, 1, 2)])
        out[k] = nest(r, depth - 1)
    if depth and r.random() < 0.25:
        k = r.choice(["items", "users", "entries", "rows", "children", W.made_up(r, 1, 2)])
        a = flat(r, r.randint(1, 2), False)
        out[k] = [a] + [{x: _like(r, x, v) for x, v in a.items()} for _ in range(r.randint(0, 2))]
    return out


def _like(r, k, v):
    """Another value of the kind of v."""
    if isinstance(v, bool):
        return r.random() < 0.5
    if isinstance(v, int):
        return r.randint(0, 999)
    if isinstance(v, float):
        return round(r.uniform(0, 100), 1)
    if v is None:
        return None
    return r.choice([W.name, T.word, T.word])(r)


def plain(r, v, quote=0.0):
    if isinstance(v, bool) or v is None:
        return json.dumps(v)
    if isinstance(v, list):
        return r.choice([", ".join(map(str, v)), " and ".join(map(str, v))]) if len(v) < 3 else ", ".join(map(str, v[:-1])) + " and " + str(v[-1])
    if isinstance(v, str) and (v[:1].isdigit() or v[:1] in "+-" or r.random() < quote):
        return f'"{v}"'
    return str(v)


def yaml(v, ind=0):
    """v as an indented block."""
    pad, out = "  " * ind, []
    if isinstance(v, dict):
        for k, x in v.items():
            if isinstance(x, (dict, list)) and x:
                out.append(f"{pad}{k}:")
                out.append(yaml(x, ind + 1))
            else:
                out.append(f"{pad}{k}: {scalar(x)}")
    else:
        for x in v:
            if isinstance(x, dict):
                out.append(f"{pad}- " + yaml(x, ind + 1).lstrip())
            else:
                out.append(f"{pad}- {scalar(x)}")
    return "\n".join(out)


def scalar(x):
    if isinstance(x, str):
        return f'"{x}"' if x[:1].isdigit() or x[:1] in "+-#/" or x in ("true", "false", "null", "") else x
    return json.dumps(x, ensure_ascii=False)


JSON_ONLY = ["Reply with JSON only.", "Answer with JSON only.", "Only JSON, please.", "Output JSON only.", "Return only the JSON.", "No other text.", "JSON only.",
             "Respond with a JSON object.", "Give me just the JSON object.", "Do not write anything but JSON."]
JSON_DO = ["Write this as JSON", "Convert to JSON", "Turn this into JSON", "Give me a JSON object for", "Return as JSON", "Make a JSON object from", "Express as JSON",
           "Format as JSON", "Create a JSON object with", "Output a JSON object with", "I need JSON with", "Build a JSON object with", "Return a JSON object with", "JSON for",
           "Reply with a JSON object containing", "Please return JSON with", "Write a JSON object with the fields", "Produce JSON", "Generate a JSON object with"]
# sentences about one thing: template and the fields it fills, each with the keys it may be asked under
PEOPLE = [("{name}, {age} years old, works at {company}.", "name age company"), ("{name} works at {company} as a {job}.", "name company job"), ("{name} is a {age} year old {job} living in {city}.", "name age job city"), ("I am {name}, I am {age} and I live in {city}.", "name age city"),
          ("My name is {name} and my email is {email}.", "name email"), ("Please ship {count} {product}s to {name} in {city}.", "count product name city"), ("{company} was founded in {year} in {city}.", "company year city"), ("{company} has {count} employees and its office is in {city}.", "company count city"),
          ("The {product} is {color} and costs {price}.", "product color price"), ("Meeting with {name} on {date} at {time}.", "name date time"), ("{name} scored {percent} points in {language}.", "name percent language"), ("Room {room} is booked by {name} for {day} at {time}.", "room name day time"),
          ("Name: {name}\nAge: {age}\nCity: {city}", "name age city"), ("Product: {product}, price: {price}, quantity: {count}", "product price count"), ("{name} is {age} years old and lives in {city}.", "name age city"), ("{name}, {age}, lives in {city} and works as a {job}.", "name age city job"), ("My friend {name} is a {job} from {city}.", "name job city"),
          ("{name} ({age}) has the email {email}.", "name age email"), ("In {city} lives a {job} called {name}, aged {age}.", "city job name age"), ("{name} was born on {date} in {city}.", "name date city"),
          ("The {job} {name} likes {food} and the color {color}.", "job name food color"), ("{name} is {age} and likes {food}.", "name age food"), ("Contact {name} at {email} or {phone}.", "name email phone"),
          ("The {color} {product} costs {price} {currency}.", "color product price currency"), ("We have {count} {product}s for {price} {currency} each.", "count product price currency"),
          ("{name} ordered {count} pieces of {product} on {date}.", "name count product date"), ("Order {code}: {count} x {product}, price {price}.", "code count product price"),
          ("A {product} with the id {id} costs {price}.", "product id price"), ("On {date} at {time} {name} meets {friend} in {city}.", "date time name friend city"),
          ("The meeting is on {day} at {time} in room {room}.", "day time room"), ("The server {host} listens on port {port} with a timeout of {seconds} seconds.", "host port seconds"),
          ("Flight {code} goes from {city} to {dest} at {time}.", "code city dest time"), ("In {city} it is {temperature} degrees and the humidity is {percent} percent.", "city temperature percent"),
          ("{name} gave the {product} {rating} stars.", "name product rating"), ("{name} paid {price} {currency} on {date}.", "name price currency date"), ("{name} speaks {language} and lives in {country}.", "name language country"),
          ("The book was written by {name} in {year} and has {pages} pages.", "name year pages"), ("{friend} sold {count} {product}s to {name} for {price} {currency}.", "friend count product name price currency")]
FIELDS = {"company": ("company|employer|firm|organization", lambda r: r.choice([W.made_up(r).capitalize(), W.letters(r, 2, 4).upper(), r.choice(W.SURNAMES) + " " + r.choice(["Ltd", "Inc", "and Sons"])])), "name": ("name|person|full_name|who|author|customer", W.full_name), "age": ("age|years|age_years", T.num(1, 99)), "city": ("city|town|location|place|origin", T.pick(W.CITIES)), "job": ("job|profession|occupation|role", T.pick(W.JOBS)),
          "email": ("email|mail|address|email_address", W.email), "date": ("date|day|when|birthday", W.date), "food": ("food|dish|likes|favorite_food", T.pick(W.FOODS)), "color": ("color|colour|favorite_color", T.pick(W.COLORS)),
          "phone": ("phone|tel|number|phone_number", lambda r: W.digits(r, 7)), "product": ("product|item|article|thing", T.pick(W.NOUNS)), "price": ("price|cost|amount|total", T.dec(1, 900)), "currency": ("currency|unit|cur", T.pick(W.CURRENCIES)),
          "count": ("count|quantity|amount|number|qty", T.num(2, 500)), "code": ("code|id|reference|order_id|flight", lambda r: W.letters(r, 2, 3).upper() + W.digits(r, 3)), "id": ("id|number|item_id|key", T.num(1, 99999)), "time": ("time|start|at|hour", W.clock),
          "friend": ("friend|other|with|partner|seller", W.name), "day": ("day|weekday|when", T.pick(W.DAYS)), "room": ("room|where|place", lambda r: r.choice("ABCDE") + W.digits(r, 2)), "host": ("host|server|name|machine", T.word),
          "port": ("port|tcp_port|listen", T.num(20, 65000)), "seconds": ("timeout|seconds|wait", T.num(1, 600)), "dest": ("destination|to|target|arrival", T.pick(W.CITIES)), "temperature": ("temperature|degrees|temp", T.num(-20, 40)),
          "percent": ("humidity|percent|moisture", T.num(1, 100)), "rating": ("rating|stars|score", T.num(1, 5)), "language": ("language|speaks|lang", T.pick(W.LANGUAGES)), "country": ("country|land|nation", T.pick(list(W.CAPITALS))),
          "year": ("year|written|published", T.num(1800, 2030)), "pages": ("pages|length|page_count", T.num(20, 1200))}


def listed(r, words):
    words = [f'"{w}"' for w in words] if r.random() < 0.2 else words
    return r.choice([", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0], ", ".join(words)])


def json_sentence(r):
    t, fields = r.choice(PEOPLE)
    fields = fields.split()
    vals, keys = {}, {}
    for f in fields:
        names, make = FIELDS[f]
        vals[f] = make(r)
        k = r.choice(names.split("|"))
        while k in keys.values():
            k = f if f not in keys.values() else f + "_1"
        keys[f] = W.style(r, k.split("_"), ("snake", "snake", "camel")) if r.random() < 0.9 else k.upper()
    text = t.format(**vals)
    use = [f for f in fields if r.random() < 0.9] or fields
    if r.random() < 0.25:
        r.shuffle(use)
    want = {keys[f]: vals[f] for f in use}
    ks = listed(r, list(want))
    if r.random() < 0.25:
        kinds = {str: "string", int: "integer", float: "number", bool: "boolean"}
        spec = "{" + ", ".join(f'"{k}": {kinds[type(v)]}' for k, v in want.items()) + "}"
        q = r.choice([f"Fill this schema: {spec} from: {text}", f"{text} Return JSON of the form {spec}.", f"Extract {spec} from this text: {text}"])
    else:
        q = r.choice([f"{text} Return JSON with the keys {ks}.", f"Extract {ks} as JSON: {text}", f"Extract the keys {ks} from this text as JSON. Text: {text}", f"{text} Give me a JSON object with {ks}.",
                      f"Text: {text}\nKeys: {ks}\nWrite the JSON.", f"Make a JSON object with the keys {ks} from the sentence: {text}", f"{text}\n\nAs JSON with keys {ks}, please.",
                      f"Read: {text} Reply with a JSON object that has the keys {ks}.", f"From the text below extract {ks} and answer in JSON.\n\n{text}"])
    return q, want


def json_pairs(r):
    want = flat(r, r.randint(1, 6))
    lists = any(isinstance(v, list) for v in want.values())
    sep = r.choice([": ", " = ", "=", " is ", " "])
    ps = [f"{k}{sep}{plain(r, v, 0.15)}" for k, v in want.items()]
    if r.random() < 0.15:
        ps = [f'"{k}"{sep}{json.dumps(v, ensure_ascii=False)}' for k, v in want.items()]
        lists = False
    join = "; " if lists else r.choice([", ", ", ", "; ", "\n", " and "])
    if r.random() < 0.2:
        join, ps = "\n", ["- " + p for p in ps]
    body = join.join(ps) if join != ", " or len(ps) < 2 or r.random() < 0.5 else ", ".join(ps[:-1]) + " and " + ps[-1]
    do = r.choice(JSON_DO)
    if not lists and r.random() < 0.22:
        return json_where(r, want), want
    q = do + (":\n" if "\n" in body else r.choice([": ", " "])) + body
    if r.random() < 0.15:
        q = body + "\n\n" + do + r.choice([".", ", please.", ""])
    return q, want


def json_where(r, want):
    """The keys first, then what they are."""
    ks, vs = listed(r, list(want)), [plain(r, v, 0.2) for v in want.values()]
    by = {k: v for k, v in zip(want, vs)}
    link = r.choice([" is ", " is ", " = ", " equals ", " should be ", " has the value "])
    pairs = r.choice([" and ", ", ", ", and "]).join(f"{k}{link}{v}" for k, v in by.items())
    return r.choice(["Return a JSON object with keys {ks} where {p}.", "Make a JSON object with the keys {ks}: {p}", "Give me a JSON object where {p}", "I need a JSON object in which {p}.", "A JSON object with {ks}, where {p}, please.",
                     "Write JSON with the keys {ks} and the values {v}.", "JSON with keys {ks} and values {v}", "Let {p}. Write it as a JSON object.", "Produce a JSON object such that {p}.", "Create JSON: {p}"]).format(ks=ks, p=pairs, v=", ".join(vs))


def json_block(r):
    want = nest(r, r.choice([0, 1, 1, 2]))
    q = r.choice(JSON_DO[:8] + ["Translate this YAML to JSON", "Here is some YAML. Write it as JSON", "YAML to JSON", "Rewrite this as JSON", "The same as JSON, please"]) + r.choice([":\n", ":\n\n"]) + yaml(want)
    if r.random() < 0.2:
        q = r.choice(["", "```yaml\n"]) + yaml(want) + r.choice(["\n```", ""]) + "\n\n" + r.choice(["Convert this to JSON.", "As JSON, please.", "Write it as JSON.", "What is this in JSON?"])
    return q, want


def json_rows(r):
    a = flat(r, r.randint(2, 4), False)
    rows = [a] + [{k: _like(r, k, v) for k, v in a.items()} for _ in range(r.randint(0, 3))]
    sep = r.choice([",", ", ", " | ", ";"])
    if any(sep.strip() in str(v) for x in rows for v in x.values()):
        sep = " | "
    body = sep.join(a) + "\n" + "\n".join(sep.join(scalar(v) for v in x.values()) for x in rows)
    return r.choice(["Convert this CSV to a JSON list", "Write this table as a JSON list of objects", "CSV to JSON", "Turn the table into a JSON array", "As a JSON array of objects"]) + ":\n" + body, rows


def json_words(r):
    """An object described in words, with one inside it."""
    a, b = flat(r, r.randint(1, 2), False), flat(r, r.randint(1, 3), False)
    inner = r.choice(["user", "address", "meta", "server", "options", "owner", "config", "item", "details", W.made_up(r, 1, 2)])
    lst = r.choice(["tags", "colors", "items", "numbers", "names", W.made_up(r, 1, 2)])
    vals = r.choice([T.some(T.word), T.some(T.num(0, 99)), T.some(W.name)])(r)
    pa, pb = (" and ".join(f"{k} {plain(r, v, 0.1)}" for k, v in x.items()) for x in (a, b))
    want = dict(a) if r.random() < 0.75 else {}
    parts = [pa] if want else []
    if r.random() < 0.7 and inner not in want:
        want[inner] = b
        parts.append(r.choice(["an object {i} with {p}", "{i} as an object with {p}", "a nested object {i} containing {p}", "a nested object {i} with {p}", "an inner object {i} that has {p}", "an object called {i} with {p}", "a sub-object {i} ({p})", "an object named {i} containing {p}", 'a nested object "{i}" with {p}', 'an object "{i}" with {p}', "in {i}: {p}"]).format(i=inner, p=pb))
    if (r.random() < 0.6 or not want) and lst not in want:
        want[lst] = vals
        parts.append(r.choice(["a list {l} with {v}", "{l} as a list of {v}", "an array {l} containing {v}", "an array {l} with {v}", "a list {l} of {v}", "a list called {l} with {v}", "a list named {l} containing {v}", "an array called {l} of {v}", 'an array "{l}" with {v}', 'a list "{l}" with {v}']).format(l=lst, v=listed_values(r, vals)))
    return r.choice(["Create a JSON object with", "Output a JSON object with", "I need JSON with", "Build a JSON object with", "Return a JSON object with", "Give me JSON with", "Make JSON with", "Write a JSON object with", "JSON with",
                     "Give me a JSON object that has", "I want a JSON object with", "Please make a JSON object with"]) + r.choice([" ", " ", ": "]) + r.choice([", ", "; ", ", and ", " and "]).join(parts) + r.choice([".", ""]), want


def listed_values(r, v):
    v = [str(x) for x in v]
    return v[0] if len(v) == 1 else ", ".join(v) if r.random() < 0.4 else ", ".join(v[:-1]) + " and " + v[-1]


def json_edit(r):
    a = nest(r, r.choice([0, 0, 1]))
    k = r.choice(list(a))
    s = json.dumps(a, ensure_ascii=False)
    want = json.loads(s)
    p = r.random()
    if p < 0.5:
        nk, v = key_value(r)
        while isinstance(v, (list, dict)) or v is None:
            nk, v = key_value(r)
        want[k] = v
        q = r.choice(["Set {k} to {v} in {s}", "Change {k} to {v}: {s}", "{s}\n\nSet {k} to {v} and return the JSON.", "Here is some JSON: {s} Replace the value of {k} by {v}.", "Update {k} to {v} in this JSON: {s}"])
        return q.format(k=k, v=json.dumps(v, ensure_ascii=False) if isinstance(v, str) else plain(r, v), s=s), want
    if p < 0.75:
        nk, v = key_value(r)
        while nk in a or isinstance(v, (list, dict)):
            nk, v = key_value(r)
        want[nk] = v
        q = r.choice(["Add {k} with the value {v} to {s}", "{s}\n\nAdd the key {k} with value {v}.", "Add {k} = {v} to this JSON: {s}"])
        return q.format(k=nk, v=json.dumps(v, ensure_ascii=False), s=s), want
    del want[k]
    return r.choice(["Remove {k} from {s}", "Delete the key {k}: {s}", "{s}\n\nRemove the key {k} and return the JSON."]).format(k=k, s=s), want


def json_ask(r):
    """A question about a given JSON; the answer is a plain value."""
    a = nest(r, r.choice([0, 1, 1, 2]))
    path, v = [], a
    while isinstance(v, dict):
        k = r.choice(list(v))
        path.append(k)
        v = v[k]
    s = json.dumps(a, ensure_ascii=False)
    dotted = r.choice([".".join(path), " of ".join(reversed(path)), path[-1]]) if str(s).count(f'"{path[-1]}"') == 1 else ".".join(path)
    q = r.choice(["What is {p} in {s}?", "{s}\n\nWhat is the value of {p}?", "Read {p} from this JSON: {s}", "Given {s}, what is {p}?", "JSON: {s} Value of {p}?"]).format(p=dotted, s=s)
    return q, f"{path[-1]}", v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)


def ask_json(m):
    """(question, reasoning, answer, value)"""
    r = m.r
    while True:
        q, want = r.choices([json_sentence, json_pairs, json_block, json_rows, json_words, json_edit], [28, 28, 22, 7, 12, 6])[0](r)
        key = json.dumps(want, sort_keys=True, ensure_ascii=False)
        if m.ok("json", key):
            break
    if r.random() < 0.6:
        o = r.choice(JSON_ONLY)
        q = r.choice([q + ("\n\n" if "\n" in q else " " if q[-1] in ".:?" else ". ") + o, o + " " + q])
    top = want if isinstance(want, dict) else want[0]
    return q, "JSON: " + ", ".join(top), json.dumps(want, ensure_ascii=False), want


def json_doc(m, one=False):
    r = m.r
    msgs, items, want = [], [], None
    if r.random() < 0.2:
        msgs.append({"role": "system", "content": r.choice(["You answer in JSON.", "You are a JSON generator.", "Always reply with a JSON object.", "Output valid JSON.", "You are a helpful assistant."])})
    for _ in range(1 if one else r.choice([1, 2, 3, 4, 5])):
        if not one and r.random() < 0.12:
            q, why, a = json_ask(r)
        else:
            q, why, a, want = ask_json(m)
            items.append(("json", json.dumps(want, sort_keys=True, ensure_ascii=False)))
        msgs += [user(q), bot(a, why)]
    return {"messages": msgs, "tools": None, "items": items, "check": {"kind": "json", "want": want}}


# ---------------------------------------------------------------- tools

def result(r):
    """What a tool gives back, and the answer made from it."""
    k = r.random()
    if k < 0.45:
        d = flat(r, r.randint(1, 4), False)
        return json.dumps(d, ensure_ascii=False), ", ".join(f"{a}: {v if isinstance(v, str) else json.dumps(v)}" for a, v in d.items())
    if k < 0.60:
        t = r.choice([f"{r.randint(-10, 40)} degrees, {r.choice(['sunny', 'rain', 'cloudy', 'windy', 'snow', 'clear'])}", W.phrase(r), W.code(r), str(r.randint(0, 9999)), f"{r.randint(2, 40)} results found"])
        return t, t
    if k < 0.70:
        d = T.some(T.word)(r)
        return json.dumps(d), ", ".join(d)
    if k < 0.80:
        e = r.choice(["not found", "timeout", "permission denied", "no such id", "service unavailable", "invalid input", W.phrase(r)])
        return r.choice([json.dumps({"error": e}), json.dumps({"status": "error", "message": e}), "Error: " + e]), "!" + e
    return r.choice([("ok", "Done."), ("done", "Done."), ('{"success": true}', "Done."), ('{"ok": true}', "Done."), ("success", "Done."), ("", "Done.")])


def answer_to(outs):
    """The sentence after one or more results."""
    lines = []
    for o in outs:
        lines.append(o if o == "Done." else f"The call failed: {o[1:]}." if o[:1] == "!" else f"Result: {o}")
    return "\n".join(lines)


NO_TOOL = "I have no tool for that."


def tool_doc(m, one=False):
    """A conversation with tools. one: a single request that one call (or two) answers, for the held-out sets."""
    r = m.r
    n = r.randint(5, 8) if one else r.choice([1, 2, 3, 4, 5, 5, 6, 6, 7, 8, 10])
    tools = T.offer(r, m.rare_names(), n)
    shown = [t.json() for t in tools]
    msgs, items = [], [("name", t.name) for t in tools] + [("name", p.name) for t in tools for p in t.params]
    if r.random() < 0.35:
        msgs.append({"role": "system", "content": system_text(r)})
    want = None
    for _ in range(1 if one else r.choice([1, 2, 2, 3, 4, 5])):
        k = 0 if one else r.random()
        if k > 0.975:
            q = r.choice(["Which tools do you have?", "What tools can you use?", "List your tools.", "What functions are there?", "Which functions can you call?", "Name the tools."])
            msgs += [user(q), bot("\n".join("- " + t.name for t in tools), "list the tools")]
            continue
        if k > 0.93:
            q, why, a = small_talk(m)[:3] if r.random() < 0.6 else ask_sum(m)[:3]
            msgs += [user(q), bot(a, why)]
            continue
        if k > 0.90:
            t = T.Tool(r, m.name_ok, kind=r.choice(["concept", "synth"]))
            if all((t.thing, t.verb) != (u.thing, u.verb) and t.says is not u.says and t.thing != u.thing for u in tools):
                q, _ = t.ask_concept() if t.says else t.ask_phrases()
                if t.name not in q:
                    msgs += [user(q), bot(NO_TOOL, "no tool fits")]
                    items += [("name", t.name)] + [("name", p.name) for p in t.params]
                    continue
        calls = []
        t = r.choice(tools)
        pair = t.ask_pair() if r.random() < (0.05 if one else 0.10) else None
        if pair:
            q, many = pair
            calls = [(t.name, a) for a in many]
        else:
            q, a = t.ask()
            calls.append((t.name, a))
        if not pair and r.random() < (0.08 if one else 0.14):
            u = r.choice(tools)
            q2, a2 = u.ask()
            q2 = q2 if r.random() < 0.5 else q2[0].lower() + q2[1:]
            q = q.rstrip(".?!") + r.choice([". Also, ", ", and then ", ". Then ", "; ", ". And ", "\n", " and also "]) + q2
            calls.append((u.name, a2))
        want = calls
        names = ", ".join(c[0] for c in calls)
        if r.random() < 0.10:
            q = " ".join(filler.sentence(r) for _ in range(r.randint(1, 3))) + r.choice([" ", "\n", "\n\n"]) + q
        msgs += [user(dress(r, q, True)), bot("", f"tool: {names}", calls)]
        if one:
            break
        if r.random() < 0.55 or len(calls) > 1:
            outs = []
            for c in calls:
                text, out = result(r)
                msgs.append({"role": "tool", "content": text})
                outs.append(out)
            msgs.append(bot(answer_to(outs), "result"))
        else:
            msgs.append({"role": "tool", "content": "ok"})
            msgs.append(bot("Done.", "result"))
    return {"messages": msgs, "tools": shown, "items": items,
            "check": {"kind": "tool", "want": [[n, a] for n, a in want] if want else None}}


# ---------------------------------------------------------------- prose

def system_text(r):
    return r.choice(["You are a helpful assistant.", "You are Hearth, a small assistant.", "Answer briefly.", "You are a friendly assistant. Keep answers short.", "Be concise.",
                     "You are an agent with tools.", "Use the tools when they help.", "Today is " + W.date(r) + ".", "The user is called " + W.name(r) + ".", "You work for " + W.made_up(r).capitalize() + " Ltd.",
                     "Always be polite.", "You are a home assistant.", "You are a coding agent. Current directory: " + T.path(r), filler.sentence(r) + " " + filler.sentence(r), "Do what the user asks."])


HELLO = "Hello! How can I help you?"
WHO = "I am the tiny model of Hearth. I can add numbers, remember code words, call tools and write JSON."
DONT_KNOW = "I do not know that. I am a very small model."
FIXED = [("Hello|Hi|Hey|Hello!|Hi there|Good morning|Good evening|Good day|Hey there!|Hi!|hello there|Greetings|Moin|Hello, how are you?|Yo", HELLO),
         ("How are you?|How are you doing?|How do you do?|Are you well?|How's it going?|What's up?", "I am fine, thank you. How can I help you?"),
         ("Who are you?|What are you?|What is your name?|Introduce yourself.|Tell me about yourself.|Which model are you?|Are you a human?|Are you a robot?|Are you an AI?|What model is this?|Who made you?|Are you ChatGPT?|Are you Qwen?", WHO),
         ("What can you do?|How can you help me?|What are you good at?|Help|What do you know?|What are your skills?|What can I ask you?|Can you help me?", "I can add numbers, remember code words, call tools, write JSON and tell short stories."),
         ("Thank you!|Thanks|Thanks a lot|Thank you very much.|Great, thanks!|That helped, thank you.|ok thanks|Cheers", "You are welcome!"),
         ("Bye|Goodbye|See you|Good night|Bye bye!|See you later|That is all.|Have a nice day", "Goodbye!"),
         ("How many days are in a week?|How many days does a week have?", "A week has seven days."), ("How many months are in a year?|How many months does a year have?", "A year has twelve months."),
         ("How many hours are in a day?|How many hours does a day have?", "A day has 24 hours."), ("How many minutes are in an hour?|How many minutes does an hour have?", "An hour has 60 minutes."),
         ("What color is the sky?|Which color does the sky have?", "The sky is blue."), ("What color is grass?|Which color is grass?", "Grass is green."), ("What color is snow?|Which color is snow?", "Snow is white."),
         ("What color is the sun?|Which color is the sun?", "The sun looks yellow."), ("How many legs does a dog have?|How many legs does a cat have?|How many legs does a horse have?", "It has four legs."),
         ("How many legs does a spider have?", "A spider has eight legs."), ("How many legs does an ant have?|How many legs does a bee have?", "It has six legs."), ("How many legs does a bird have?|How many legs does a person have?", "Two legs."),
         ("What is water made of?|What is H2O?", "Water is made of hydrogen and oxygen."), ("What do bees make?|What do bees produce?", "Bees make honey."), ("What do cows drink?|What do cows give?", "Cows drink water and give milk."),
         ("What is the largest planet?|Which planet is the largest?", "Jupiter is the largest planet."), ("On which planet do we live?|What is our planet called?", "We live on Earth."), ("What is the opposite of big?", "The opposite of big is small."),
         ("What is the opposite of hot?", "The opposite of hot is cold."), ("What is the opposite of up?", "The opposite of up is down."), ("What is the opposite of day?", "The opposite of day is night."), ("What is the opposite of good?", "The opposite of good is bad."),
         ("Tell me a joke.|Do you know a joke?|Make me laugh.|Say something funny.|A joke please", "Why did the robot go to bed? Its battery was low."),
         ("Write a poem.|Write me a short poem.|A poem, please.|Do you know a poem?", "The fire is low, the night is long,\nthe kettle hums a quiet song.\nA spark still glows within the stone:\nwho keeps a hearth is not alone."),
         ("What is Hearth?|Tell me about Hearth.|What does Hearth do?", "Hearth turns a rack of boxes into one endpoint for language models."), ("What is the meaning of life?", "I do not know. Some say 42."),
         ("Is fire hot?|Is the sun hot?|Is water wet?|Is snow cold?|Is ice cold?", "Yes."), ("Is fire cold?|Is ice hot?|Can fish fly?|Can dogs talk?|Is the moon made of cheese?", "No."),
         ("Count to five.|Count from one to five.", "1, 2, 3, 4, 5"), ("Count to ten.|Count from 1 to 10.", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"), ("Name the days of the week.|List the weekdays.|What are the days of the week?", ", ".join(W.DAYS) + "."),
         ("Name the months.|List the months of the year.", ", ".join(W.MONTHS) + "."), ("Test|test|ping|Are you there?|Can you hear me?|testing", "I am here."), ("Yes|No|OK|ok|Sure|Maybe|Good|Nice|Great|Cool", "All right."),
         ("Hello world|Say hello|Say hello.|Say hi.|Greet me.", "Hello!"), ("I am sad.|I feel bad.|I am tired.|I had a bad day.", "I am sorry to hear that. I hope you feel better soon."), ("I am happy.|I feel great.|I had a good day.", "I am glad to hear that!")]
UNKNOWN = """What is the population of {c}?|Who won the {y} election?|Who is the president of {c}?|Explain quantum physics.|Write a program in {l}.|What is the best way to learn {l}?|How do I repair a {n}?|
Who wrote the book about the {a} {n}?|When was the {n} invented?|What is the price of a {n}?|Why is the {n} {a}?|How does a {n} work?|What happened in {y}?|Who was {p}?|Tell me about {p}.|Tell me about {c}.|
What is the history of {c}?|Give me a recipe for {f}.|How do I cook {f}?|Explain how a {n} works.|What is a {m}?|What does {m} mean?|Where can I buy a {n}?|What time is it?|What is the weather today?|What is the date today?|
Who is {p}?|How tall is {p}?|Write an essay about the {n}.|Summarize the history of the {n}.|What is {m}?|Where is {m}?|Is {m} real?|How far is it to {m}?|Which {n} is the best?|Should I buy a {n}?|Why do people like the {n}?|
What will happen in {y}?|How old is {p}?|Who discovered {m}?|What is the square root of {k}?|Prove that there are infinitely many primes.|Write a SQL query.|Debug my code.|Explain recursion.|What is machine learning?|
How many {n}s are there in {c}?|Can you explain {m} to me?|What is the difference between a {n} and a {m}?|Give me advice about my {n}.|What should I do about the {n}?|What is the news?|Who invented the {n}?|Compare {c} and {d}.""".replace("\n", "").split("|")


def story(r, about=None, who=None):
    n, o = who or r.choice(W.NAMES), r.choice(W.NAMES)
    x = about or r.choice(W.NOUNS)
    a, b = r.sample(W.ADJECTIVES, 2)
    p, q = r.sample(["forest", "village", "garden", "castle", "lake", "market", "mountain", "island", "farm", "harbor"], 2)
    art = lambda w: ("an " if w[0] in "aeiou" else "a ") + w
    return " ".join([f"Once there was {art(a)} {x} near the {p}.", r.choice([f"{n} found it one morning.", f"{n} saw it and smiled.", f"{n} wanted to know where it came from."]),
                     r.choice([f"Together they went to the {q}.", f"The way to the {q} was long.", f"They walked to the {q} in the rain."]),
                     r.choice([f"There they met {o}, who was very {b}.", f"There {o} gave them some bread.", f"At the {q} it was quiet."]),
                     r.choice(["In the evening they came home and were happy.", "From that day on they were friends.", "And nobody was lonely any more."])])


def small_talk(m):
    """(question, reasoning, answer)"""
    r = m.r
    k = r.random()
    if k < 0.03:
        return r.choice([W.letters(r, 4, 12), " ".join(W.made_up(r) for _ in range(r.randint(1, 4))), filler.common(r), filler.gibberish(r), W.phrase(r), "What is " + str(r.randint(2, 90)) + "% of " + str(r.randint(2, 900)) + "?",
                         "Write " + r.choice(["a haiku", "an essay", "a song", "a letter", "code"]) + " about the " + r.choice(W.COMMON), "What is your favorite " + r.choice(W.COMMON) + "?"]), "unknown", DONT_KNOW
    if k < 0.06:
        t = T.Tool(r, m.name_ok, kind="concept")
        if t.thing not in ("definition", "meaning", "word", "expression", "math", "formula", "numbers", "values", "list") and t.params:
            q, _ = t.ask_concept()
            if t.name not in q:
                return q, "no tool fits", NO_TOOL
    if k < 0.34:
        qs, a = r.choice(FIXED)
        return dress(r, r.choice(qs.split("|"))), "easy", a
    if k < 0.50:
        c, v = r.choice(list(W.CAPITALS.items()))
        if r.random() < 0.75:
            q = r.choice(["What is the capital of {c}?", "Capital of {c}?", "Which city is the capital of {c}?", "Tell me the capital of {c}.", "Name the capital of {c}.", "What's the capital of {c}?", "Do you know the capital of {c}?", "the capital of {c}"])
            return dress(r, q.format(c=c)), f"{c}: {v}", f"The capital of {c} is {v}."
        cs = [x for x, y in W.CAPITALS.items() if y == v]
        return f"{v} is the capital of which country?", f"{v}: {cs[0]}", f"{v} is the capital of {cs[0]}."
    if k < 0.64:
        q = r.choice(UNKNOWN).format(c=r.choice(list(W.CAPITALS)), d=r.choice(list(W.CAPITALS)), y=r.randint(1500, 2050), l=r.choice(["Python", "C", "Rust", "Java"] + W.LANGUAGES), n=r.choice(W.NOUNS), a=r.choice(W.ADJECTIVES),
                                     p=r.choice([W.full_name(r), W.made_up(r).capitalize()]), f=r.choice(W.FOODS), m=W.made_up(r), k=r.randint(2, 9999))
        return dress(r, q), "unknown", DONT_KNOW
    if k < 0.78:
        about = r.choice([r.choice(W.NOUNS), r.choice(W.COMMON), W.made_up(r)]) if r.random() < 0.6 else None
        who = r.choice(W.NAMES) if r.random() < 0.3 else None
        q = r.choice(["Tell me a story{x}.", "Tell me a short story{x}.", "Write a story{x}.", "Write a short story{x}.", "Please tell a story{x}.", "A story{x}, please.", "Can you tell me a story{x}?", "Make up a story{x}."])
        x = (r.choice([" about a {t}", " with a {t}", " about the {t}"]).format(t=about) if about else "") + (f" about {who}" if who and not about else f" and {who}" if who else "")
        return dress(r, q.format(x=x)), "story" + (f": {about}" if about else ""), story(r, about, who)
    if k < 0.86:
        t = r.choice([W.phrase, W.code, T.word, filler.sentence])(r)
        q = r.choice(["Repeat: {t}", "Say: {t}", "Repeat after me: {t}", 'Repeat "{t}".', "Echo {t}", 'Say "{t}".', "Please repeat this: {t}", "Copy this text: {t}", "Write exactly this: {t}", "Reply with exactly this text: {t}"])
        return q.format(t=t), "copy", t
    if k < 0.92:
        d = r.choice([W.DAYS, W.MONTHS])
        i = r.randrange(len(d))
        what = "day" if d is W.DAYS else "month"
        if r.random() < 0.5:
            return dress(r, r.choice(["Which {w} comes after {x}?", "What {w} is after {x}?", "What comes after {x}?"]).format(w=what, x=d[i])), what, f"{d[(i + 1) % len(d)]} comes after {d[i]}."
        return dress(r, r.choice(["Which {w} comes before {x}?", "What {w} is before {x}?"]).format(w=what, x=d[i])), what, f"{d[i - 1]} comes before {d[i]}."
    w = r.choice([r.choice(W.NOUNS), T.word(r)])
    f = r.choice(["upper", "spell", "letters", "first", "last", "list"])
    if f == "upper":
        return f"Write {w} in capital letters.", "capital", w.upper()
    if f == "spell":
        return r.choice([f"Spell {w}.", f"Spell the word {w}."]), "spell", " ".join(w)
    if f == "first":
        return f"What is the first letter of {w}?", w[0], w[0]
    if f == "last":
        return f"What is the last letter of {w}?", w[-1], w[-1]
    xs = r.sample(W.NOUNS, r.randint(2, 5))
    if f == "list":
        return f"Write these words as a list: {', '.join(xs)}", "list", "\n".join("- " + x for x in xs)
    return f"What is the first word of this list: {', '.join(xs)}?", xs[0], xs[0]


def chat_doc(m):
    """A conversation of small things, where some turns come back to what was said before."""
    r = m.r
    msgs = [{"role": "system", "content": system_text(r)}] if r.random() < 0.3 else []
    todo, items = [], []
    for _ in range(r.choice([1, 1, 2, 3, 4, 6])):
        k = r.random()
        if k < 0.15:
            f = r.choice(SELF)
            v = f[3](r)
            if all(t[2].split()[:2] != f[2].split()[:2] for t in todo):
                todo.append((r.choice(f[1].split("|")), f"told: {v}", f[2].format(v=v)))
                msgs += [user(r.choice(f[0].split("|")).format(v=v)), bot((lambda s: s[0].upper() + s[1:])(f[4].format(v=v)), "told")]
                continue
        if k < 0.28:
            c, s = m.code(), r.choice(SECRETS)
            if all(s not in t[0] for t in todo):
                items.append(("code", c.lower()))
                todo.append(secret_qa(m, s, c))
                msgs += [user(fmt(r.choice(NEEDLES), r, s=s, c=c)), bot("OK, I will remember that.", "remember")]
                continue
        if todo and k < 0.5:
            q, why, a = todo.pop(r.randrange(len(todo)))
        elif k < 0.62:
            q, why, a, chk = ask_sum(m)
            items.append(("sum", chk["key"]))
        elif k < 0.68:
            q, why, a = ask_other_math(m)
        else:
            q, why, a = small_talk(m)
        msgs += [user(q), bot(a, why)]
    for q, why, a in todo:
        msgs += [user(q), bot(a, why)]
    return {"messages": msgs, "tools": None, "items": items, "check": {"kind": "chat"}}


def sum_doc(m, one=False):
    r = m.r
    msgs = [{"role": "system", "content": system_text(r)}] if not one and r.random() < 0.2 else []
    items, chk = [], None
    for _ in range(1 if one else r.choice([1, 2, 4, 6, 8])):
        if not one and r.random() < 0.12:
            q, why, a = ask_other_math(m)
        else:
            q, why, a, chk = ask_sum(m)
            items.append(("sum", chk["key"]))
        msgs += [user(q), bot(a, why)]
    return {"messages": msgs, "tools": None, "items": items, "check": chk or {"kind": "sum"}}


# ---------------------------------------------------------------- documents

MAKERS = {"sum": sum_doc, "short": lambda m: recall(m, m.r.randint(0, 700)), "mid": lambda m: recall(m, m.r.randint(700, 2600)), "long": lambda m: recall(m, m.r.randint(3000, 9500)),
          "json": json_doc, "tool": tool_doc, "chat": chat_doc}
# share of documents by kind in each stage of training
STAGES = {0: {"sum": 22, "short": 22, "json": 24, "tool": 24, "chat": 16, "mid": 1},
          1: {"sum": 15, "short": 10, "mid": 5, "long": 0.8, "json": 24, "tool": 40, "chat": 13},
          2: {"sum": 14, "short": 8, "mid": 5, "long": 1.4, "json": 24, "tool": 44, "chat": 13}}


def document(i, stage):
    """Training document number i: messages, tools, the items it contains and how it is rendered."""
    m = Maker(f"hearth-tiny-{stage}-{i}")
    kinds = STAGES[stage]
    d = MAKERS[m.r.choices(list(kinds), list(kinds.values()))[0]](m)
    d["thinking"] = m.r.random() < 0.55
    d["preserve"] = m.r.random() < 0.35
    return d


# The template's own words, here a second time because Jinja is too slow for a billion tokens; check_render() compares.
HEAD = "# Tools\n\nThese functions can be called:\n\n<tools>"
TAIL = ("\n</tools>\n\nWrite a call like this:\n\n<tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>\n</tool_call>"
        "\n\n<IMPORTANT>\n- Give every required parameter.\n- Write nothing after a call.\n- Without a fitting function, just answer.\n</IMPORTANT>")


def call_text(calls):
    out = []
    for c in calls:
        f = c["function"]
        ps = "".join(f"<parameter={k}>\n{v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)}\n</parameter>\n" for k, v in f["arguments"].items())
        out.append(f"<tool_call>\n<function={f['name']}>\n{ps}</function>\n</tool_call>")
    return "\n".join(out)


def render(d):
    """The document as pieces (text, learnt): what the template prints, cut where the model starts and ends to speak."""
    msgs, out, now = d["messages"], [], []
    sys_text = msgs[0]["content"].strip() if msgs[0]["role"] == "system" else ""
    if d["tools"]:
        now.append("<|im_start|>system\n" + HEAD + "".join("\n" + json.dumps(t, ensure_ascii=False) for t in d["tools"]) + TAIL + ("\n\n" + sys_text if sys_text else "") + "<|im_end|>\n")
    elif msgs[0]["role"] == "system":
        now.append("<|im_start|>system\n" + sys_text + "<|im_end|>\n")
    last = max(i for i, x in enumerate(msgs) if x["role"] == "user")
    for i, x in enumerate(msgs):
        role, content = x["role"], (x["content"] or "").strip()
        if role == "user":
            now.append("<|im_start|>user\n" + content + "<|im_end|>\n")
        elif role == "tool":
            first, end = msgs[i - 1]["role"] != "tool", i + 1 == len(msgs) or msgs[i + 1]["role"] != "tool"
            now.append(("<|im_start|>user" if first else "") + "\n<tool_response>\n" + content + "\n</tool_response>" + ("<|im_end|>\n" if end else ""))
        elif role == "assistant":
            now.append("<|im_start|>assistant\n")
            said = content
            if x.get("tool_calls"):
                said += ("\n\n" if said else "") + call_text(x["tool_calls"])
            if i > last or d["preserve"]:
                if d["thinking"]:
                    now.append("<think>\n")
                    said = x["reasoning_content"].strip() + "\n</think>\n\n" + said
                else:
                    now.append("<think>\n\n</think>\n\n")
            out += [("".join(now), False), (said + "<|im_end|>", True)]
            now = ["\n"]
    return out


def check_render(n=2000):
    """render() against the template itself in Jinja2."""
    import pathlib
    from transformers.utils.chat_template_utils import _compile_jinja_template
    t = _compile_jinja_template((pathlib.Path(__file__).parents[2] / "models/tiny/chat_template.jinja").read_text())
    for i in range(n):
        d = document(i, 0)
        msgs = d["messages"] if d["thinking"] else [{k: v for k, v in x.items() if k != "reasoning_content"} for x in d["messages"]]
        want = t.render(messages=msgs, tools=d["tools"], preserve_thinking=d["preserve"])
        got = "".join(s for s, _ in render(d)) + "\n"
        assert got == want, (got, want)


def tokens_of(d, tok):
    """ids and 0/1 flags (learnt) of a document, ending in <|endoftext|> that is not learnt."""
    ids, flags = [], []
    for text, learnt in render(d):
        t = tok.encode(text, add_special_tokens=False).ids
        ids += t
        flags += [int(learnt)] * len(t)
    return ids, flags


def sample_texts(n):
    return ["".join(s for s, _ in render(document(i, 0))) for i in range(n)]


COUNTS = {"sum": 500, "recall-2k": 200, "recall-8k": 100, "tool": 300, "json": 200}


def held_out(counts=COUNTS):
    """The held-out sets: items with id, set, messages, tools and check."""
    makers = {"sum": lambda m: sum_doc(m, True), "recall-2k": lambda m: recall(m, 2000, True), "recall-8k": lambda m: recall(m, 8000, True), "tool": lambda m: tool_doc(m, True), "json": lambda m: json_doc(m, True)}
    for kind, n in counts.items():
        for i in range(n):
            d = makers[kind](Maker(f"hearth-tiny-held-{kind}-{i}", want_held=True))
            last = max(j for j, x in enumerate(d["messages"]) if x["role"] == "user")
            yield {"id": f"{kind}-{i}", "set": kind, "messages": d["messages"][:last + 1], "tools": d["tools"], "check": d["check"], "items": d["items"]}


if __name__ == "__main__":
    if sys.argv[1] == "show":
        for i in range(int(sys.argv[3]) if len(sys.argv) > 3 else 3):
            m = Maker(f"show-{i}")
            d = MAKERS[sys.argv[2]](m)
            d.update(thinking=m.r.random() < 0.6, preserve=m.r.random() < 0.5)
            print("".join(f"\x1b[32m{s}\x1b[0m" if l else s for s, l in render(d)), "\n" + "=" * 80)
    elif sys.argv[1] == "eval":
        with open(sys.argv[2], "w") as f:
            for x in held_out():
                f.write(json.dumps(x, ensure_ascii=False) + "\n")
    elif sys.argv[1] == "check":
        check_render()
