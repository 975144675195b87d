# SPDX-License-Identifier: Apache-2.0
"""Lines for judging tokenizers, the same on every machine: many scripts, code, emoji, odd spaces, typed special tokens,
bytes that are no UTF-8."""

SPACES = [chr(c) for c in (9, 10, 11, 12, 13, 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F,
                           0x205F, 0x3000)]
NEAR_SPACES = ["\u200b", "\u200d", "\ufeff", "\u180e", "\u00ad", "\x00", "\x1c", "\x7f", "\ufffd"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'M", "'lL", "'D", "'\u017f", "\u2019s",
                "'", "''", "'x"]
# First and last character of each script's letters.
SCRIPTS = [(0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x250, 0x2AF), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x586),
           (0x5D0, 0x5EA), (0x620, 0x64A), (0x710, 0x72F), (0x780, 0x7A5), (0x904, 0x939), (0x985, 0x9B9), (0xA05, 0xA39),
           (0xB85, 0xBB9), (0xE01, 0xE30), (0xE81, 0xEB0), (0xF40, 0xF6C), (0x1000, 0x102A), (0x10A0, 0x10FF),
           (0x1100, 0x1175), (0x1200, 0x135A), (0x13A0, 0x13F5), (0x1780, 0x17B3), (0x1820, 0x1878), (0x1E00, 0x1FFF),
           (0x3041, 0x3096), (0x30A1, 0x30FA), (0x3105, 0x312F), (0x4E00, 0x9FFF), (0xA000, 0xA48C), (0xAC00, 0xD7A3),
           (0xF900, 0xFAFF), (0xFF21, 0xFF5A), (0x10330, 0x1034A), (0x10400, 0x1044F), (0x12000, 0x12399),
           (0x1D400, 0x1D7FF), (0x1E900, 0x1E943), (0x20000, 0x2A6DF), (0x2F800, 0x2FA1D)]
MARKS = [(0x300, 0x36F), (0x483, 0x489), (0x591, 0x5BD), (0x610, 0x61A), (0x64B, 0x65F), (0x93C, 0x94D), (0xE31, 0xE3A),
         (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20F0), (0xFE00, 0xFE0F), (0xFE20, 0xFE2F), (0x3099, 0x309A)]
NUMBERS = [(0x30, 0x39), (0xB2, 0xB3), (0xBC, 0xBE), (0x660, 0x669), (0x966, 0x96F), (0x2070, 0x2079), (0x2150, 0x2189),
           (0x2460, 0x249B), (0x3021, 0x3029), (0x3220, 0x3229), (0xFF10, 0xFF19), (0x1D7CE, 0x1D7FF), (0x1F100, 0x1F10C)]
SYMBOLS = [(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E), (0xA1, 0xBF), (0x2010, 0x2027), (0x2030, 0x205E),
           (0x20A0, 0x20C0), (0x2190, 0x23FF), (0x2500, 0x27BF), (0x3001, 0x303F), (0xFF01, 0xFF0F), (0xE000, 0xE010)]
EMOJI = ["\U0001F600", "\U0001F468\u200d\U0001F469\u200d\U0001F467", "\U0001F44D\U0001F3FD", "\u2764\ufe0f",
         "\U0001F1E9\U0001F1EA", "\u0031\ufe0f\u20e3", "\U0001F3F4\U000E0067\U000E0062\U000E007F", "\U0001FAE0"]
CODE = ["def f(x):\n    return x+1\n", "for (int i = 0; i < n; ++i) {", "}\n\n\t\t", "#include <stdio.h>\r\n", "a->b[3]",
        "https://example.org/a?b=c&d=%20", "0x1F 1e-5 3.14 1,000,000", "SELECT * FROM t WHERE a='b';", "\\frac{a}{b}",
        "<div class=\"x\">&amp;</div>", "// TODO(x): y\n", "self.__init__(*args, **kwargs)", "$HOME/.config", "```python\n",
        "\"\\u00e9\\n\"", "x != y && !z || w", "key: value\n  - item", "%d%s%%", "CamelCaseHTTPServer2XL", "snake_case_1"]
ENGLISH = ("the quick brown fox doesn't jump over the lazy dog because it is tired and they have gone home already while "
           "we were talking about tokens I'd say you'll see she's right that's all folks HELLO World").split()
SPECIALS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>", "<file_sep>", "<jupyter_start>", "<|im_start",
            "im_end|>", "<|im_start|>user", "<|IM_END|>", "<|im_end|><|im_end|>", "<s>", "</s>", "[CLS]", "<|eot_id|>"]
MALFORMED = [b"\x80", b"\xc0\xaf", b"\xe2\x82", b"\xe2(\xa1", b"\xf0\x9f\x98", b"\xf0\x80\x80\x80", b"\xed\xa0\x80",
             b"\xf4\x90\x80\x80", b"\xff\xfe", b"\xc3", b"\xfe", b"\xf8\x88\x80\x80\x80", b"\xbf\xbf", b"\xe0\x9f\xbf"]


class Source:
    """Knuth's 64-bit linear generator: no library may change it."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % n

    def pick(self, items):
        return items[self.below(len(items))]

    def character(self, ranges):
        first, last = self.pick(ranges)
        return chr(first + self.below(last - first + 1))


def scalar(source):
    c = source.below(0x110000)
    return chr(c) if not 0xD800 <= c < 0xE000 else "\u00e9"


def piece(s):
    kind = s.below(20)
    if kind < 4:
        return " ".join(s.pick(ENGLISH) for _ in range(1 + s.below(6)))
    if kind < 7:
        first, last = s.pick(SCRIPTS)
        return "".join(chr(first + s.below(last - first + 1)) for _ in range(1 + s.below(8)))
    if kind == 7:
        return "".join(s.character(NUMBERS) for _ in range(1 + s.below(7)))
    if kind == 8:
        return "".join(chr(0x30 + s.below(10)) for _ in range(1 + s.below(9)))
    if kind < 11:
        return "".join(s.pick(SPACES) for _ in range(1 + s.below(4)))
    if kind == 11:
        return s.pick(SPACES) * (1 + s.below(9))
    if kind == 12:
        return s.character(SCRIPTS) + "".join(s.character(MARKS) for _ in range(1 + s.below(3)))
    if kind == 13:
        return "".join(s.character(SYMBOLS) for _ in range(1 + s.below(5)))
    if kind == 14:
        return s.pick(EMOJI) * (1 + s.below(2))
    if kind == 15:
        return s.pick(CODE)
    if kind == 16:
        return s.pick(SPACES) + s.pick(CONTRACTIONS) if s.below(2) else s.pick(ENGLISH) + s.pick(CONTRACTIONS)
    if kind == 17:
        return s.pick(SPECIALS)
    if kind == 18:
        return s.pick(NEAR_SPACES) + scalar(s)
    return s.pick(["a", "\u00e9", "=", " ", "\n", "-", "\u4f60", "z\u0301", "\t"]) * (1 + s.below(70))


def lines(count, seed=20260101):
    """`count` byte strings; about one in twelve holds bytes that are no UTF-8."""
    s = Source(seed)
    out = []
    for _ in range(count):
        parts = []
        for _ in range(1 + s.below(7)):
            parts.append(piece(s).encode())
            if s.below(3) == 0:
                parts.append(b" ")
        if s.below(12) == 0:
            parts.insert(s.below(len(parts) + 1), s.pick(MALFORMED))
        out.append(b"".join(parts))
    return out
