"""Tools, requests for them and the calls that answer, for corpus.py.

A tool is either one of CONCEPTS (things that people really build tools for, said as people say them), a verb and
an object with parameters drawn from ATTRS, or a word nobody knows with parameters nobody knows.
Every name is accepted by a function given from outside, so that held-out names stay held out.
"""

import json

import filler
import words as W

# id: (names, type, descriptions, value maker, phrases). A phrase says the value; a bool has two lists.
ATTRS = {}


def attr(ident, names, kind, descs, make, phrases, false=None):
    ATTRS[ident] = (names.split("|"), kind, descs.split("|"), make, phrases.split("|"),
                    false.split("|") if false else None)


def num(lo, hi):
    return lambda r: r.randint(lo, hi)


def dec(lo, hi):
    return lambda r: round(r.uniform(lo, hi), r.choice([1, 2]))


def pick(seq):
    seq = seq.split("|") if isinstance(seq, str) else seq
    f = lambda r: r.choice(seq)
    f.choices = seq
    return f


def some(make, lo=2, hi=4):
    def f(r):
        out = []
        for _ in range(r.randint(lo, hi)):
            v = make(r)
            if v not in out:
                out.append(v)
        return out
    return f


def word(r):
    return r.choice([r.choice(W.NOUNS), r.choice(W.ADJECTIVES), W.made_up(r), W.made_up(r)])


def path(r):
    return "/" + "/".join(word(r) for _ in range(r.randint(1, 3))) + r.choice(["", "", ".txt", ".log", ".csv", ".json"])


def filename(r):
    return W.style(r, [word(r), word(r)]) + r.choice([".txt", ".pdf", ".csv", ".json", ".png", ".md", ".log"])


def item_id(r):
    return r.choice([W.LETTERS.upper()[r.randint(0, 25)] + W.digits(r, 4), "#" + W.digits(r, 4),
                     W.letters(r, 2, 3).upper() + "-" + W.digits(r, r.randint(2, 5)), W.digits(r, 6), W.code(r)])


def url(r):
    return "https://" + W.made_up(r, 1, 2) + r.choice([".com", ".org", ".net"]) + r.choice(["", "/" + word(r)])


attr("city", "city|location|place|town|city name|where|target city", "string", "Name of the city|The city|City to use|Which place|Location",
     pick(W.CITIES), "in {v}|for {v}|city {v}|in the city of {v}|at {v}")
attr("country", "country|nation|country name|land", "string", "The country|Name of the country", pick(list(W.CAPITALS)), "in {v}|for {v}|country {v}")
attr("days", "days|num days|day count|forecast days|period", "integer", "Number of days|How many days|Days to cover", num(1, 30), "for {v} days|for the next {v} days|{v} days|over {v} days")
attr("date", "date|day|on date|due date|when", "string", "Date as YYYY-MM-DD|The date|Day in the form YYYY-MM-DD", W.date, "on {v}|for {v}|date {v}|dated {v}")
attr("weekday", "weekday|day|day of week", "string", "Day of the week|The weekday", pick(W.DAYS), "on {v}|next {v}|for {v}")
attr("time", "time|at|start time|clock|when", "string", "Time as HH:MM|The time of day|When, as HH:MM", W.clock, "at {v}|for {v}|time {v}")
attr("limit", "limit|max results|count|top k|max items|page size", "integer", "Maximum number of results|How many results at most|Number of entries", num(1, 100), "limit {v}|at most {v} results|no more than {v}|max {v}|show {v} results|only the first {v}")
attr("query", "query|search term|q|keywords|search|term", "string", "What to search for|Search terms|The words to look for", W.phrase, "for {v}|about {v}|query {v}|matching {v}")
attr("person", "name|person|contact|recipient|who|user name|full name", "string", "Name of the person|The person|Who it is for", lambda r: r.choice([W.name, W.full_name])(r), "for {v}|to {v}|of {v}|named {v}|called {v}")
attr("email", "email|to|address|recipient|email address|mail to", "string", "Email address|Address of the recipient|Where to send it", W.email, "to {v}|email {v}|for {v}|address {v}")
attr("subject", "subject|title|subject line|topic|heading", "string", "Subject line|The subject|Topic of the mail", W.phrase, "with subject {v}|subject {v}|about {v}|with the subject {v}")
attr("body", "body|content|message|text|mail body", "string", "Text of the message|The content|Body of the mail", W.phrase, "saying {v}|with body {v}|body {v}|with the text {v}|that says {v}")
attr("message", "message|text|content|msg|note", "string", "The message|Text to send|What to say", W.phrase, "saying {v}|with the message {v}|message {v}|that says {v}")
attr("amount", "amount|value|sum|quantity|total", "number", "The amount|How much|Amount to use", lambda r: r.choice([r.randint(1, 5000), round(r.uniform(1, 900), 2), round(r.uniform(1, 90), 1)]), "{v}|amount {v}|of {v}|for {v}")
attr("cur_from", "from currency|source currency|from|base|currency from", "string", "Currency to convert from|Source currency code", pick(W.CURRENCIES), "from {v}")
attr("cur_to", "to currency|target currency|to|quote|currency to", "string", "Currency to convert to|Target currency code", pick(W.CURRENCIES), "to {v}|into {v}")
attr("currency", "currency|currency code|cur", "string", "Currency code|The currency", pick(W.CURRENCIES), "in {v}|currency {v}")
attr("language", "language|target language|lang|to language|to", "string", "Target language|The language|Language to use", pick(W.LANGUAGES), "in {v}|to {v}|into {v}|language {v}")
attr("text", "text|input|content|source text|string", "string", "The text|Text to work on|Input text", W.phrase, "{v}|the text {v}|text {v}|for {v}")
attr("title", "title|name|label|heading|caption", "string", "The title|Title to use|A short name", W.phrase, "titled {v}|called {v}|with title {v}|named {v}|title {v}")
attr("priority", "priority|importance|level|urgency", "string", "Priority|How important it is", pick("low|medium|high"), "with {v} priority|priority {v}|as {v} priority")
attr("status", "status|state|filter status|condition", "string", "Status|The state", pick("open|closed|pending|active|done|failed"), "with status {v}|status {v}|that are {v}|in state {v}")
attr("unit", "unit|units|scale|temperature unit", "string", "Unit of temperature|Unit to use", pick("celsius|fahrenheit"), "in {v}|unit {v}|using {v}")
attr("user_id", "user id|id|uid|customer id|account id|member", "integer", "Id of the user|The numeric id|User number", num(1, 99999), "user {v}|with id {v}|id {v}|for user {v}|number {v}")
attr("ref", "order id|id|reference|ticket id|number|code|invoice id|key", "string", "Identifier|Reference code|The id", item_id, "{v}|with id {v}|number {v}|with reference {v}|id {v}")
attr("tags", "tags|labels|keywords|topics|categories", "array", "List of tags|Labels to attach|Tags", some(word), "with tags {v}|tagged {v}|with the labels {v}|tags {v}")
attr("names", "names|people|attendees|guests|members|participants", "array", "List of names|People to add|Who takes part", some(W.name), "with {v}|for {v}|including {v}|people {v}")
attr("items", "items|products|things|entries", "array", "List of items|The items", some(pick(W.NOUNS)), "with {v}|items {v}|containing {v}|{v}")
attr("numbers", "numbers|values|data|points|series", "intarray", "List of numbers|The values|Numbers to use", some(num(1, 200), 2, 5), "{v}|of {v}|the numbers {v}|values {v}")
attr("urgent", "urgent|is urgent|important|high priority", "boolean", "Whether it is urgent|Mark as urgent", None, "and mark it as urgent|urgently|it is urgent|urgent: true|urgent yes", "not urgent|it is not urgent|urgent: false|and do not mark it as urgent")
attr("dry_run", "dry run|simulate|test mode|preview", "boolean", "Only simulate|Do not really do it|Dry run", None, "as a dry run|with dry run on|in dry run mode|only simulate it", "not as a dry run|with dry run off|for real, no dry run")
attr("archived", "include archived|archived|with archived|show archived", "boolean", "Whether to include archived entries|Archived too", None, "including archived ones|include archived|with archived ones too", "without archived ones|not archived|exclude archived")
attr("notify", "notify|send notification|notifications|alert", "boolean", "Whether to send a notification|Notify people", None, "and notify everyone|with notification|notify: true|and send a notification", "without notification|do not notify anyone|notify: false|and send no notification")
attr("recursive", "recursive|deep|include subfolders|subfolders", "boolean", "Whether to go into subfolders|Recursive", None, "recursively|with subfolders|recursive: true|including subfolders", "not recursively|without subfolders|recursive: false")
attr("force", "force|overwrite|replace existing|force mode", "boolean", "Overwrite what exists|Whether to force it", None, "with force|and force it|force: true|overwriting what exists", "without force|do not force it|force: false")
attr("on", "on|enabled|active|power|state", "boolean", "On or off|Whether it is on|True for on", None, "on|turned on|switched on|enabled", "off|turned off|switched off|disabled")
attr("path", "path|file path|folder|directory|dir|location", "string", "Path of the file|The path|Folder path", path, "{v}|at {v}|in {v}|path {v}|from {v}")
attr("file", "file|filename|file name|document|attachment", "string", "Name of the file|The file", filename, "{v}|the file {v}|file {v}|called {v}")
attr("url", "url|link|address|website|uri", "string", "The URL|Web address|Link to open", url, "{v}|at {v}|from {v}|url {v}")
attr("color", "color|colour|hue|light color", "string", "The color|Color to use", pick(W.COLORS), "in {v}|color {v}|to {v}")
attr("room", "room|area|zone|where|room name", "string", "The room|Which room|Name of the room", pick(W.ROOMS), "in the {v}|room {v}|for the {v}")
attr("brightness", "brightness|level|intensity|dim level", "integer", "Brightness in percent|Level from 0 to 100", num(1, 100), "to {v} percent|at {v} percent|brightness {v}|with brightness {v}")
attr("temperature", "temperature|degrees|target temperature|temp|setpoint", "number", "Temperature|Degrees|Target temperature", lambda r: r.choice([r.randint(5, 35), r.randint(10, 60) / 2]), "to {v} degrees|at {v} degrees|temperature {v}")
attr("volume", "volume|level|loudness", "integer", "Volume from 0 to 100|How loud", num(0, 100), "at volume {v}|to {v}|volume {v}|with volume {v}")
attr("minutes", "minutes|duration|duration minutes|length|timeout minutes|mins", "integer", "Duration in minutes|How many minutes|Minutes", num(1, 180), "for {v} minutes|{v} minutes|of {v} minutes|minutes {v}")
attr("seconds", "seconds|timeout|wait seconds|delay|secs", "integer", "Number of seconds|How long in seconds", num(1, 600), "for {v} seconds|{v} seconds|after {v} seconds|timeout {v}")
attr("quantity", "quantity|count|amount|qty|number", "integer", "How many|The quantity|Number of pieces", num(1, 60), "{v} of them|quantity {v}|{v} pieces|{v} times")
attr("size", "size|format size|dimension", "string", "Size|Which size", pick("small|medium|large"), "in {v}|size {v}|{v} size")
attr("format", "format|output format|type|file format|as", "string", "Output format|The format", pick("json|csv|xml|pdf|text"), "as {v}|in {v} format|format {v}")
attr("artist", "artist|singer|band|by", "string", "The artist|Name of the band", lambda r: r.choice([W.full_name(r), "The " + r.choice(W.ADJECTIVES).capitalize() + " " + r.choice(W.NOUNS).capitalize() + "s"]), "by {v}|from {v}|artist {v}")
attr("song", "song|track|title|song name|music", "string", "Title of the song|The song", lambda r: r.choice([W.phrase(r), r.choice(W.ADJECTIVES).capitalize() + " " + r.choice(W.NOUNS).capitalize()]), "{v}|the song {v}|song {v}|called {v}")
attr("phone", "phone|phone number|number|to number|tel", "string", "Phone number|Number to call", lambda r: r.choice(["+", ""]) + W.digits(r, r.randint(6, 11)), "to {v}|number {v}|at {v}|phone {v}")
attr("reason", "reason|comment|why|remark|cause", "string", "The reason|Why|A comment", W.phrase, "because {v}|reason {v}|with reason {v}|with the comment {v}")
attr("rating", "rating|stars|score|points", "integer", "Rating from 1 to 5|How many stars", num(1, 5), "with {v} stars|rating {v}|{v} stars|score {v}")
attr("width", "width|w|x size|columns", "integer", "Width in pixels|The width", num(1, 4000), "width {v}|{v} wide|with width {v}")
attr("height", "height|h|y size|rows", "integer", "Height in pixels|The height", num(1, 4000), "height {v}|{v} high|with height {v}")
attr("start", "start date|from date|since|begin|start", "string", "First day, YYYY-MM-DD|Start date", W.date, "from {v}|starting {v}|since {v}|start {v}")
attr("end", "end date|to date|until|finish|end", "string", "Last day, YYYY-MM-DD|End date", W.date, "to {v}|until {v}|ending {v}|end {v}")
attr("origin", "origin|from city|departure|start|source", "string", "Where the trip starts|City of departure|Origin", pick(W.CITIES), "from {v}|starting in {v}|departing from {v}")
attr("dest", "destination|to city|arrival|target|goal", "string", "Where the trip ends|City of arrival|Destination", pick(W.CITIES), "to {v}|going to {v}|bound for {v}")
attr("guests", "guests|people|party size|passengers|persons|seats|adults", "integer", "Number of people|How many persons", num(1, 12), "for {v} people|for {v} persons|{v} guests|for {v}")
attr("nights", "nights|stay|num nights|length of stay", "integer", "Number of nights|How many nights", num(1, 21), "for {v} nights|{v} nights|staying {v} nights")
attr("product", "product|item|article|product name|thing", "string", "Name of the product|The item|What to buy", lambda r: r.choice([r.choice(W.NOUNS), r.choice(W.ADJECTIVES) + " " + r.choice(W.NOUNS)]), "{v}|product {v}|the item {v}|called {v}")
attr("percent", "percent|percentage|rate|discount|share", "number", "Percentage|Rate in percent", lambda r: r.choice([r.randint(1, 99), r.randint(1, 300) / 10]), "{v} percent|of {v} percent|rate {v}|by {v} percent")
attr("a", "a|x|first|left|first number", "number", "First number|The first value", lambda r: r.choice([r.randint(1, 999), r.randint(1, 9999) / 10]), "{v}")
attr("b", "b|y|second|right|second number", "number", "Second number|The second value", lambda r: r.choice([r.randint(1, 999), r.randint(1, 9999) / 10]), "{v}")
attr("page", "page|page number|offset|page index", "integer", "Page number|Which page", num(1, 50), "page {v}|on page {v}|from page {v}")
attr("sort", "sort|order by|sort by|ordering|sort key", "string", "Sort key|How to sort", pick("name|date|price|size|rating"), "sorted by {v}|ordered by {v}|sort by {v}")
attr("category", "category|kind|type|group|section", "string", "Category|Kind of entry", word, "in category {v}|of type {v}|category {v}|kind {v}")
attr("version", "version|release|tag|build", "string", "Version|Which release", lambda r: f"{r.randint(0, 9)}.{r.randint(0, 20)}" + r.choice(["", f".{r.randint(0, 9)}"]), "version {v}|release {v}|at version {v}")
attr("branch", "branch|ref|target branch|base branch", "string", "Name of the branch|The branch", lambda r: r.choice(["main", "dev", word(r), "feature/" + word(r)]), "on branch {v}|branch {v}|into {v}|from branch {v}")
attr("host", "host|server|hostname|machine|node", "string", "Name of the server|The host", lambda r: r.choice([word(r), word(r) + "-" + W.digits(r, 2), "10.0." + str(r.randint(0, 255)) + "." + str(r.randint(1, 254))]), "on {v}|host {v}|server {v}|on server {v}")
attr("port", "port|port number|tcp port|listen port", "integer", "Port number|TCP port", num(20, 65000), "port {v}|on port {v}|at port {v}")
attr("retries", "retries|attempts|max retries|tries", "integer", "How often to retry|Number of attempts", num(0, 9), "with {v} retries|{v} retries|retry {v} times")
attr("zip", "zip|postal code|postcode|zip code", "string", "Postal code|The zip code", lambda r: W.digits(r, 5), "{v}|zip {v}|postal code {v}")
attr("expr", "expression|formula|calculation|input", "string", "The expression|Formula to compute", lambda r: f"{r.randint(2, 99)} {r.choice('*/-')} {r.randint(2, 99)}", "{v}|the expression {v}|of {v}")
attr("command", "command|cmd|shell command|script", "string", "The command|Shell command to run", lambda r: r.choice(["ls", "cat", "rm", "grep", "tail", "echo", "du"]) + " " + r.choice(["-l ", "", "-r ", "-n "]) + path(r), "{v}|the command {v}|command {v}")

attr("src", "from|source|sender|from account|origin account|giver", "string", "Where it comes from|The source|Sending account", word, "from {v}|out of {v}")
attr("dst", "to|target|receiver|to account|destination account|taker", "string", "Where it goes to|The target|Receiving account", word, "to {v}|into {v}")
attr("units", "units|amount|quantity|count|how many", "number", "How many units|The amount", lambda r: r.choice([r.randint(1, 999), r.randint(1, 999) / 2]), "{v} units|{v} of them|{v} pieces")
attr("times", "times|repeat|count|repetitions|n", "integer", "How many times|Number of repetitions", num(1, 20), "{v} times|repeat {v} times|times {v}")
attr("level", "level|strength|grade|stage|intensity", "integer", "The level|How strong", num(0, 20), "at level {v}|with level {v}|level {v}|to level {v}")
attr("quiet", "quiet|silent|mute|no output", "boolean", "Say nothing|Whether to be quiet", None, "quietly|silently|without output|in quiet mode", "not quietly|with output|quiet: false")
attr("year", "year|in year|model year|vintage", "integer", "The year|Year as four digits", num(1900, 2035), "in {v}|from {v}|of {v}|for the year {v}")
attr("age", "age|years|years old", "integer", "Age in years|How old", num(1, 99), "aged {v}|{v} years old|age {v}")

# verbs | objects | descriptions | parameters (! = required) | what people say
CONCEPTS = []


def concept(verbs, objects, descs, params, says):
    CONCEPTS.append((verbs.split("|"), objects.split("|"), descs.split("|"), params.split(), says.split("|")))


concept("get|fetch|lookup|check|show|current", "weather|forecast|weather forecast", "Get the weather for a city|Look up the weather forecast of a place|Current weather and forecast for a location",
        "city! days unit", "What is the weather in {city}?|What's the weather like in {city}?|What is the weather like in {city} in {unit}?|Can you tell me the weather in {city} in {unit}?|Weather in {city}?|Tell me the weather for {city}|What's the forecast for {city}?|How hot is it in {city}, in {unit}?|Is it raining in {city}?|Is it cold in {city}?|Will it snow in {city}?|What is the temperature in {city}?|{city} weather|Give me a {days} day forecast for {city}|weather in {city} for the next {days} days|How is the weather in {city}?|What will the weather be like in {city} in {unit}?|Will it rain in {city} in the next {days} days?|Show me the forecast for {city} for {days} days in {unit}|Do I need an umbrella in {city}?|How warm is it in {city}?|Tell me the weather in {city}|I am in {city}. What is the weather like?")
concept("send|write|compose|deliver", "email|mail|message", "Send an email|Write a mail to somebody and send it",
        "email! subject! body! urgent", "Send an email to {email} with subject {subject} and body {body}|Email {email} about {subject}: {body}|Write {email} an email about {subject} telling them {body}|Send an email to {email} with the subject {subject} and the body {body}|Send {email} an email. Subject: {subject}. Body: {body}|Mail to {email}, subject {subject}: {body}|Drop {email} a line about {subject}: {body}|Mail {email}: subject {subject}, text {body}|Write to {email} with the subject {subject} saying {body}|email {email} about {subject} and say {body}|Please send {email} a mail titled {subject} with the content {body}")
concept("send|text|post", "sms|text message|chat message", "Send a text message to a phone number|Send an SMS", "phone! message!",
        "Text {phone}: {message}|Send an SMS to {phone} saying {message}|send {message} to {phone}|Send a message to {phone} with the text {message}")
concept("tell|message|notify|ping", "contact|person|user", "Send a chat message to a person|Notify a contact", "person! message!",
        "Tell {person} {message}|Message {person}: {message}|Let {person} know: {message}|Send {person} the message {message}")
concept("set|start|create|add", "timer|countdown|alarm timer", "Start a timer|Set a countdown timer in minutes", "minutes! title",
        "Set a timer for {minutes} minutes|timer {minutes} minutes|Start a {minutes} minute timer|Start a timer of {minutes} minutes called {title}|Wake me in {minutes} minutes|Count down {minutes} minutes")
concept("set|create|add", "alarm|wake up alarm", "Set an alarm for a time of day|Create an alarm", "time! weekday", "Set an alarm for {time}|Wake me up at {time}|alarm at {time}|Wake me at {time} on {weekday}|I have to get up at {time}")
concept("create|add|set|schedule", "reminder|todo|task", "Create a reminder|Add a task to the list|Remember something for the user", "title! date time priority",
        "Remind me to {title}|Remind me to {title} on {date}|Add a reminder: {title}, at {time}|Create a task {title} with {priority} priority|I must not forget: {title} on {date} at {time}|new todo: {title}")
concept("create|schedule|add|book|plan", "event|meeting|appointment|calendar event", "Create a calendar event|Schedule a meeting|Add an appointment to the calendar", "title! date! time! names minutes",
        "Schedule {title} on {date} at {time}|Create an event called {title} on {date} at {time} with {names}|Book a meeting {title} for {date}, {time}, {minutes} minutes|Put {title} in my calendar on {date} at {time}|Set up a meeting about {title} on {date} at {time} with {names} for {minutes} minutes")
concept("convert|exchange|calculate", "currency|money|exchange rate", "Convert an amount of money between currencies|Currency conversion", "amount! cur_from! cur_to!",
        "Convert {amount} {cur_from} to {cur_to}|How many {cur_to} are {amount} {cur_from}?|What is {amount} {cur_from} in {cur_to}?|Exchange {amount} {cur_from} for {cur_to}|Turn {amount} {cur_from} into {cur_to}|How much is {amount} {cur_from} in {cur_to}?|change {amount} {cur_from} into {cur_to}|What are {amount} {cur_from} worth in {cur_to}?|I have {amount} {cur_from}. How many {cur_to} is that?")
concept("translate|convert", "text|sentence|phrase", "Translate a text into another language|Translation of text", "text! language!",
        "Translate {text} to {language}|How do you say {text} in {language}?|Put {text} into {language}|translate into {language}: {text}|What is {text} in {language}?")
concept("search|find|query|lookup", "web|internet|pages|news", "Search the web|Find pages on the internet|Look something up online", "query! limit",
        "Search the web for {query}|Search for {query}, give me {limit} results|Find information about {query}|Can you search for {query}?|Look for {query} on the internet|Please find the top {limit} results for {query}|Look up {query} online|Find {limit} pages about {query}|google {query}|Search for {query} and show {limit} results|What does the internet say about {query}?")
concept("play|start|stream", "music|song|track", "Play a song|Start playing music", "song! artist volume", "Play {song}|Can you play {song} by {artist}?|Let me hear {song}|Play {song} by {artist}|I want to hear {song} by {artist}|put on {song} at volume {volume}|Start the song {song}")
concept("set|change|adjust", "volume|loudness|sound level", "Set the volume|Change how loud the sound is", "volume!", "Set the volume to {volume}|volume {volume}|Make it {volume} loud|Change the loudness to {volume}")
concept("set|control|switch|turn", "light|lamp|lights", "Control a light|Switch the lamp of a room", "room! on! brightness color", "Turn on the light in the {room} => on=true|Turn on the {room} light => on=true|Turn off the {room} light => on=false|Switch on the {room} lights => on=true|Switch off the {room} lamp => on=false|Switch on the lamp in the {room} => on=true|{room} light on => on=true|{room} light off => on=false|Light on in the {room}, color {color} => on=true|Set the {room} light to {brightness} percent => on=true|Dim the {room} light to {brightness} percent => on=true|I am in the {room} and it is too bright, turn off the light => on=false|Turn off the light in the {room} => on=false|Switch the {room} lamp on at {brightness} percent => on=true|lights off in the {room} => on=false|Make the {room} light {color} => on=true|It is dark in the {room}, turn the light on => on=true|Turn the {room} light off please => on=false")
concept("set|adjust|change", "thermostat|heating|temperature", "Set the temperature of a room|Control the heating", "room! temperature!", "Set the {room} to {temperature} degrees|Heat the {room} to {temperature} degrees|Make it {temperature} degrees in the {room}|thermostat {room} {temperature}|I want {temperature} degrees in the {room}")
concept("book|reserve|order", "flight|plane ticket|trip", "Book a flight|Reserve a plane ticket", "origin! dest! date! guests", "Book a flight from {origin} to {dest} on {date}|I need to fly from {origin} to {dest} on {date}|flight {origin} to {dest}, {date}, {guests} passengers|Fly me to {dest} from {origin} on {date}|Get {guests} plane tickets from {origin} to {dest} for {date}")
concept("search|find|list", "flights|trains|connections", "Search connections between two cities|Find trains or flights", "origin! dest! date", "Find trains from {origin} to {dest}|Which connections are there from {origin} to {dest} on {date}?|How do I get from {origin} to {dest}?|Show connections to {dest} from {origin} on {date}")
concept("book|reserve", "hotel|room|hotel room", "Book a hotel room|Reserve a hotel", "city! date! nights! guests", "Book a hotel in {city} from {date} for {nights} nights|Reserve a room in {city} on {date}, {nights} nights, {guests} people|I need a hotel in {city} for {nights} nights starting {date}|hotel {city} {date} {nights} nights for {guests} guests")
concept("book|reserve", "table|restaurant|restaurant table", "Reserve a table in a restaurant|Book a restaurant", "person! guests! date time!", "Reserve a table for {guests} people at {time} under the name {person}|Book a table for {guests} on {date} at {time} for {person}|table for {guests}, {time}, name {person}")
concept("get|fetch|show|lookup|check", "stock price|share price|quote", "Get the price of a share|Current stock price", "ref! currency", "What is the stock price of {ref}?|How is {ref} trading?|price of {ref} in {currency}|Get me the quote for {ref}")
concept("get|check|track|lookup", "order status|package|shipment|order", "Get the status of an order|Track a package", "ref!", "Where is my order {ref}?|Track package {ref}|What is the status of order {ref}?|Has {ref} been shipped?|Check the shipment {ref}")
concept("cancel|delete|remove", "order|booking|reservation", "Cancel an order|Cancel a booking", "ref! reason notify", "Cancel order {ref}|Please cancel my booking {ref}|Cancel {ref} because {reason}|I no longer want {ref}, cancel it|Cancel reservation {ref} and notify everyone => notify=true")
concept("order|buy|purchase", "product|item|article", "Order a product|Buy something", "product! quantity! size", "Order {quantity} pieces of {product}|Buy {quantity} {product}|I want {quantity} of the {product} in size {size}|purchase {product}, quantity {quantity}|Get me {quantity} times {product}")
concept("add|put|append", "cart|shopping list|basket", "Add an item to the shopping list|Put something in the cart", "product! quantity", "Add {product} to my shopping list|Put {quantity} {product} in the cart|We need {product}, add it to the list|add {quantity} {product}")
concept("read|open|show|load|cat", "file|document|text file", "Read a file|Return the content of a file", "path!", "Read the file {path}|Show me {path}|What is in {path}?|Open {path}|cat {path}")
concept("write|save|store|create", "file|text file|document", "Write text to a file|Save a file", "path! text! force", "Write {text} to {path}|Save the text {text} in {path}|Create the file {path} with the content {text}|Put {text} into {path} and overwrite it => force=true")
concept("list|show|scan", "files|directory|folder", "List the files of a folder|Show a directory", "path! recursive", "List the files in {path}|What files are in {path}?|Show the folder {path} recursively => recursive=true|ls {path}|List {path} without subfolders => recursive=false")
concept("delete|remove|erase", "file|folder|path", "Delete a file|Remove a path", "path! force recursive", "Delete {path}|Remove the file {path}|Please delete {path} recursively => recursive=true|Erase {path} with force => force=true|get rid of {path}")
concept("run|execute|exec", "command|shell|bash|terminal", "Run a shell command|Execute a command in the terminal", "command! seconds", "Run {command}|Execute the command {command}|Run {command} with a timeout of {seconds} seconds|Please run {command} in the shell")
concept("get|open|fetch|download", "url|page|website|web page", "Fetch a web page|Download a URL", "url! seconds", "Open {url}|Fetch {url}|Download {url}|What is on {url}?|Get the page {url} with timeout {seconds}")
concept("get|find|lookup|show", "user|customer|account|profile", "Get a user by id|Look up a customer", "user_id! archived", "Get user {user_id}|Who is the customer with id {user_id}?|Show the profile of user {user_id}|Look up account {user_id}|Find user {user_id}, including archived ones => archived=true")
concept("create|register|add", "user|account|contact|member", "Create a user|Register a new account|Add a contact", "person! email! notify", "Create a user {person} with email {email}|Add {person} ({email}) as a contact|Register {person}, email {email}, and send a notification => notify=true|New account: {person}, {email}")
concept("update|change|edit|set", "ticket|issue|bug", "Update a ticket|Change the state of an issue", "ref! status priority", "Set ticket {ref} to {status}|Change the priority of {ref} to {priority}|Mark issue {ref} as {status} with {priority} priority|Move {ref} to {status}")
concept("create|open|file|report", "ticket|issue|bug report", "Create a ticket|Report a bug", "title! priority tags", "Open a ticket: {title}|Create an issue titled {title} with {priority} priority|Report a bug {title} with the labels {tags}|file an issue called {title}")
concept("list|find|show|search", "tickets|issues|orders|tasks|invoices", "List entries with a status|Show what is open", "status limit sort archived", "Show the {status} ones|List everything that is {status}, at most {limit} results|Which are {status}?|Show me {limit} entries sorted by {sort}|List all with status {status} including archived ones => archived=true")
concept("calculate|compute|evaluate|solve", "expression|math|formula", "Evaluate a mathematical expression|Calculator", "expr!", "Calculate {expr}|What is {expr}?|Compute {expr} with the calculator|evaluate {expr}|Please work out {expr}")
concept("multiply|add|divide|subtract", "numbers|values", "Do arithmetic on two numbers|Combine two numbers", "a! b!", "{V} {a} and {b}|{V} the numbers {a} and {b}|Please {V} {a} and {b}|Can you {V} {a} and {b} for me?|Use the tool to {V} {a} and {b}")
concept("average|mean|sort|plot|sum", "numbers|values|list", "Work on a list of numbers|Statistics of numbers", "numbers!", "{V} the numbers {numbers}|{V} the list {numbers}|Please {V} {numbers}|{V} the values {numbers}|I have the numbers {numbers}, {V} them")
concept("resize|scale|crop", "image|picture|photo", "Resize an image|Change the size of a picture", "file! width! height!", "Resize {file} to width {width} and height {height}|Make {file} {width} wide and {height} high|scale {file} to {width} by {height}|Crop {file} to {width} x {height}")
concept("get|lookup|find", "time|local time|clock", "Get the local time of a city|What time it is somewhere", "city!", "What time is it in {city}?|Current time in {city}|How late is it in {city}?|local time {city}")
concept("rate|review|score", "product|book|movie|restaurant", "Give a rating|Write a review", "title! rating! reason", "Give {title} {rating} stars|Rate {title} with {rating} stars|I give {rating} stars to {title}, with the comment {reason}|review {title}: {rating} stars")
concept("restart|reboot|deploy|stop|start", "server|service|machine", "Restart a server|Control a service on a host", "host! force seconds", "{V} the server {host}|{V} {host} with force => force=true|{V} {host} after {seconds} seconds|Please {V} the machine {host} without force => force=false|The server {host} hangs, {V} it")
concept("check|ping|scan|test", "port|connection|host", "Check whether a port is open|Test a connection", "host! port! retries", "Is port {port} open on {host}?|Check {host} port {port}|Test the connection to {host} on port {port} with {retries} retries|scan {host}:{port}")
concept("merge|create|checkout|push", "branch|pull request|code", "Work on a branch of the repository|Open a pull request", "branch! title dry_run", "{V} the branch {branch}|{V} branch {branch} titled {title}|{V} branch {branch} as a dry run => dry_run=true|Please {V} {branch}")
concept("find|search|get|nearby", "restaurants|shops|places|cafes", "Find places in a city|Search for shops nearby", "city! category limit", "Find places of type {category} in {city}|What is there in {city}? Show {limit} results|Places in {city}, category {category}|Where can I go in {city}?")
concept("get|lookup|define|find", "definition|meaning|word", "Define a word|Look up the meaning of a word", "text! language", "What does {text} mean?|Define {text}|Look up the meaning of {text} in {language}|definition of {text}")
concept("pay|transfer|send", "money|payment|funds", "Transfer money to a person|Make a payment", "amount! currency! person! reason", "Send {amount} {currency} to {person}|Pay {person} {amount} {currency}|Transfer {amount} {currency} to {person} because {reason}|{person} gets {amount} {currency} from me")
concept("generate|create|export|make", "report|summary|statistics", "Generate a report for a period|Export a report", "start! end! format", "Make a report from {start} to {end}|Export the statistics from {start} until {end} as {format}|report {start} to {end} in {format} format|Generate a summary since {start} until {end}")
concept("get|query|read|lookup", "distance|route|directions", "Get the distance between two cities|Directions from one place to another", "origin! dest!", "How far is it from {origin} to {dest}?|Distance between {origin} and {dest}|Give me directions from {origin} to {dest}|route {origin} to {dest}")
concept("roll|throw|draw", "dice|die|random number", "Roll dice|Draw random numbers", "quantity!", "Roll {quantity} dice|Throw the dice {quantity} times|Draw {quantity} of them")
concept("get|list|show|whoami", "server time|current user|help|status|version|inbox", "Show the status|Returns information and needs no input|Get the current state", "",
        "Show me that|Please call it|What does it say?|Check it|Do it now")

VERBS = """get fetch list show find search create add make open close delete remove update change set start stop send
check cancel book move copy rename merge split lock unlock enable disable approve reject archive restore publish print
scan count compare validate import export sync upload download record measure assign invite ban""".split()
THINGS = """invoice ticket order customer account contract playlist album photo video report recipe workout session
channel project sprint comment review coupon voucher parcel shipment warehouse sensor device camera printer door
window garage boiler pump valve robot drone vehicle trip route station bus seat meal menu table guest room course
lesson exam student teacher book loan library member subscription payment refund budget expense salary holiday shift
meeting agenda note page wiki article draft folder document backup snapshot cluster node pod container image volume
database table index query cache queue topic event alert incident metric dashboard log trace secret token certificate
key policy role group team badge garden plant greenhouse tank pool lamp alarm oven fridge""".split()
LEADS = """{do}|Please {do}|Can you {do}?|Could you {do}?|I want to {do}|I need to {do}|I would like you to {do}|Help me {do}|
Now {do}|Hey, {do}|Your job: {do}|{do}, please|Go ahead and {do}|Would you {do}?|I'd like to {do}|Time to {do}""".replace("\n", "").split("|")
SYNONYMS = {"get": "get fetch show retrieve", "fetch": "fetch get retrieve", "list": "list show", "show": "show display", "find": "find search",
            "create": "create make add", "add": "add create", "delete": "delete remove erase", "remove": "remove delete",
            "update": "update change edit", "change": "change update modify", "start": "start begin", "stop": "stop halt end",
            "send": "send", "cancel": "cancel", "book": "book reserve", "check": "check verify", "copy": "copy duplicate"}
CALLS = """Call {n} with {a}|Use {n} with {a}|Run {n} with {a}|Please call {n} with {a}|Call the tool {n} with {a}|Use the {n} tool with {a}|
Invoke {n} with {a}|{n} with {a}|Execute {n}, {a}|call {n}: {a}|Use {n} ({a})|I want you to call {n} with {a}|Can you use {n} with {a}?|
Make a call to {n} with {a}|Use the function {n} with {a}|Start {n} with {a}|Do a {n} with {a}|Call {n} using {a}|Trigger {n} with {a}""".replace("\n", "").split("|")


class Param:
    """A parameter of a tool: its name, schema and how a value of it is made and said."""

    def __init__(self, r, ident, ok, required):
        self.required = required
        if ident is None:
            self.gibberish(r, ok)
            return
        names, self.kind, descs, self.make, self.phrases, self.false = ATTRS[ident]
        self.words = r.choice(names).split()
        self.name = None
        for i in range(3000):
            n = W.style(r, self.words, ("snake", "snake", "snake", "camel", "camel", "kebab", "pascal", "flat") if i < 12 else
                        ("snake", "camel", "kebab", "pascal", "flat", "upper"))
            if ok(n):
                self.name = n
                break
            self.words = r.choice(names).split()
            if i > 20 or r.random() < 0.15:
                self.words = r.choice([[], [], ["my"], ["the"], ["new"], ["target"], ["input"], ["in"], ["for"], ["user"], ["main"], ["req"], ["p"], ["arg"], ["opt"]]
                                      ) + self.words + r.choice([[], [], ["value"], ["arg"], ["param"], ["field"], ["input"], ["1"], ["2"], ["x"], ["str"], ["in"]])
            if i > 60:
                self.words = [W.made_up(r, 1, 2)] + self.words
        self.desc = r.choice(descs)
        if r.random() < 0.1:
            self.desc = self.desc.lower()

    def gibberish(self, r, ok):
        while True:
            self.words = [W.made_up(r, 1, 2) if r.random() < 0.8 else r.choice(W.NOUNS) for _ in range(r.choice([1, 1, 1, 2]))]
            self.name = W.style(r, self.words)
            if ok(self.name):
                break
        self.kind = r.choice(["string"] * 4 + ["integer"] * 3 + ["boolean"] * 2 + ["number", "array", "intarray"])
        self.make = {"string": lambda r: r.choice([word, word, W.code, W.phrase, W.name, pick(W.CITIES), W.email, path, item_id, W.date])(r),
                     "integer": lambda r: r.choice([r.randint(0, 20), r.randint(0, 999), r.randint(0, 99999), -r.randint(1, 50)]),
                     "boolean": None, "number": dec(0, 100), "array": some(word), "intarray": some(num(0, 99))}[self.kind]
        if self.kind == "string" and r.random() < 0.15:
            opts = [word(r) for _ in range(r.randint(2, 4))]
            self.make = pick(opts)
        n = " ".join(self.words)
        self.phrases = [n + " {v}", n + " set to {v}", "the " + n + " is {v}"]
        self.false = None
        self.desc = r.choice([f"The {n}", f"The {n} to use", f"Value of {n}", f"{n} setting", f"A {n}", ""])

    def value(self, r):
        if self.kind == "boolean":
            return r.random() < 0.5
        v = self.make(r)
        # Not only the values of our lists: a city, room or name may be any word.
        if self.kind == "string" and hasattr(self.make, "choices") and len(self.make.choices) >= 7 and r.random() < 0.25:
            w = " ".join(r.choice([W.made_up(r), r.choice(W.COMMON), r.choice(W.NOUNS)]) for _ in range(r.choice([1, 1, 1, 2])))
            v = w.title() if v[0].isupper() else w
        return v

    def schema(self, r, descs):
        s = {"type": {"intarray": "array"}.get(self.kind, self.kind)}
        if self.kind == "array":
            s["items"] = {"type": "string"}
        if self.kind == "intarray":
            s["items"] = {"type": "integer"}
        if hasattr(self.make, "choices") and len(self.make.choices) < 7 and r.random() < 0.8:
            s["enum"] = list(self.make.choices)
        if descs and self.desc:
            s["description"] = self.desc
            if r.random() < 0.08:
                s["description"] += r.choice([". " + filler.sentence(r), " (optional)", " to use for this call", ", e.g. " + str(r.randint(1, 50))])
        if self.kind == "integer" and r.random() < 0.06:
            s.update(r.choice([{"minimum": 0}, {"maximum": 1000}, {"default": r.randint(0, 9)}]))
        if self.kind == "boolean" and r.random() < 0.06:
            s["default"] = r.random() < 0.5
        return s


JOINTS = set("and or with to for in on at of from by into about the as is it that this then also".split())


def said(r, v, quote=None):
    """A value as it is written in a sentence."""
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, list):
        t = [str(x) for x in v]
        return r.choice([", ".join(t[:-1]) + " and " + t[-1], ", ".join(t), " and ".join(t)]) if len(t) > 1 else t[0]
    if quote is None and isinstance(v, str) and JOINTS & set(v.lower().split()):
        quote = r.random() < 0.85
    if isinstance(v, str) and (quote if quote is not None else r.random() < (0.5 if " " in v else 0.12)):
        return r.choice(['"{}"', '"{}"', "'{}'"]).format(v) if "'" not in v else f'"{v}"'
    return str(v)


class Tool:
    """A tool with its schema; ask() gives a request for it and the arguments of the right call."""

    def __init__(self, r, ok, kind=None, near=None):
        self.r, self.ok = r, ok
        k = kind or r.choice(["concept"] * 5 + ["synth"] * 5 + ["gibberish"] * 3)
        self.kind = k
        self.says = None
        if k == "concept":
            self.concept(r.choice(CONCEPTS))
        elif k == "synth":
            self.synth(near)
        else:
            self.gibberish(near)
        self.required = [p.name for p in self.params if p.required]

    def named(self, variants):
        """A name that may be used, from a maker of lists of words."""
        r = self.r
        for i in range(3000):
            ws = variants()
            if r.random() < 0.12 or i > 40:
                ws = [r.choice(["api", "my", "tool", "mcp", "svc", "app", "do", "the", "v2", "fast", "home", "crm", "erp", W.made_up(r, 1, 1)])] + ws
            n = W.style(r, ws, ("snake", "snake", "snake", "camel", "camel", "kebab", "pascal", "flat", "dot"))
            if self.ok(n) and "-".join(ws):
                return n
        raise RuntimeError("no name")

    def make_params(self, idents):
        out = []
        for ident, req in idents:
            for _ in range(20):
                p = Param(self.r, ident, self.ok, req)
                if p.name not in [q.name for q in out] and p.words not in [q.words for q in out]:
                    p.ident = ident
                    out.append(p)
                    break
        return out

    def concept(self, c):
        r = self.r
        verbs, objects, descs, params, self.says = c
        self.verb, self.thing = r.choice(verbs), r.choice(objects)

        def variants():
            v, o = self.verb, r.choice(objects)
            return r.choice([v.split() + o.split()] * 5 + [o.split() + v.split(), o.split()])
        self.name = self.named(variants)
        self.desc = r.choice(descs)
        if r.random() < 0.2:
            self.desc = f"{self.verb.capitalize()} {self.thing}"
        self.params = self.make_params([(p.rstrip("!"), p.endswith("!")) for p in params])

    def synth(self, near):
        r = self.r
        self.verb = near.verb if near and near.kind == "synth" and r.random() < 0.4 else r.choice(VERBS)
        self.thing = near.thing if near and near.kind == "synth" and r.random() < 0.5 else r.choice(THINGS)
        alt = SYNONYMS.get(self.verb, self.verb).split()
        self.name = self.named(lambda: r.choice([[self.verb, self.thing]] * 4 + [[self.thing, self.verb], [self.verb, r.choice(W.ADJECTIVES), self.thing]]))
        v = r.choice(alt)
        self.desc = r.choice(["{V} a {t}", "{V} the {t}", "{V} one {t}", "{V} a {t} in the system", "This tool can {v} a {t}.", "Used to {v} a {t}", "{V} {t}"]
                             ).format(V=v.capitalize(), v=v, t=self.thing)
        idents = r.sample(list(ATTRS), r.choice([0, 1, 1, 2, 2, 3, 3, 4]))
        seen, out = set(), []
        for i in idents:
            first = ATTRS[i][4][0]
            if i in ("a", "b") or first in seen and r.random() < 0.7:
                continue
            seen.add(first)
            out.append((i, r.random() < 0.7))
        self.params = self.make_params(out)

    def gibberish(self, near):
        r = self.r

        def variants():
            stem = [W.made_up(r, 1, 2)]
            if near and near.kind == "gibberish" and r.random() < 0.4:
                stem = [near.stem]
            self.stem = stem[0]
            return stem + r.choice([[], [], [W.made_up(r, 1, 2)], [r.choice(THINGS)]]) if r.random() < 0.85 else [r.choice(VERBS)] + stem
        self.name = self.named(variants)
        self.verb, self.thing = r.choice(VERBS), r.choice(THINGS + [W.made_up(r, 1, 2)] * 40)
        self.desc = r.choice(["{V} a {t}", "{V} the {t}", "Runs {n}", "The {n} tool", "{V} {t} with {n}", "Tool for {t}", "Does {t} things"]
                             ).format(V=self.verb.capitalize(), t=self.thing, n=self.name)
        self.params = self.make_params([(None, r.random() < 0.7) for _ in range(r.choice([0, 1, 1, 2, 2, 3, 4]))])

    def json(self):
        """The tool as the API takes it; key order and extras vary as they do between clients."""
        r = self.r
        descs = r.random() < 0.75
        params = {"type": "object", "properties": {p.name: p.schema(r, descs) for p in self.params}}
        if self.required or r.random() < 0.5:
            params["required"] = list(self.required)
        if r.random() < 0.08:
            params["additionalProperties"] = False
        f = {"name": self.name}
        if r.random() < 0.94:
            f["description"] = self.desc
            if r.random() < 0.10:
                f["description"] += r.choice([". " + filler.sentence(r), ". Use it when the user asks for it.", " (beta)", ". Returns JSON.", ". May be slow."])
        f["parameters"] = params
        if r.random() < 0.06:
            f = dict(reversed(list(f.items())))
        if r.random() < 0.05:
            f["strict"] = r.random() < 0.5
        return {"type": "function", "function": f}

    def ask(self):
        """(request, arguments)"""
        q, args = self.ask_plain()
        r = self.r
        if r.random() < 0.15:
            end = q.rstrip(".?!")
            loose = any(isinstance(v, str) and end.endswith(v) and (not v[:1].isupper() or " " in v) for v in args.values())
            if not loose:
                mark = q[len(end):]
                q = end + r.choice([" right now", " for me", " today" if "day" not in q else " now", " please", ", please", " now", " again", " if you can", " at the moment", " as soon as possible", ", thanks", " for us"]) + mark
            else:
                q = r.choice(["Right now, ", "For me, ", "If you can, ", "One more thing: ", "Quick, ", "Alright, ", "Good. "]) + q
        return q, args

    def ask_pair(self):
        """A request that takes two or three calls of this tool which differ in one argument, or None."""
        r = self.r
        ps = [p for p in self.params if p.kind in ("string", "integer", "number")]
        others = [p for p in self.params if p.required]
        if not ps or len(others) > 1 or others and others[0] not in ps:
            return None
        p = others[0] if others else r.choice(ps)
        vals = []
        for _ in range(r.choice([2, 2, 2, 3])):
            v = p.value(r)
            if v in vals or isinstance(v, str) and (" and " in v or "," in v or v.count(" ") > 1):
                return None
            vals.append(v)
        quote = r.random() < 0.2
        said_ = [said(r, v, quote and isinstance(v, str)) for v in vals]
        n = " ".join(p.words)
        k = r.random()
        says = [s.replace("{V}", self.verb) for s in self.says or [] if " => " not in s and _slots(s) == [p.ident]]
        if says and k < 0.6:
            t = r.choice(says)
            at = t.index("{" + p.ident + "}")
            before = t[:at].split()
            prep = before[-1] if before and before[-1].lower() in ("in", "for", "to", "of", "from", "about", "at") else None
            sep = r.choice([" and ", " and "]) + (prep + " " if prep and r.random() < 0.5 else "")
            q = t.replace("{" + p.ident + "}", ", ".join(said_[:-1]) + sep + said_[-1])
        elif k < 0.8 and not self.says and self.kind == "synth":
            v = r.choice(SYNONYMS.get(self.verb, self.verb).split())
            form = r.choice(p.phrases if p.ident else [n + " {v}"])
            one = [form.replace("{v}", x) for x in said_]
            q = r.choice(LEADS).format(do=f"{v} the {self.thing} " + r.choice([" and ", " and then ", " and once "]).join(one))
        else:
            form = r.choice(["{k}={v}", "{k} {v}", "{k} = {v}", "{w} {v}", "{k}: {v}"])
            one = [form.format(k=p.name, w=n, v=x) for x in said_]
            q = r.choice(["Call {n} with {a}", "Use {n} with {a}", "Run {n} with {a}", "Call {n} " + ("twice" if len(vals) == 2 else "three times") + ", with {a}"]).format(
                n=self.name, a=r.choice([" and then with ", " and again with ", " and with "]).join(one))
        return q, [{p.name: v} for v in vals]

    def ask_plain(self):
        """(request, arguments), without anything around it"""
        r, k = self.r, self.r.random()
        if self.says and k < 0.8:
            return self.ask_concept()
        if self.kind == "gibberish" or k < 0.25 or not self.params and k < 0.5:
            return self.ask_by_name()
        return self.ask_phrases()

    def chosen(self):
        return [p for p in self.params if p.required or self.r.random() < 0.5]

    def ask_concept(self):
        r = self.r
        by = {p.ident: p for p in self.params}
        says = [s.replace("{V}", self.verb) for s in self.says]
        fit = [s for s in says if all(i in by for i in _slots(s)) and all(p.ident in _slots(s) or p.ident + "=" in s
                                                                              for p in self.params if p.required)]
        if not fit:
            return self.ask_phrases() if self.params else self.ask_by_name()
        t, _, flags = r.choice(fit).partition(" => ")
        args = {}
        for i in _slots(t):
            v = by[i].value(r)
            args[by[i].name] = v
            long_text = isinstance(v, str) and " " in v and by[i].ident in ("subject", "body", "message", "text", "title", "song", "query", "reason")
            many = sum(by[j].ident in ("subject", "body", "message", "text", "title", "song", "query", "reason") for j in _slots(t)) > 1
            t = t.replace("{" + i + "}", said(r, v, True if long_text and (many or r.random() < 0.5) else None), 1)
        for f in flags.split():
            i, v = f.split("=")
            if i in by:
                args[by[i].name] = v == "true"
        if not self.params:
            t = r.choice(["Use {n}", "Call {n}", "Please run {n}", "{n}", "Show me the {t}", "What is the {t}?"]).format(n=self.name, t=self.thing)
        return t, self.ordered(args)

    def ask_phrases(self):
        r = self.r
        v = r.choice(SYNONYMS.get(self.verb, self.verb).split())
        do = f"{v} {r.choice(['the', 'a', 'the', '', 'my', 'this', 'one'])} {self.thing}".replace("  ", " ")
        args, parts = {}, []
        for p in self._shuffled():
            val = p.value(r)
            args[p.name] = val
            n = " ".join(p.words)
            if p.kind == "boolean":
                if p.false and r.random() < 0.6:
                    parts.append(r.choice(p.phrases if val else p.false))
                else:
                    on = "true" if val else "false"
                    parts.append(r.choice([f"{n} {on}", f"{n}: {on}", f"{n} set to {on}", f"with {n} {'on' if val else 'off'}", f"{p.name}={on}"]))
                continue
            if p.ident and r.random() < 0.55:
                t = r.choice(p.phrases)
            else:
                t = r.choice([n + " {v}", n + ": {v}", "with " + n + " {v}", n + " set to {v}", "the " + n + " is {v}", "with " + n + " = {v}",
                              p.name + "={v}", "using " + n + " {v}", n + " = {v}"])
                if p.desc and r.random() < 0.15:
                    d = p.desc[0].lower() + p.desc[1:]
                    t = r.choice([d + ": {v}", "with " + d + " {v}"])
            parts.append(t.replace("{v}", said(r, val, True if isinstance(val, str) and " " in val and r.random() < 0.7 else None)))
        sep = r.choice([" ", ", ", " and ", ", "])
        lead = r.choice(LEADS)
        tail = sep.join(parts)
        q = lead.format(do=do + (r.choice([" ", ", ", ": ", " "]) + tail if tail else ""))
        return q[0].upper() + q[1:] if r.random() < 0.7 else q, self.ordered(args)

    def _shuffled(self):
        ps = self.chosen()
        if self.r.random() < 0.4 and not any(p.ident in ("a", "b") for p in ps):
            self.r.shuffle(ps)
        return ps

    def ask_by_name(self):
        r = self.r
        args, parts = {}, []
        form = r.choice(["{k}={v}", "{k}={v}", "{k} = {v}", "{k}: {v}", "{k} {v}", "{k} set to {v}", "{k} is {v}", "{v} as {k}", "{k} equal to {v}", "{w} {v}"])
        for p in self._shuffled():
            val = p.value(r)
            args[p.name] = val
            s = json.dumps(val, ensure_ascii=False) if isinstance(val, list) and r.random() < 0.6 else said(r, val, True if isinstance(val, str) and " " in val and r.random() < 0.7 else None)
            parts.append(form.format(k=p.name, v=s, w=" ".join(p.words)))
        if not parts:
            return r.choice(["Call {n}", "Use {n}", "Please run {n}", "Run the tool {n}", "{n}", "Call {n} now", "Use the {n} tool"]).format(n=self.name), {}
        if r.random() < 0.1:
            return r.choice(["", "Run ", "Call ", "Please do "]) + self.name + "(" + ", ".join(
                f"{p.name}={json.dumps(args[p.name], ensure_ascii=False)}" for p in self.params if p.name in args) + ")", self.ordered(args)
        a = r.choice([", ".join(parts), ", ".join(parts), " and ".join(parts), ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]])
        return r.choice(CALLS).format(n=self.name, a=a), self.ordered(args)

    def ordered(self, args):
        return {p.name: args[p.name] for p in self.params if p.name in args}


def _slots(s):
    return [x.split("}")[0] for x in s.split("{")[1:]]


def offer(r, ok, n):
    """n tools with different names; some are close to each other."""
    out = []
    while len(out) < n:
        near = r.choice(out) if out and r.random() < 0.4 else None
        t = Tool(r, ok, kind=near.kind if near and near.kind != "concept" else None, near=near)
        # One of two tools made from the same concept would do as well as the other.
        if any(t.name == u.name or (t.says and t.says is u.says) or (t.verb, t.thing) == (u.verb, u.thing) for u in out):
            continue
        if any(SYNONYMS.get(t.verb, t.verb).split()[0] == SYNONYMS.get(u.verb, u.verb).split()[0] and t.thing == u.thing for u in out):
            continue
        out.append(t)
    return out
