#!/usr/bin/env python3
"""Turns text prompts into a workload file: token ids a run can start from.

Owns the step from text to ids, and the identity of the tokenizer that made them.
Knows nothing about weights, backends or tolerances. The tokenizer comes from one of
  --tokenizer tokenizer.json   the Hugging Face file, used as it is
  --tokenizer model.gguf       rebuilt from the vocabulary, merges or scores in the GGUF
  --bytes                      id = byte value, 256 ids
Special tokens written in a prompt (such as <|im_start|>) become their own id. In
ID=TEXT[:NEW] a trailing ":digits" is always NEW; use a JSON file where it is text.

Schema concord.workload/1:
  schema, name
  model.name, model.vocab_size, model.tokenizer.{kind,sha256}
  sampler     {"kind": "greedy"} or
              {"kind": "sample", "temperature", "top_k", "top_p", "seed"}
  prompts[]   {"id", "text", "token_ids", "new_tokens"}
tokenizer.sha256 covers every token in id order, each as its length in bytes
(u32, little endian) followed by its UTF-8 bytes as stored in the file (for
byte-level BPE that is the printable alphabet, e.g. "\u0120the"). A gap between two
ids counts as a token of length 0; ids after the last token are not covered, so a
model that pads its embedding keeps the digest of its tokenizer.
"""

import argparse
import hashlib
import json
import os
import re
import struct
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

SCHEMA = "concord.workload/1"

# tokenizer.ggml.token_type values (llama.cpp's llama_token_type).
CONTROL, USER_DEFINED = 3, 4
MERGEABLE = (1, USER_DEFINED)

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"

# How tokenizer.ggml.pre splits text before the merges. A name that is absent here
# is refused: a wrong split gives plausible ids that no model was trained on.
#   digits: every digit alone, then GPT-2's own expression
#   regex:  one expression instead of GPT-2's;  nfc: normalise first (as in HF's file)
#   whole:  a pre-token that is itself in the vocabulary skips the merges
#   bos:    BOS comes first where the file does not say (llama.cpp's default)
PRE_TOKENIZERS = {
    "gpt-2": {},
    "smollm": {"digits": True},
    "llama-bpe": {"regex": f"{CONTRACTIONS}|{WORD}|\\p{{N}}{{1,3}}|{TAIL}", "whole": True, "bos": True},
    "qwen2": {"regex": f"{CONTRACTIONS}|{WORD}|\\p{{N}}|{TAIL}", "nfc": True},
}


class WorkloadError(Exception):
    """What the user can put right; printed without a traceback."""


@dataclass
class TokenTable:
    """A tokenizer reduced to what a workload needs."""

    kind: str  # gpt2, llama or bytes
    tokens: list  # bytes per id, as stored
    encode: Callable  # text -> list of ids
    name: str = ""  # the model's name, where the file gives one
    context: int = 0  # positions the model can hold, 0 = not stated
    vocab_size: int = 0  # ids of the model where it has more than the tokenizer, else 0

    def size(self):
        return max(self.vocab_size, len(self.tokens))


@dataclass
class Prompt:
    id: str
    text: str
    new_tokens: int


def need(module):
    """Imports a third-party module or says which command installs it."""
    try:
        return __import__(module)
    except ImportError as error:
        raise WorkloadError(f"this needs the package {module}: pip install {module}") from error


# ---- tokenizers ------------------------------------------------------------------


def bytes_table(bos):
    if bos == "yes":
        raise WorkloadError("--bytes has no BOS token: leave out --bos yes")
    tokens = [bytes([value]) for value in range(256)]
    return TokenTable("bytes", tokens, lambda text: list(text.encode("utf-8")))


def json_table(path, vocab_size, bos):
    if bos == "yes":
        raise WorkloadError(f"{path}: its own post-processor decides about BOS: use --bos auto or no")
    tokenizer = read_tokenizer_json(path)
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    tokens = [b""] * (max(vocab.values()) + 1)
    for token, index in vocab.items():
        tokens[index] = token.encode("utf-8")
    return TokenTable(
        kind=json_kind(path),
        tokens=tokens,
        encode=lambda text: tokenizer.encode(text, add_special_tokens=bos != "no").ids,
        vocab_size=vocab_size or 0,
    )


def read_tokenizer_json(path):
    try:
        return need("tokenizers").Tokenizer.from_file(str(path))
    except WorkloadError:
        raise
    except Exception as error:  # the package raises plain Exception for bad content
        raise WorkloadError(f"{path}: not a readable tokenizer.json ({error})") from error


def json_kind(path):
    """gpt2 for byte-level BPE, llama for a SentencePiece vocabulary with byte fallback."""
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    if model.get("byte_fallback"):
        return "llama"
    if model.get("type") == "BPE":
        return "gpt2"
    raise WorkloadError(f"{path}: tokenizer model {model.get('type')!r} is neither byte-level BPE nor byte-fallback")


class GgufMeta:
    """The key-value part of a GGUF file."""

    def __init__(self, path):
        self.path = path
        try:
            self.fields = need("gguf").GGUFReader(str(path)).fields
        except (ValueError, IndexError) as error:
            raise WorkloadError(f"{path}: not a readable GGUF file ({error})") from error

    def get(self, key, default=None):
        field = self.fields.get(key)
        return default if field is None else field.contents()

    def require(self, key):
        if key not in self.fields:
            raise WorkloadError(f"{self.path}: no {key}; is a tokenizer stored in this file?")
        return self.get(key)

    def raw_strings(self, key):
        field = self.fields[key]
        return [field.parts[index].tobytes() for index in field.data]


def gguf_table(path, bos):
    meta = GgufMeta(path)
    kind = meta.require("tokenizer.ggml.model")
    builders = {"gpt2": build_byte_level, "llama": build_sentencepiece}
    if kind not in builders:
        raise WorkloadError(f"{path}: tokenizer.ggml.model {kind!r} is not known; known: {', '.join(builders)}")
    meta.require("tokenizer.ggml.tokens")
    tokenizer = builders[kind](meta)
    add_special_tokens(tokenizer, meta)
    prefix = bos_ids(meta, kind, bos)
    return TokenTable(
        kind=kind,
        tokens=meta.raw_strings("tokenizer.ggml.tokens"),
        encode=lambda text: prefix + tokenizer.encode(text, add_special_tokens=False).ids,
        name=meta.get("general.name", ""),
        context=meta.get(f"{meta.get('general.architecture')}.context_length", 0),
    )


def bos_ids(meta, kind, bos):
    """The ids put before every prompt."""
    default = kind == "llama" or pre_rule(meta).get("bos", False)
    add = meta.get("tokenizer.ggml.add_bos_token", default) if bos == "auto" else bos == "yes"
    return [int(meta.require("tokenizer.ggml.bos_token_id"))] if add else []


def build_byte_level(meta):
    tk = need("tokenizers")
    vocab = vocab_of(meta)
    merges = [split_merge(text) for text in meta.require("tokenizer.ggml.merges")]
    rule = pre_rule(meta)
    tokenizer = tk.Tokenizer(tk.models.BPE(vocab, merges, ignore_merges=rule.get("whole", False)))
    if rule.get("nfc"):
        tokenizer.normalizer = tk.normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizer_of(tk.pre_tokenizers, tk.Regex, rule)
    return tokenizer


def split_merge(text):
    """ "a b" -> (a, b); the first character is never the separator."""
    cut = text.index(" ", 1)
    return text[:cut], text[cut + 1 :]


def pre_rule(meta):
    name = meta.get("tokenizer.ggml.pre", "")
    if name not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS)
        raise WorkloadError(
            f"{meta.path}: tokenizer.ggml.pre {name!r} is not known; known: {known}; use the model's tokenizer.json"
        )
    return PRE_TOKENIZERS[name]


def pre_tokenizer_of(pre, regex, rule):
    if "regex" in rule:
        split = pre.Split(regex(rule["regex"]), behavior="isolated")
        return pre.Sequence([split, pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    level = pre.ByteLevel(add_prefix_space=False, use_regex=True)
    return pre.Sequence([pre.Digits(individual_digits=True), level]) if rule.get("digits") else level


def vocab_of(meta):
    """Token text -> id; where a text occurs twice the lower id stands."""
    vocab = {}
    for index, token in enumerate(meta.get("tokenizer.ggml.tokens")):
        vocab.setdefault(token, index)
    return vocab


def build_sentencepiece(meta):
    """SentencePiece BPE: the pair whose concatenation scores best is merged first."""
    tk = need("tokenizers")
    if meta.get("tokenizer.ggml.remove_extra_whitespaces", False) or meta.get("tokenizer.ggml.precompiled_charsmap"):
        raise WorkloadError(f"{meta.path}: this SentencePiece vocabulary normalises text in a way not rebuilt here")
    vocab = vocab_of(meta)
    unknown = meta.get("tokenizer.ggml.tokens")[meta.get("tokenizer.ggml.unknown_token_id", 0)]
    merges = merges_from_scores(vocab, meta.require("tokenizer.ggml.scores"), meta.require("tokenizer.ggml.token_type"))
    model = tk.models.BPE(vocab, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    tokenizer = tk.Tokenizer(model)
    tokenizer.normalizer = space_marks(tk.normalizers, meta.get("tokenizer.ggml.add_space_prefix", True))
    return tokenizer


def space_marks(normalizers, prefix):
    replace = normalizers.Replace(" ", "\u2581")
    return normalizers.Sequence([normalizers.Prepend("\u2581"), replace]) if prefix else replace


def merges_from_scores(vocab, scores, types):
    """Every way to join two pieces into a third, best score of the result first."""
    pieces = {token: index for token, index in vocab.items() if types[index] in MERGEABLE}
    ranked = []
    for token, index in pieces.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in pieces and right in pieces:
                ranked.append((-scores[index], index, pieces[left], pieces[right], left, right))
    return [(left, right) for *_, left, right in sorted(ranked)]


def add_special_tokens(tokenizer, meta):
    """Control and user-defined tokens are cut out of the text before anything else."""
    added = need("tokenizers").AddedToken
    tokens, types = meta.get("tokenizer.ggml.tokens"), meta.get("tokenizer.ggml.token_type", [])
    marked = [(tokens[i], kind) for i, kind in enumerate(types) if kind in (CONTROL, USER_DEFINED)]
    special = [added(text, normalized=False, special=True) for text, kind in marked if kind == CONTROL]
    plain = [added(text, normalized=False) for text, kind in marked if kind == USER_DEFINED]
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens(plain)
    if tokenizer.get_vocab_size(with_added_tokens=True) > len(tokens):
        raise WorkloadError(f"{meta.path}: a special token has no id of its own in the vocabulary")


def load_table(args):
    if args.bytes:
        return bytes_table(args.bos)
    path = Path(args.tokenizer)
    if not path.is_file():
        raise WorkloadError(f"{path}: no such file")
    if path.suffix == ".json":
        return json_table(path, args.vocab_size, args.bos)
    if path.suffix == ".gguf":
        return gguf_table(path, args.bos)
    raise WorkloadError(f"{path}: expected a .json or .gguf file")


def tokenizer_digest(tokens):
    digest = hashlib.sha256()
    for token in tokens:
        digest.update(struct.pack("<I", len(token)) + token)
    return digest.hexdigest()


# ---- prompts ---------------------------------------------------------------------


def parse_prompt(spec, default_new):
    """ID=TEXT or ID=TEXT:NEW, where NEW is a number of tokens to generate."""
    match = re.fullmatch(r"([A-Za-z0-9._-]+)=(.*?)(?::(\d+))?", spec, re.DOTALL)
    if not match:
        raise WorkloadError(f"prompt {spec!r}: expected ID=TEXT[:NEW], ID of letters, digits, '.', '_' or '-'")
    return Prompt(match[1], match[2], int(match[3] or default_new))


def read_prompts(path, default_new):
    """A JSON list of {id, text, new_tokens}, or text lines as for --prompt (# comments)."""
    try:
        content = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise WorkloadError(f"{path}: {error.strerror}") from error
    if not str(path).endswith(".json"):
        lines = [line for line in content.splitlines() if line.strip() and not line.startswith("#")]
        return [parse_prompt(line, default_new) for line in lines]
    try:
        return [Prompt(p["id"], p["text"], int(p.get("new_tokens", default_new))) for p in json.loads(content)]
    except (ValueError, KeyError, TypeError) as error:
        raise WorkloadError(f"{path}: expected a JSON list of {{id, text, new_tokens}} ({error!r})") from error


def collect_prompts(args):
    prompts = [prompt for path in args.prompts for prompt in read_prompts(path, args.new_tokens)]
    prompts += [parse_prompt(spec, args.new_tokens) for spec in args.prompt]
    if not prompts:
        raise WorkloadError("no prompts: give --prompts FILE or --prompt ID=TEXT[:NEW]")
    names = [prompt.id for prompt in prompts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise WorkloadError(f"prompt id used twice: {', '.join(twice)}")
    return prompts


def encode_prompt(prompt, table):
    ids = table.encode(prompt.text)
    total = len(ids) + prompt.new_tokens
    if not ids:
        raise WorkloadError(f"prompt {prompt.id}: no tokens")
    if max(ids) >= table.size():
        raise WorkloadError(f"prompt {prompt.id}: id {max(ids)} is outside the vocabulary of {table.size()}")
    if prompt.new_tokens < 1:
        raise WorkloadError(f"prompt {prompt.id}: new_tokens must be at least 1")
    if table.context and total > table.context:
        raise WorkloadError(
            f"prompt {prompt.id}: {total} positions exceed the model's context of {table.context}"
            " (--context overrides a wrong one)"
        )
    return {"id": prompt.id, "text": prompt.text, "token_ids": ids, "new_tokens": prompt.new_tokens}


# ---- the file --------------------------------------------------------------------


def sampler_of(args):
    if not args.sample:
        return {"kind": "greedy"}
    if not (args.temperature > 0 and args.top_k >= 0 and 0 < args.top_p <= 1 and args.seed >= 0):
        raise WorkloadError("sampler: temperature > 0, top_k >= 0, 0 < top_p <= 1 and seed >= 0 are required")
    return {
        "kind": "sample",
        "temperature": args.temperature,
        "top_k": args.top_k,
        "top_p": args.top_p,
        "seed": args.seed,
    }


def workload_of(args):
    table = load_table(args)
    table.context = args.context or table.context
    return {
        "schema": SCHEMA,
        "name": args.name,
        "model": {
            "name": args.model_name or table.name or "unnamed",
            "vocab_size": table.size(),
            "tokenizer": {"kind": table.kind, "sha256": tokenizer_digest(table.tokens)},
        },
        "sampler": sampler_of(args),
        "prompts": [encode_prompt(prompt, table) for prompt in collect_prompts(args)],
    }


def to_json(workload):
    """Indented JSON with each list of ids on one line, so a diff stays readable."""
    text = json.dumps(workload, indent=2, ensure_ascii=False)
    # A raw line break cannot occur inside a JSON string, so prompt texts are never touched.
    return re.sub(r'(\n\s+"token_ids": )(\[[^]]*\])', lambda m: m[1] + json.dumps(json.loads(m[2])), text) + "\n"


def write_atomically(path, text):
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".workload.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as sink:
            sink.write(text)
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--tokenizer", metavar="FILE", help="tokenizer.json or model.gguf")
    source.add_argument("--bytes", action="store_true", help="byte-level model: id = byte")
    parser.add_argument(
        "--prompts", action="append", default=[], metavar="FILE", help="JSON list, or lines ID=TEXT[:NEW]"
    )
    parser.add_argument("--prompt", action="append", default=[], metavar="ID=TEXT[:NEW]")
    parser.add_argument("--new-tokens", type=int, default=32, help="where a prompt does not say (default 32)")
    parser.add_argument("--name", required=True, help="the workload's name")
    parser.add_argument("--model-name", help="default: general.name of the GGUF")
    parser.add_argument("--context", type=int, metavar="N", help="positions, where the GGUF states a wrong number")
    parser.add_argument("--vocab-size", type=int, help="ids of the model, where tokenizer.json has fewer")
    parser.add_argument(
        "--bos", choices=("auto", "yes", "no"), default="auto", help="auto: as the file says (yes: GGUF only)"
    )
    parser.add_argument("--sample", action="store_true", help="seeded sampling instead of greedy")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top-k", type=int, default=40)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--out", required=True, metavar="FILE")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    try:
        workload = workload_of(args)
        write_atomically(args.out, to_json(workload))
    except (WorkloadError, OSError) as error:
        print(f"make_workload.py: {error}", file=sys.stderr)
        return 1
    for prompt in workload["prompts"]:
        print(f"{prompt['id']}: {len(prompt['token_ids'])} tokens + {prompt['new_tokens']} new")
    return 0


if __name__ == "__main__":
    sys.exit(main())
