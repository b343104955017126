"""Word lists and makers of random words for corpus.py. Nothing here depends on anything else."""

NAMES = """Anna Ben Clara David Elena Felix Greta Hugo Iris Jonas Karla Leo Maria Nils Olga Paul Rosa Simon Tara
Umar Vera Will Xenia Yusuf Zoe Alice Bob Carol Dan Eve Frank Grace Henry Ivy Jack Kate Liam Mia Noah Oscar Petra
Quinn Ruth Sam Tom Uma Victor Wendy Amir Bella Chen Diego Emma Farah Goran Hana Igor Julia Kofi Lena Marco Nora
Omar Priya Raj Sara Timo Ursula Vikram Walter Yara Zack Aisha Boris Cleo Dora Erik Fiona Gina Harald Ines Joel
Kim Lars Mona Nadia Otto Pia Rita Sven Tilda Vito Wanda Adam Lucy Peter Susan John Mary James Linda Robert Laura
Zoë José Søren Jürgen Chloé Łukasz""".split()

SURNAMES = """Smith Miller Brown Jones Garcia Weber Novak Rossi Silva Kim Lee Patel Khan Larsen Berg Fischer Cohen
Ivanov Tanaka Moreau Duarte Schulz Keller Baker Carter Dixon Ellis Foster Grant Hughes Irving Jensen Lang Mason
Nolan Owens Parker Quill Reed Stone Turner Vance West York Young Zeller""".split()

CAPITALS = dict(p.split("=") for p in """France=Paris;Germany=Berlin;Italy=Rome;Spain=Madrid;Portugal=Lisbon;
Austria=Vienna;Poland=Warsaw;Norway=Oslo;Sweden=Stockholm;Finland=Helsinki;Denmark=Copenhagen;Greece=Athens;
Ireland=Dublin;Hungary=Budapest;Turkey=Ankara;Egypt=Cairo;Kenya=Nairobi;Japan=Tokyo;China=Beijing;India=New Delhi;
Thailand=Bangkok;Vietnam=Hanoi;Canada=Ottawa;Mexico=Mexico City;Brazil=Brasilia;Argentina=Buenos Aires;Chile=Santiago;
Peru=Lima;Cuba=Havana;Australia=Canberra;New Zealand=Wellington;Russia=Moscow;Ukraine=Kyiv;Belgium=Brussels;
the Netherlands=Amsterdam;Switzerland=Bern;the Czech Republic=Prague;Romania=Bucharest;Bulgaria=Sofia;Croatia=Zagreb;
Iceland=Reykjavik;Morocco=Rabat;Nigeria=Abuja;Ghana=Accra;Iran=Tehran;Iraq=Baghdad;Israel=Jerusalem;South Korea=Seoul;
Indonesia=Jakarta;the Philippines=Manila;Colombia=Bogota;England=London;Scotland=Edinburgh;the United Kingdom=London;
the United States=Washington;the USA=Washington;Pakistan=Islamabad;Nepal=Kathmandu;Malaysia=Kuala Lumpur;Singapore=Singapore"""
                .replace("\n", "").split(";"))

CITIES = sorted(set(CAPITALS.values())) + """New York;Los Angeles;San Francisco;Chicago;Boston;Seattle;Toronto;
Hamburg;Munich;Cologne;Leipzig;Dresden;Milan;Naples;Turin;Barcelona;Seville;Lyon;Nice;Marseille;Zurich;Geneva;Basel;
Graz;Krakow;Porto;Bergen;Malmo;Turku;Aarhus;Cork;Leeds;Bristol;Glasgow;Cardiff;Osaka;Kyoto;Shanghai;Mumbai;Sydney;
Perth;Auckland;Cape Town;Lagos;Dubai;Köln;Zürich;São Paulo""".replace("\n", "").split(";")

NOUNS = """apple river stone lamp garden window train bridge forest cat dog horse bird fish house tower ship boat
mountain lake road wheel clock letter book chair table door key box bag cup plate spoon knife candle mirror
picture song drum violin piano guitar flower tree leaf root seed cloud storm wind rain snow star moon sun island
beach desert valley village market school bakery library museum castle farm field fence gate barn mill well
teacher doctor baker farmer sailor painter king queen child friend neighbor stranger traveler singer driver
coat hat shoe glove scarf ring coin map rope ladder hammer nail bucket broom basket blanket pillow carpet curtain
engine motor battery cable screen printer camera phone radio robot rocket planet comet fox wolf bear deer rabbit
mouse owl crow eagle duck goose hen frog turtle snake bee ant spider butterfly tiger lion elephant monkey
bread cheese soup cake honey butter tea coffee milk pepper salt sugar lemon orange cherry plum pear grape onion
potato carrot tomato pumpkin""".split()

ADJECTIVES = """red blue green yellow black white small big old new quiet loud bright dark warm cold soft hard
tall short long round narrow wide deep heavy light quick slow gentle wild brave shy happy sad clever silly kind
proud lonely friendly hungry tired golden silver wooden broken empty full clean dusty ancient modern strange
familiar plain fancy sharp smooth rough sweet bitter fresh dry wet calm amber crimson violet""".split()

VERBS_PAST = """found saw carried painted followed opened closed lifted moved watched cleaned repaired bought sold
lost hid touched pushed pulled counted drew kept left sent fetched wanted liked missed guarded crossed passed
reached remembered forgot borrowed""".split()

ADVERBS = """slowly quickly quietly gladly carefully often never always soon today yesterday again together alone
outside inside nearby early late""".split()

FOODS = "pizza pasta rice soup curry salad sushi bread cake apples dumplings pancakes noodles beans cheese".split()
COLORS = "red blue green yellow black white orange purple pink brown gray silver gold".split()
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
JOBS = """teacher doctor baker farmer sailor painter nurse pilot driver cook lawyer engineer writer singer dentist
plumber carpenter gardener librarian chemist""".split()
ROOMS = "kitchen;bedroom;bathroom;living room;office;garage;hall;cellar;garden;attic;nursery;workshop".split(";")
LANGUAGES = """English German French Spanish Italian Portuguese Dutch Polish Czech Turkish Greek Russian Arabic Hindi
Japanese Korean Chinese Swedish Finnish Danish""".split()
CURRENCIES = "EUR USD GBP JPY CHF SEK NOK DKK PLN CAD AUD INR CNY BRL".split()
DOMAINS = "example.com mail.org test.net acme.io corp.example post.de hearth.dev".split()

COMMON = """time year people way day man thing woman life child world school state family student group country problem hand part
place case week company system program question work government number night point home water room mother area money story
fact month lot right study book eye job word business issue side kind head house service friend father power hour game line
end member law car city community name president team minute idea kid body information back parent face others level office
door health person art war history party result change morning reason research girl guy moment air teacher force education
good new first last long great little own other old big high different small large next early young important few public bad
same able best better sure free true whole clear easy late hard strong ready simple open full warm cold deep nice fine
be have do say get make go know take see come think look want give use find tell ask work seem feel try leave call keep let
begin help show hear play run move live believe bring happen write provide sit stand lose pay meet include continue set learn
change lead understand watch follow stop create speak read allow add spend grow open walk win offer remember love consider
appear buy wait serve die send expect build stay fall cut reach kill remain the and to of in for with on at by from about into
over after under between without before during how why what when where who which it they we you he she this that not only also
very just more most some any all no never again then than too recipe pizza ticket report budget meeting lunch dinner holiday
travel weather hotel flight music movie video photo phone laptop keyboard software update server network database python
guide review price cheap fast near online free tutorial fix repair install bike garden kitchen doctor appointment birthday
present party invoice contract offer delivery package address dragon wizard knight pirate ghost giant fairy monster""".split()

_ON = "b c d f g h j k l m n p r s t v w z br cr dr fr gr kr pl pr st tr sk fl gl bl th sh ch qu sn sl kn wh zh".split()
_VO = "a e i o u a e i o u ai ea ou oa ee oo y".split()
_CO = ["", "", "", "n", "r", "l", "s", "t", "m", "x", "k", "nd", "rt", "st", "ck", "lm", "p", "d", "b", "g", "sh", "v", "z"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def made_up(r, least=2, most=3):
    """A pronounceable word that hardly any dictionary holds."""
    c = r.choice
    return "".join(c(_ON) + c(_VO) + c(_CO) for _ in range(r.randint(least, most)))


def letters(r, least, most):
    return "".join(r.choices(LETTERS, k=r.randint(least, most)))


def digits(r, n):
    return "".join(r.choices("0123456789", k=n))


def code(r):
    """A code word of one of many shapes."""
    c, k = r.choice, r.random()
    if k < 0.30:
        w = made_up(r)
        return c([w, w, w.capitalize(), w.upper()])
    if k < 0.38:
        return c(["-", "_", " ", "-"]).join(made_up(r, 1, 2) for _ in range(2))
    if k < 0.50:
        w = c([made_up(r, 1, 2), c(NOUNS), c(ADJECTIVES)])
        w = c([w, w.upper(), w.capitalize()])
        return w + c(["-", "", "_", "#"]) + digits(r, r.randint(1, 4))
    if k < 0.62:
        w = [c(ADJECTIVES), c(NOUNS)]
        w = c([w, w, [c(COLORS)] + w])
        f = c([str.lower, str.lower, str.upper, str.capitalize])
        return c(["-", " ", " ", "_"]).join(f(x) for x in w)
    if k < 0.68:
        w = [c(NOUNS), c(NOUNS)]
        return "-".join(x.upper() for x in w) + "-" + digits(r, 2)
    if k < 0.76:
        return digits(r, r.randint(4, 7))
    if k < 0.82:
        return "".join(r.choices("0123456789abcdef", k=r.randint(6, 10)))
    if k < 0.90:
        w = letters(r, 4, 9)
        return c([w, w.upper(), w.upper()])
    if k < 0.96:
        return "-".join("".join(r.choices("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", k=r.randint(3, 4)))
                        for _ in range(r.randint(2, 3)))
    w = [made_up(r, 1, 2).capitalize() for _ in range(2)]
    return "".join(w)


def style(r, words, kinds=("snake", "snake", "snake", "camel", "camel", "kebab", "pascal", "flat")):
    """A list of words as one identifier."""
    k = r.choice(kinds)
    words = [w.lower() for w in words]
    if k == "snake":
        return "_".join(words)
    if k == "upper":
        return "_".join(words).upper()
    if k == "kebab":
        return "-".join(words)
    if k == "camel":
        return words[0] + "".join(w.capitalize() for w in words[1:])
    if k == "pascal":
        return "".join(w.capitalize() for w in words)
    if k == "dot":
        return ".".join(words)
    return "".join(words) if len("".join(words)) < 14 else "_".join(words)


def name(r):
    return r.choice(NAMES)


def full_name(r):
    return r.choice(NAMES) + " " + r.choice(SURNAMES)


def email(r):
    who = r.choice([r.choice(NAMES).lower(), made_up(r, 1, 2),
                    r.choice(NAMES).lower() + "." + r.choice(SURNAMES).lower()])
    who = who.encode("ascii", "ignore").decode() or "ann"
    return who + "@" + r.choice([r.choice(DOMAINS), made_up(r, 1, 2) + r.choice([".com", ".org", ".net", ".io"])])


def date(r):
    return f"{r.randint(1990, 2035)}-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}"


def clock(r):
    return f"{r.randint(0, 23):02d}:{r.choice([0, 15, 30, 45, r.randint(0, 59)]):02d}"


def phrase(r):
    """A few words of plain text."""
    c = r.choice
    k = r.randint(0, 12)
    if k > 6:
        t = " ".join(c(COMMON) for _ in range(r.randint(1, 6)))
        return t.capitalize() if r.random() < 0.4 else t
    if k == 0:
        return c(["see you at " + clock(r), "call me back", "the meeting is moved to " + c(DAYS), "thank you so much",
                  "I will be late", "dinner is ready", "please bring the " + c(NOUNS), "happy birthday",
                  "good luck", "the " + c(NOUNS) + " is broken", "well done", "on my way"])
    if k == 1:
        return f"the {c(ADJECTIVES)} {c(NOUNS)}"
    if k == 2:
        return f"{c(NOUNS)} {c(NOUNS)}"
    if k == 3:
        return f"{c(ADJECTIVES)} {c(NOUNS)} and {c(ADJECTIVES)} {c(NOUNS)}"
    if k == 4:
        return f"{c(VERBS_PAST)} the {c(NOUNS)} {c(ADVERBS)}"
    if k == 5:
        return " ".join(c([c(NOUNS), made_up(r, 1, 2), c(ADJECTIVES)]) for _ in range(r.randint(2, 5)))
    return f"buy {c(FOODS)}" if r.random() < 0.5 else f"water the {c(NOUNS)}"
