"""Goldens of data/tokenizer and data/phrase from transformers 5's CLIPTokenizer.

    python make_tokens.py tests/goldens/tokenizer

The folder holds vocab.json, merges.txt and both configs as vocab_write(folder, "<|endoftext|>") writes them (the test compares);
this adds tokens.json and whole/ (the same tokenizer as transformers 5 saves it, one tokenizer.json). Needs transformers >= 5.
"""

import json
import pathlib
import random
import re
import shutil
import sys
import tempfile
import unicodedata

from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"


def lines():
    out = [
        "", " ", "   \t  ", "a", "!", "a dog and a cat", "a dog on the beach, best quality, high quality", "A Dog AND a CAT",
        "monochrome, lowres, bad anatomy, worst quality, low quality", "  leading and trailing  ", "tabs\tand\nnew\r\nlines", "a  b   c",
        "don't can't we're I've he'd she'll I'm it's 's 't're''ve", "rock'n'roll '90s o'clock '' ''' 's's", "DON'T IT'S I'M",
        "1 12 123 1234567890 3.14 1,000 1e-5 ½ ² Ⅷ ٣ ௧ 五", "x86-64 rev2b 4k 1080p h264", "hello!", "hello !", "!!!", "a!b!c", "?!?!...,;:",
        "#hashtag @user $5 100% a&b (c) [d] {e} <f> /g\\ ^_^ ~ ` | = + -", "http://example.com/a?b=c&d=e#f", "snake_case kebab-case CamelCase",
        "bull-dog well-known e-mail", "…—–“quoted”‘single’«guillemets»", START, END, START + "a dog" + END, "a" + START + "dog", "a dog" + END + END,
        "<|STARTOFTEXT|> dog", "<|EndOfText|>", "<|startoftext|", "|startoftext|>", "<|startoftext |>", "!!" + START + "!!", START + "!!'s" + END + "!",
        "<|endoftext|>!<|startoftext|>", "<<|endoftext|>>", "<|end<|endoftext|>oftext|>", "<|notatoken|>", "</w>", "a</w> dog</w>", "dog</w>cat",
        "naïve café déjà vu", "na\u0131ve", unicodedata.normalize("NFD", "naïve café Ångström ệ"), "Ångström \u212b \u00c5 A\u030a", "ﬁ ﬂ ﬀ", "ſ ẞ ß SS",
        "İstanbul I\u0307 ıI", "ΣΑΣ ς Σ", "ǅ ǈ ǋ Ǳ", "ÀÉÎÕÜ ÇÑ ŒÆØÅ", "ПРИВЕТ мир", "Ελληνικά ΓΛΏΣΣΑ", "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया",
        "สวัสดีชาวโลก", "你好，世界", "こんにちは世界", "ｶﾀｶﾅ ＡＢＣ １２３", "안녕하세요", unicodedata.normalize("NFD", "안녕하세요"), "𠀀𠀁 𝒜𝓑𝔠 𝟘𝟙", "Ⅻ ⅻ ① ㊀",
        "🐶", "🐶🐱 dog", "👨‍👩‍👧‍👦 family", "👍🏽 thumbs", "🇩🇪🇫🇷", "❤️ ❤", "☃☂☀", "a🐶b", "zero\u200bwidth\u200cjoin\u200der\ufeffbom", "soft\u00adhyphen",
        "no\u00a0break\u2003em\u2009thin\u3000ideographic\u1680ogham\u202fnarrow\u205fmath", "next\u0085line\u2028sep\u2029para", "vt\x0bff\x0c", "fs\x1cgs\x1drs\x1eus\x1f",
        "mongolian\u180evowel", "nul\x00byte", "bell\x07esc\x1b[0m", "del\x7f", "\x80\x9f\xa0", "combining a\u0301\u0302\u0303 \u0301alone", "q\u0323\u0307 q\u0307\u0323",
        "\u1e9b\u0323", "\u0958 \u2126 \u212a K", "private \ue000 \U000f0000", "noncharacter \ufffe \uffff \U0010ffff", "unassigned \u0378 \U000e0fff", "tag\U000e0041",
        "\u0345\u1fbe \u03b9", "ꙮ Ꙁ ꙁ", "ᏣᎳᎩ ꭰ", "Ა ა Ⴀ ⴀ", "𐐀 𐐨 𞤀 𞤢", "\u01c5\u0345", "x" * 200, "dog" * 60, "supercalifragilisticexpialidocious",
        "the " * 90, "1" * 100, "!" * 100, "é" * 60, "🐶" * 40, "a dog, " * 30, "a-b-c-d-e-f " * 12, "'" * 50, "'s" * 40, " " * 500 + "dog",
        "cat " * 74 + "dog", "cat " * 75 + "dog", "cat " * 76 + "dog", "<|endoftext|>" * 80, "thethethe theththe", "aaaaaaaaaaaaaaa", "abababababab",
        "small smaller smallest", "left-right, top/bottom", "start of text", "endoftext startoftext", "photo of a man wearing a hat and a red jacket",
        "a colorful_sneaker on a cobblestone street", "one two three", "\u2060word\u2060joiner", "a\u034fb", "\u202eright to left\u202c",
    ]
    draw = random.Random(3)
    letters = ["a", "b", "e", "t", "h", "D", "O", "g", " ", " ", "  ", "'", "'s", "!", "-", ",", "1", "9", "é", "É", "e\u0301", "ß", "中", "🐶", "\u00a0", "<", "|", ">",
               START, END, "the", "dog", "cat", " and ", "\n", "ﬁ", "İ", "\u0323", "\u0307", "ي", "Σ", "½", "_"]
    out += ["".join(draw.choice(letters) for _ in range(draw.randint(1, 24))) for _ in range(150)]
    return out


def folder_like(source, config, special):
    folder = pathlib.Path(tempfile.mkdtemp())
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(source / name, folder)
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if special is not None:
        (folder / "special_tokens_map.json").write_text(json.dumps(special))
    return folder


def ids(tokenizer, text):
    """Without start and end; checked to be there."""
    all_ids = tokenizer(text).input_ids
    assert all_ids[0] == tokenizer.bos_token_id and all_ids[-1] == tokenizer.eos_token_id
    return all_ids[1:-1]


def dressed(content, normalized=True, **more):
    return {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False, **more}


def variants(source, size):
    """The forms in which the files of published pipelines name their special tokens."""
    typed = {"__type": "AddedToken"}
    named = {"bos_token": dressed(START), "eos_token": dressed(END), "unk_token": dressed(END)}
    rows = {
        "no settings": (None, None),
        "first of SDXL": ({"bos_token": {**typed, **dressed(START)}, "eos_token": {**typed, **dressed(END)}, "pad_token": END, "model_max_length": 77,
                           "unk_token": {**typed, **dressed(END)}, "tokenizer_class": "CLIPTokenizer"}, {**named, "pad_token": END}),
        "second of SDXL": ({"added_tokens_decoder": {"0": dressed("!", False, special=True), str(size - 2): dressed(START, special=True),
                                                     str(size - 1): dressed(END, special=True)},
                            "bos_token": START, "eos_token": END, "unk_token": END, "pad_token": "!", "model_max_length": 77}, {**named, "pad_token": "!"}),
        "map alone": (None, {**named, "pad_token": "!"}),
        "map before config": ({"pad_token": END, "model_max_length": 10**30}, {"bos_token": START, "eos_token": END, "pad_token": "!", "unk_token": END}),
        "decoder before map": ({"added_tokens_decoder": {"0": dressed("!", False, special=True)}, "pad_token": "!"}, {**named, "pad_token": END}),
        "longest": ({"added_tokens_decoder": {str(size): dressed("<new>", False), str(size + 1): dressed("<new><er>", False), str(size + 2): dressed("<NE", True)}}, None),
        "padding decoder": ({"added_tokens_decoder": {"0": dressed("!", False, special=True)}, "pad_token": "!"}, None),
    }
    texts = ["<|STARTOFTEXT|> dog !a! !!", " <|endoftext|> dog", "<|EndOfText|>cat", "hello! <|startoftext|>", "a!!b", "a<new>b<new><er>c<new><ne"]
    out = []
    for name, (config, special) in rows.items():
        t = CLIPTokenizer.from_pretrained(folder_like(source, config, special))
        out.append({"name": name, "config": config and json.dumps(config), "map": special and json.dumps(special), "pad": t.pad_token_id, "lines": [[s, ids(t, s)] for s in texts]})
    return out


def matches(prompt_words, phrase_words):
    if len(prompt_words) != len(phrase_words):
        return False
    return all("-" + w in p or w == re.sub(r"[.!?,:]$", "", p) for p, w in zip(prompt_words, phrase_words))


def find(tokenizer, prompt, phrase, mention):
    """Facts' phrase matching: the reference's, but passed-over words are counted."""
    words, wanted = prompt.split(), phrase.split()
    count = lambda w: len(ids(tokenizer, w))
    start = 1
    for i in range(len(words)):
        part = words[i : i + len(wanted)]
        if wanted and matches(part, wanted):
            if mention == 0:
                clean = [re.sub(r"[.!?,:]$", "", w) for w in part]
                end = start + sum(count(w) for w in part[:-1] + clean[-1:])
                return [start, end, " ".join(clean)]
            mention -= 1
        start += count(words[i])
    return [0, 0, phrase]


def phrases(tokenizer):
    rows = [
        ("a dog and a cat", ["dog", "cat"]), ("a dog, a cat, and a bear.", ["dog", "cat", "bear"]), ("a dog and a dog and a dog", ["dog", "dog", "dog", "dog"]),
        ("a big red dog beside a red car", ["red dog", "red car", "red"]), ("a bull-dog, and a dog", ["dog", "dog"]), ("dog", ["dog", "cat"]), ("", ["dog"]),
        ("a dog", [""]), ("a dog", ["   "]), ("the dog!! barks", ["dog", "dog!"]), ("Dog dog DOG", ["dog", "DOG"]), ("a dog; a cat", ["dog"]), ("a teddy-bear toy", ["bear toy", "teddy"]),
        ("  spaces \u00a0 everywhere\u3000dog ", ["dog"]), ("a café, 中文 and 🐶 dog", ["café", "中文", "🐶 dog"]), ("red dog, red dog.", ["red dog", "red dog"]), ("a stuffed animal: a stuffed animal?", ["stuffed animal", "stuffed animal"]),
        ("very " * 80 + "dog", ["dog"]), ("dog, cat dog cat!", ["dog cat", "dog, cat"]), ("x\x1cdog", ["dog"]),
    ]
    out = []
    for prompt, wanted in rows:
        seen, found = {}, []
        for phrase in wanted:
            found.append(find(tokenizer, prompt, phrase, seen.get(phrase, 0)))
            seen[phrase] = seen.get(phrase, 0) + 1
        out.append([prompt, wanted, found])
    return out


def main():
    folder = pathlib.Path(sys.argv[1])
    first = CLIPTokenizer.from_pretrained(folder)
    second = CLIPTokenizer.from_pretrained(folder_like(folder, {"pad_token": "!"}, None))
    rows = []
    for text in lines():
        a, b = ids(first, text), ids(second, text)
        rows.append([text, a] if a == b else [text, a, b])
    goldens = {"lines": rows, "variants": variants(folder, len(first)), "phrases": phrases(first)}
    text = json.dumps(goldens, ensure_ascii=True, separators=(",", ":")).replace("],[\"", "],\n[\"")
    (folder / "tokens.json").write_text(text + "\n")
    first.save_pretrained(folder / "whole")
    whole = json.loads((folder / "whole/tokenizer.json").read_text())
    (folder / "whole/tokenizer.json").write_text(json.dumps(whole, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main()
