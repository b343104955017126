/* out_parser_types.h - what a parameter's text becomes by its schema, one claim a row. */
struct type_case {
	const char *key;	/* of type_schemas below */
	const char *text;
	const char *json;	/* with single quotes for double ones */
};

static const char type_schemas[] =
	"{\"type\": \"object\", \"$defs\": {\"I\": {\"type\": \"integer\"}, \"a/b\": {\"type\": "
	"\"boolean\"},"
	"  \"R\": {\"anyOf\": [{\"$ref\": \"#/$defs/R\"}, {\"type\": \"number\"}]}, \"L\": "
	"[{\"type\": \"null\"}]},"
	" \"properties\": {"
	"\"s\": {\"type\": \"string\"}, \"i\": {\"type\": \"integer\"}, \"n\": {\"type\": "
	"\"number\"},"
	"\"b\": {\"type\": \"boolean\"}, \"o\": {\"type\": \"object\"}, \"l\": {\"type\": "
	"\"array\"},"
	"\"z\": {\"type\": \"null\"}, \"in\": {\"type\": [\"integer\", \"number\"]},"
	"\"si\": {\"type\": [\"string\", \"integer\"]}, \"sn\": {\"type\": [\"number\", "
	"\"string\"]},"
	"\"sb\": {\"type\": [\"string\", \"boolean\"]}, \"sz\": {\"type\": [\"string\", \"null\"]},"
	"\"so\": {\"type\": [\"string\", \"object\"]}, \"sl\": {\"type\": [\"array\", \"string\"]},"
	"\"ib\": {\"type\": [\"boolean\", \"integer\"]}, \"ol\": {\"type\": [\"array\", "
	"\"object\"]},"
	"\"iz\": {\"type\": \"integer\", \"nullable\": true}, \"nf\": {\"type\": \"integer\", "
	"\"nullable\": false},"
	"\"e\": {\"enum\": [\"5\", \"red\", 5, 1.5, null]}, \"ei\": {\"type\": \"integer\", "
	"\"enum\": [\"7\", \" 8\"]},"
	"\"c\": {\"const\": \"true\", \"type\": [\"boolean\", \"string\"]}, \"ct\": {\"const\": 5},"
	"\"any\": {}, \"desc\": {\"description\": \"x\"}, \"u\": {\"type\": \"money\"},"
	"\"ui\": {\"type\": [\"money\", \"integer\"]}, \"S\": {\"type\": \"STRING\"}, \"v\": "
	"{\"type\": \"VarChar\"},"
	"\"i32\": {\"type\": \"Int32\"}, \"u8\": {\"type\": \"uint8\"}, \"lg\": {\"type\": "
	"\"long\"},"
	"\"f32\": {\"type\": \"float32\"}, \"nu\": {\"type\": \"numeric\"}, \"bi\": {\"type\": "
	"\"binary\"},"
	"\"bo\": {\"type\": \"Bool\"}, \"d\": {\"type\": \"dict[str, int]\"}, \"li\": {\"type\": "
	"\"list[int]\"},"
	"\"ar\": {\"type\": \"arr\"}, \"dbl\": {\"type\": \"double\"},"
	"\"ao\": {\"anyOf\": [{\"type\": \"integer\"}, {\"type\": \"null\"}]},"
	"\"oo\": {\"oneOf\": [{\"type\": \"boolean\"}, {\"type\": \"string\"}]},"
	"\"an\": {\"anyOf\": [{\"anyOf\": [{\"enum\": [\"1\"]}]}, {\"type\": \"integer\"}]},"
	"\"al\": {\"allOf\": [{\"type\": \"number\"}, {\"type\": [\"integer\", \"string\"]}]},"
	"\"at\": {\"type\": \"number\", \"allOf\": [{\"type\": \"integer\"}]},"
	"\"a0\": {\"allOf\": [{\"type\": \"integer\"}, {\"type\": \"boolean\"}]},"
	"\"ad\": {\"type\": \"integer\", \"allOf\": [{\"description\": \"x\"}]},"
	"\"az\": {\"type\": [\"integer\", \"string\"], \"allOf\": [{\"type\": \"integer\"}], "
	"\"nullable\": true},"
	"\"r\": {\"$ref\": \"#/$defs/I\"}, \"rb\": {\"$ref\": \"#/$defs/a~1b\"}, \"rr\": "
	"{\"$ref\": \"#/$defs/R\"},"
	"\"rl\": {\"$ref\": \"#/$defs/L/0\"}, \"rp\": {\"$ref\": \"#/properties/n\"}, \"rx\": "
	"{\"$ref\": \"http://x\"},"
	"\"ro\": {\"$ref\": \"#\"}}}";

static const struct type_case type_cases[] = {
	/* string, and what counts as one */
	{ "s", "5", "'5'" }, { "s", "null", "'null'" }, { "s", "", "''" }, { "S", "true",
	"'true'" },
	{ "v", "5", "'5'" }, { "any", "5", "'5'" }, { "desc", "true", "'true'" }, { "u", "5",
	"'5'" },
	{ "dbl", "5", "'5'" }, { "not_there", "5", "'5'" }, { "rx", "5", "'5'" }, { "a0", "5",
	"'5'" },
	/* integer */
	{ "i", "5", "5" }, { "i", "-5", "-5" }, { "i", "+5", "5" }, { "i", "007", "7" }, { "i",
	"-007", "-7" },
	{ "i", " 5\t", "5" }, { "i", "000", "0" }, { "i", "- 5", "'- 5'" }, { "i", "5 5", "'5 5'" },
	{ "i", "+", "'+'" },
	{ "i", "123456789012345678901234567890", "123456789012345678901234567890" },
	{ "i", "five", "'five'" }, { "i", "", "''" }, { "i", "0x10", "'0x10'" }, { "i", "1_000",
	"'1_000'" },
	{ "i32", "5", "5" }, { "u8", "5", "5" }, { "lg", "5", "5" }, { "nf", "5", "5" }, { "ad",
	"5", "5" },
	/* number */
	{ "n", "5", "5" }, { "n", "5.0", "5.0" }, { "n", "1.10", "1.10" }, { "n", "1E+2", "1E+2" },
	{ "n", ".5", "0.5" },
	{ "n", "-.5", "-0.5" }, { "n", "+1.5", "1.5" }, { "n", "+.5e1", "0.5e1" }, { "n", " -1.5\n",
	"-1.5" },
	{ "n", "5.", "'5.'" }, { "n", "007", "'007'" }, { "n", "1e999", "'1e999'" }, { "n", "nan",
	"'nan'" },
	{ "n", "Infinity", "'Infinity'" }, { "n", "+-5", "'+-5'" }, { "n", "1e-999", "1e-999" },
	{ "f32", "1.5", "1.5" },
	{ "nu", "1.5", "1.5" }, { "in", "5", "5" }, { "in", "5.0", "5.0" }, { "rr", "1.5", "1.5" },
	{ "rp", "2", "2" },
	/* boolean */
	{ "b", "true", "true" }, { "b", "TRUE", "true" }, { "b", " False\n", "false" }, { "b", "1",
	"true" },
	{ "b", "0", "false" }, { "b", "yes", "'yes'" }, { "bi", "true", "true" }, { "bo", "False",
	"false" },
	{ "ib", "1", "1" }, { "ib", "true", "true" }, { "rb", "1", "true" },
	/* null */
	{ "z", "null", "null" }, { "z", "None", "null" }, { "z", " NONE ", "null" }, { "z", "x",
	"'x'" }, { "rl", "null", "null" },
	{ "iz", "null", "null" }, { "iz", "5", "5" }, { "ao", "none", "null" }, { "ao", "5", "5" },
	{ "az", "null", "null" },
	{ "az", "5", "5" }, { "az", "5.5", "5.5" },
	/* object and array: JSON */
	{ "o", "{\"a\": [1, 1.10, 1e2], \"b\":null}", "{'a': [1, 1.10, 1e2], 'b': null}" },
	{ "o", "{\"a\": 1, \"b\": 2, \"a\": 3}", "{'a': 3, 'b': 2}" }, { "o", " {}\n", "{}" },
	{ "o", "{\"\\u00e9\": \"\\u0000\\/\"}", "{'é': '\\u0000/'}" },
	{ "l", "[ 1 ,2 ]", "[1, 2]" }, { "l", "[]", "[]" }, { "ol", "[1]", "[1]" }, { "ol", "{}",
	"{}" },
	{ "l", "[123456789012345678901234567890]", "[123456789012345678901234567890]" },
	{ "d", "{}", "{}" }, { "li", "[1]", "[1]" }, { "ar", "[1]", "[1]" },
	{ "o", "[1]", "'[1]'" }, { "l", "{}", "'{}'" }, { "l", "[1] x", "'[1] x'" }, { "l", "[01]",
	"'[01]'" },
	{ "l", "[1e999]", "'[1e999]'" }, { "l", "[NaN]", "'[NaN]'" }, { "l", "[\"\\ud800\"]",
	"'[\\'\\\\ud800\\']'" },
	/* then Python */
	{ "o", "{'a': True, 'b': None, \"c\": False,}", "{'a': true, 'b': null, 'c': false}" },
	{ "l", "[(1, 2), (3,), (), [4,]]", "[[1, 2], [3], [], [4]]" }, { "l", "(1, 2)", "[1, 2]" },
	{ "l", "['it\\'s', \"a'b\", '\\x41\\u00e9\\101\\n\\q']",
	  "['it's', 'a'b', 'AéA\\n\\\\q']" },
	{ "o", "{'a': 1, 'a': 2}", "{'a': 2}" }, { "o", "{\n 'a' : -1.5e3 ,\n}", "{'a': -1.5e3}" },
	{ "o", "{'a': true}", "'{'a': true}'" }, { "o", "{1: 2}", "'{1: 2}'" }, { "l", "{1, 2}",
	"'{1, 2}'" },
	{ "l", "(1)", "'(1)'" }, { "l", "[b'x']", "'[b'x']'" }, { "l", "['a' 'b']", "'['a' 'b']'" },
	{ "l", "[,]", "'[,]'" },
	{ "l", "['''a''']", "'['''a''']'" }, { "l", "[0x10]", "'[0x10]'" }, { "l", "[1_0]",
	"'[1_0]'" }, { "l", "[+1]", "'[+1]'" },
	{ "l", "['\\ud800']", "'['\\\\ud800']'" }, { "l", "['\\N{BULLET}']",
	"'['\\\\N{BULLET}']'" }, { "l", "['a", "'['a'" },
	/* nothing fits: null and numbers stand where string is not among the types */
	{ "i", "5.0", "5.0" }, { "i", "1e3", "1e3" }, { "i", "null", "null" }, { "n", " None",
	"null" }, { "b", "2", "2" },
	{ "b", "+.5", "0.5" }, { "o", "5", "5" }, { "l", "null", "null" }, { "z", "1.5", "1.5" },
	{ "i", "true", "'true'" },
	{ "o", "1e999", "'1e999'" },
	/* beside string: only what is written as JSON writes it */
	{ "si", "5", "5" }, { "si", "-5", "-5" }, { "si", "+5", "'+5'" }, { "si", "05", "'05'" },
	{ "si", " 5", "' 5'" },
	{ "si", "5.0", "'5.0'" }, { "si", "null", "'null'" }, { "sn", "1.50", "1.50" }, { "sn",
	".5", "'.5'" },
	{ "sn", "1.5 ", "'1.5 '" }, { "sn", "1e999", "'1e999'" }, { "sb", "true", "true" }, { "sb",
	"FALSE", "false" },
	{ "sb", "1", "'1'" }, { "sb", " true", "' true'" }, { "sz", "null", "null" }, { "sz",
	"NONE", "null" },
	{ "sz", " null", "' null'" }, { "sz", "x", "'x'" }, { "so", "{\"a\":1}", "{'a': 1}" },
	{ "so", "{'a':1}", "{'a': 1}" },
	{ "so", "[1]", "'[1]'" }, { "so", "{", "'{'" }, { "sl", " [1] ", "[1]" }, { "ui", "5",
	"5" }, { "ui", "x", "'x'" },
	{ "oo", "true", "true" }, { "oo", "x", "'x'" },
	/* enum and const */
	{ "e", "5", "'5'" }, { "e", "red", "'red'" }, { "e", "6", "6" }, { "e", "1.5", "1.5" },
	{ "e", "null", "null" },
	{ "e", "blue", "'blue'" }, { "ei", "7", "'7'" }, { "ei", " 8", "' 8'" }, { "ei", "8", "8" },
	{ "ei", "9", "9" },
	{ "c", "true", "'true'" }, { "c", "false", "false" }, { "ct", "5", "5" }, { "ct", "x",
	"'x'" },
	{ "an", "1", "'1'" }, { "an", "2", "2" },
	/* allOf narrows, and an integer is a number there */
	{ "al", "5", "5" }, { "al", "5.5", "5.5" }, { "al", "x", "'x'" }, { "at", "5", "5" },
	{ "at", "007", "7" }, { "r", "+5", "5" },
	{ "ro", "{}", "{}" },
};
