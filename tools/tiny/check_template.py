"""Compares the tiny model's chat template with another of the same format, their fixed prose aside.

    python3 tools/tiny/check_template.py models/tiny/chat_template.jinja OTHER.jinja

Renders random conversations with both in Jinja2 as transformers sets it up; errors must come from both.
"""

import random
import re
import sys

from transformers.utils.chat_template_utils import _compile_jinja_template

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"a": [1, None, "é<"]}}}, {"name": "g"}]
TEXTS = ["", " hi ", "a\n\nb", "<think>\nr\n</think>\n\nanswer", "x</think>\n y", "<tool_response>\nq\n</tool_response>",
         None, [{"type": "text", "text": " p "}, {"type": "image"}, {"type": "video", "video": "v"}], 5, [{"z": 1}]]
ARGS = [{}, {"s": " text ", "n": 5, "b": True, "o": {"k": [1, None, 2.5]}, "z": None}]


def message(rng):
    m = {"role": rng.choice(["user", "user", "assistant", "assistant", "tool", "system", "odd"][:rng.choice([5, 5, 5, 7])])}
    if rng.random() < 0.95:
        m["content"] = rng.choice(TEXTS if rng.random() < 0.2 else TEXTS[:6])
    if m["role"] == "assistant":
        if rng.random() < 0.4:
            m["reasoning_content"] = rng.choice(["", " why ", "a\nb", None])
        if rng.random() < 0.5:
            f = [{"name": "f", "arguments": rng.choice(ARGS)} for _ in range(rng.randint(0, 3))]
            m["tool_calls"] = [{"type": "function", "function": x} if rng.random() < 0.5 else x for x in f]
    return m


def render(template, messages, kw):
    try:
        out = template.render(messages=messages, **kw)
        out = re.sub(r"(?s)# Tools\n\n[^\n]*\n\n<tools>", "# Tools<tools>", out)
        return re.sub(r"(?s)</tools>\n\n.*?</IMPORTANT>", "</tools>", out)
    except Exception as e:
        return "error"


def main(a, b):
    ta, tb = (_compile_jinja_template(open(p).read()) for p in (a, b))
    rng = random.Random(1)
    errors = 0
    for i in range(20000):
        ms = [message(rng) for _ in range(rng.randint(0, 6))]
        if ms and rng.random() < 0.3:
            ms[0] = {"role": "system", "content": rng.choice(TEXTS[:3])}
        kw = {"add_generation_prompt": rng.random() < 0.7}
        for k, v in (("tools", rng.choice([TOOLS, [], None])), ("enable_thinking", rng.random() < 0.5),
                     ("preserve_thinking", rng.random() < 0.5), ("add_vision_id", True)):
            if rng.random() < 0.5:
                kw[k] = v
        ra, rb = render(ta, ms, kw), render(tb, ms, kw)
        errors += ra == "error"
        assert ra == rb, (ms, kw, ra, rb)
    print(f"20,000 conversations render alike, {errors} of them as errors in both")


if __name__ == "__main__":
    main(*sys.argv[1:])
