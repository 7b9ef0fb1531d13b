#!/usr/bin/env python3
"""Runs a GGUF in llama.cpp on the CPU and records its hidden states, layer by layer.

Owns a second opinion: numbers from an engine that shares no code with this project.
Decides nothing about agreement; comparing is the harness's business.

Two passes over one context (KV cache f32, flash attention off):
  1. greedy: prefill of the prompt, then one decode step per new token. Exactly N
     tokens are made; an end-of-text token does not stop the run.
  2. capture: the KV cache is cleared and prompt + new tokens go through one prefill
     with logits asked for at EVERY position. llama.cpp drops the other positions
     inside the last layer, so a smaller request would cut its hidden states short.

The file (safetensors), T = prompt + new tokens, H = width, L = layers, V = vocabulary:
  tokens    I32 [T]       prompt, then the greedy continuation
  n_prompt  I32 [1]
  hidden.0  F32 [T, H]    embedding output                      (embd or inp_embd)
  hidden.i  F32 [T, H]    residual stream after layer i, i < L  (l_out-<i-1>)
  hidden.L  F32 [T, H]    output of the final norm              (result_norm), as in
                          Hugging Face's output_hidden_states
  logits    F32 [T, V]    only with --logits
A capture that lacks a tensor, or has one of another size, is an error, not a file.

What the numbers are worth: llama.cpp rounds the input of each matrix product to the
weight's companion type (F16 weights: activations to f16; Q8_0: 8-bit blocks; Q4_1:
8-bit blocks with sums), so only an f32 model gives f32 arithmetic throughout. The
metadata names the weight types.

Needs: pip install llama-cpp-python numpy
"""

import argparse
import ctypes
import hashlib
import json
import os
import re
import struct
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

# Read once, when OpenMP is loaded: threads that spin at barriers make a busy machine
# tens of times slower. It changes no number.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

try:
    import numpy as np
    import llama_cpp
    from llama_cpp import llama_cpp as api
    from llama_cpp._ggml import libggml
except ImportError as error:
    sys.exit(f"llamacpp_capture.py: {error}; try: pip install llama-cpp-python numpy")

GGML_TYPE_F32 = 0
LAYER_OUTPUT = re.compile(r"l_out-(\d+)")
EMBEDDING_NAMES = ("embd", "inp_embd")  # newer and older llama.cpp
FINAL_NORM = "result_norm"


class CaptureError(Exception):
    """What went wrong with the input or the run; printed without a traceback."""


# ---- ggml: the four calls that read a tensor ----------------------------------------


def ggml_function(name, restype, *argtypes):
    """ctypes resolves through the library's own dependencies (libggml-base)."""
    function = getattr(libggml, name)
    function.restype, function.argtypes = restype, argtypes
    return function


tensor_name = ggml_function("ggml_get_name", ctypes.c_char_p, ctypes.c_void_p)
tensor_bytes = ggml_function("ggml_nbytes", ctypes.c_size_t, ctypes.c_void_p)
tensor_elements = ggml_function("ggml_nelements", ctypes.c_int64, ctypes.c_void_p)
tensor_get = ggml_function(
    "ggml_backend_tensor_get", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t
)


def read_f32(tensor, width):
    """The tensor as [rows, width]; llama.cpp's activations are contiguous f32."""
    count = tensor_elements(tensor)
    if tensor_bytes(tensor) != 4 * count or count % width:
        raise CaptureError(f"{tensor_name(tensor).decode()}: not contiguous f32 rows of {width}")
    values = np.empty((count // width, width), dtype="<f4")
    tensor_get(tensor, values.ctypes.data, 0, values.nbytes)
    return values


# ---- the run -----------------------------------------------------------------------


@dataclass
class Recorder:
    """Receives llama.cpp's evaluation callback; keeps nothing until it is armed."""

    width: int
    armed: bool = False
    seen: dict = field(default_factory=dict)
    failure: str = ""

    def wants(self, name):
        return name in EMBEDDING_NAMES or name == FINAL_NORM or LAYER_OUTPUT.fullmatch(name) is not None

    def on_tensor(self, tensor, ask, _user):
        # An exception cannot cross the C frames above, so it is kept for later.
        try:
            name = tensor_name(tensor).decode()
            if ask:
                return self.armed and self.wants(name)
            if self.armed and self.wants(name):
                self.keep(name, read_f32(tensor, self.width))
        except Exception as error:  # noqa: BLE001
            self.failure = self.failure or str(error)
        return True

    def keep(self, name, values):
        if name in self.seen:
            raise CaptureError(f"{name} arrived twice: the capture was split into several batches")
        self.seen[name] = values


class Engine:
    """One model and one context, both released on exit."""

    def __init__(self, path, positions, threads):
        self.model = load_model(path)
        self.vocab = api.llama_model_get_vocab(self.model)
        self.layers = api.llama_model_n_layer(self.model)
        self.width = api.llama_model_n_embd(self.model)
        self.vocab_size = api.llama_vocab_n_tokens(self.vocab)
        self.recorder = Recorder(self.width)
        # The callback must outlive the context, hence the attribute.
        self.callback = api.ggml_backend_sched_eval_callback(self.recorder.on_tensor)
        self.context = self.make_context(positions, threads)
        self.batch = api.llama_batch_init(positions, 0, 1)

    def make_context(self, positions, threads):
        params = api.llama_context_default_params()
        # One batch must hold every position, or the capture would arrive in pieces.
        params.n_ctx = params.n_batch = params.n_ubatch = positions
        params.n_seq_max = 1
        params.n_threads = params.n_threads_batch = threads
        params.type_k = params.type_v = GGML_TYPE_F32
        params.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cb_eval = self.callback
        context = api.llama_init_from_model(self.model, params)
        if not context:
            raise CaptureError(f"llama.cpp cannot make a context of {positions} positions")
        return context

    def __enter__(self):
        return self

    def __exit__(self, *_):
        api.llama_batch_free(self.batch)
        api.llama_free(self.context)
        api.llama_model_free(self.model)

    def decode(self, tokens, start, all_logits):
        """Evaluates tokens at positions start…; returns logits of all or of the last one."""
        batch = self.batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i] = token, start + i
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            batch.logits[i] = all_logits or i == len(tokens) - 1
        code = api.llama_decode(self.context, batch)
        if code != 0:
            raise CaptureError(f"llama_decode returned {code} for {len(tokens)} tokens at position {start}")
        return self.logits(len(tokens) if all_logits else 1)

    def logits(self, rows):
        pointer = api.llama_get_logits(self.context)
        return np.ctypeslib.as_array(pointer, shape=(rows * self.vocab_size,)).reshape(rows, -1).copy()

    def forget(self):
        api.llama_memory_clear(api.llama_get_memory(self.context), True)


def load_model(path):
    params = api.llama_model_default_params()
    params.n_gpu_layers = 0
    # Repacked weights take other kernels on other machines; keep the plain ones.
    params.use_extra_bufts = False
    model = api.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise CaptureError(f"{path}: llama.cpp cannot load this file")
    return model


def greedy(engine, prompt, new_tokens):
    """The prompt and its continuation; a tie goes to the lower id."""
    tokens = list(prompt)
    logits = engine.decode(prompt, 0, all_logits=False)
    for step in range(new_tokens):
        tokens.append(int(np.argmax(logits[-1])))
        if step + 1 < new_tokens:
            logits = engine.decode(tokens[-1:], len(tokens) - 1, all_logits=False)
    return tokens


def capture(engine, tokens):
    """Hidden states in Hugging Face order, and logits, of one prefill."""
    engine.forget()
    engine.recorder.armed = True
    logits = engine.decode(tokens, 0, all_logits=True)
    engine.recorder.armed = False
    if engine.recorder.failure:
        raise CaptureError(engine.recorder.failure)
    return hidden_states(engine.recorder.seen, engine.layers, (len(tokens), engine.width)), logits


def hidden_states(seen, layers, shape):
    embedding = next((name for name in EMBEDDING_NAMES if name in seen), EMBEDDING_NAMES[0])
    names = [embedding] + [f"l_out-{i}" for i in range(layers - 1)] + [FINAL_NORM]
    missing = [name for name in names if name not in seen]
    if missing:
        raise CaptureError(f"llama.cpp computed no tensor named {', '.join(missing)}")
    wrong = [f"{name} {seen[name].shape}" for name in names if seen[name].shape != shape]
    if wrong:
        raise CaptureError(f"expected shape {shape}, got {', '.join(wrong)}")
    return [seen[name] for name in names]


# ---- input -------------------------------------------------------------------------


@dataclass
class Request:
    tokens: list
    new_tokens: int
    source: str
    tokenizer_sha: str = ""


def request_of(args):
    if args.tokens:
        return Request(parse_tokens(args.tokens), 32 if args.new_tokens is None else args.new_tokens, "tokens")
    return request_from_workload(args.workload, args.new_tokens)


def parse_tokens(text):
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise CaptureError(f"--tokens {text!r}: expected ids separated by commas") from error


def request_from_workload(spec, new_tokens):
    path, _, name = spec.rpartition(":")
    if not path:
        raise CaptureError(f"--workload {spec!r}: expected FILE:ID")
    workload = read_workload(path)
    try:
        return choose_prompt(workload, path, name, new_tokens)
    except (KeyError, TypeError) as error:
        raise CaptureError(f"{path}: not a complete workload ({error!r})") from error


def choose_prompt(workload, path, name, new_tokens):
    found = [prompt for prompt in workload["prompts"] if prompt["id"] == name]
    if not found:
        raise CaptureError(f"{path}: no prompt {name!r}; it has {', '.join(p['id'] for p in workload['prompts'])}")
    count = found[0]["new_tokens"] if new_tokens is None else new_tokens
    label = f"workload {workload['name']}:{name}"
    return Request(found[0]["token_ids"], count, label, workload["model"]["tokenizer"]["sha256"])


def read_workload(path):
    try:
        workload = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CaptureError(f"{path}: {error}") from error
    if not isinstance(workload, dict) or workload.get("schema") != "concord.workload/1":
        raise CaptureError(f"{path}: expected schema concord.workload/1")
    return workload


def check_request(request, engine):
    outside = [token for token in request.tokens if not 0 <= token < engine.vocab_size]
    if outside:
        raise CaptureError(f"token {outside[0]} is outside the vocabulary of {engine.vocab_size}")
    if request.tokenizer_sha and request.tokenizer_sha != vocabulary_digest(engine):
        raise CaptureError("the workload was made with another tokenizer than this model's")


def warn_about_context(engine, positions):
    """A note, not an error: converters are known to write a default instead of the truth."""
    stated = api.llama_model_n_ctx_train(engine.model)
    if positions > stated:
        print(f"note: {positions} positions, the file states a context of {stated}", file=sys.stderr)
    return str(stated)


def vocabulary_digest(engine):
    """The workload schema's tokenizer.sha256, from the vocabulary llama.cpp loaded."""
    digest = hashlib.sha256()
    for token in range(engine.vocab_size):
        text = api.llama_vocab_get_text(engine.vocab, token)
        digest.update(struct.pack("<I", len(text)) + text)
    return digest.hexdigest()


# ---- output ------------------------------------------------------------------------


def metadata_of(args, engine, request, tokens, logits):
    return {
        "producer": "llamacpp_capture.py",
        # ggml is built in llama.cpp's tree, so its commit is llama.cpp's.
        "llama_cpp_commit": ggml_text("ggml_commit"),
        "ggml_version": ggml_text("ggml_version"),
        "llama_cpp_python": llama_cpp.__version__,
        "system_info": api.llama_print_system_info().decode().strip(),
        "model_file": Path(args.model).name,
        "model_sha256": file_digest(args.model),
        "model_desc": model_text(engine.model),
        "stated_context": warn_about_context(engine, len(tokens)),
        "prompt": request.source,
        "kv_type": "f32",
        "flash_attention": "off",
        "weight_repacking": "off",
        "threads": str(args.threads),
        "sampler": "greedy",
        "prefill_decode_disagreements": str(disagreements(tokens, len(request.tokens), logits)),
        "end_of_text_at": ",".join(map(str, ends(engine, tokens, len(request.tokens)))),
    }


def disagreements(tokens, n_prompt, logits):
    """Greedy tokens that the one-pass capture would have chosen differently."""
    chosen = np.argmax(logits[n_prompt - 1 : -1], axis=1)
    return int(np.count_nonzero(chosen != np.array(tokens[n_prompt:])))


def ends(engine, tokens, n_prompt):
    return [i for i in range(n_prompt, len(tokens)) if api.llama_vocab_is_eog(engine.vocab, tokens[i])]


def ggml_text(name):
    try:
        return ggml_function(name, ctypes.c_char_p)().decode()
    except AttributeError:
        return "unknown"


def model_text(model):
    buffer = ctypes.create_string_buffer(256)
    api.llama_model_desc(model, buffer, len(buffer))
    return buffer.value.decode()


def file_digest(path):
    with open(path, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def tensors_of(tokens, n_prompt, hidden, logits):
    tensors = {"tokens": np.array(tokens, dtype="<i4"), "n_prompt": np.array([n_prompt], dtype="<i4")}
    tensors.update({f"hidden.{i}": values for i, values in enumerate(hidden)})
    if logits is not None:
        tensors["logits"] = logits.astype("<f4", copy=False)
    return tensors


def safetensors_header(tensors, metadata):
    header, offset = {"__metadata__": metadata}, 0
    for name, values in tensors.items():
        kind = {"<f4": "F32", "<i4": "I32"}[values.dtype.newbyteorder("<").str]
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header, ensure_ascii=False).encode("utf-8")
    return text + b" " * (-len(text) % 8)


def write_safetensors(path, tensors, metadata):
    """Little-endian length, JSON header, data without holes; placed by a rename."""
    target = Path(path)
    header = safetensors_header(tensors, metadata)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".capture.")
    try:
        with os.fdopen(handle, "wb") as sink:
            sink.write(struct.pack("<Q", len(header)) + header)
            for values in tensors.values():
                sink.write(np.ascontiguousarray(values).tobytes())
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


# ---- command line ------------------------------------------------------------------


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL.gguf")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--tokens", metavar="1,2,3", help="prompt ids")
    source.add_argument("--workload", metavar="FILE:ID", help="a prompt of a workload file")
    parser.add_argument("--new-tokens", type=int, metavar="N", help="default: the workload's, else 32")
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    parser.add_argument("--logits", action="store_true", help="also store the logits of every position")
    parser.add_argument("--verbose", action="store_true", help="let llama.cpp print its log")
    parser.add_argument("--out", required=True, metavar="FILE.safetensors")
    args = parser.parse_args(argv)
    if args.threads < 1 or (args.new_tokens is not None and args.new_tokens < 1):
        parser.error("--threads and --new-tokens must be at least 1")
    return args


def quiet_log():
    """Returns the callback: it must stay alive as long as llama.cpp may log."""
    callback = api.llama_log_callback(lambda level, text, user: None)
    api.llama_log_set(callback, ctypes.c_void_p(0))
    return callback


def run(args):
    request = request_of(args)
    with Engine(args.model, len(request.tokens) + request.new_tokens, args.threads) as engine:
        check_request(request, engine)
        tokens = greedy(engine, request.tokens, request.new_tokens)
        hidden, logits = capture(engine, tokens)
        metadata = metadata_of(args, engine, request, tokens, logits)
        stored = tensors_of(tokens, len(request.tokens), hidden, logits if args.logits else None)
        write_safetensors(args.out, stored, metadata)
        print_summary(engine, tokens, len(request.tokens), metadata)


def print_summary(engine, tokens, n_prompt, metadata):
    print(f"hidden states: {engine.layers + 1} x [{len(tokens)}, {engine.width}]")
    print("continuation:", ",".join(map(str, tokens[n_prompt:])))
    print("text:", json.dumps(detokenize(engine, tokens[n_prompt:]), ensure_ascii=False))
    print("prefill against decode, tokens that differ:", metadata["prefill_decode_disagreements"])


def detokenize(engine, tokens):
    ids = (ctypes.c_int32 * len(tokens))(*tokens)
    buffer = ctypes.create_string_buffer(64 * len(tokens))
    size = api.llama_detokenize(engine.vocab, ids, len(tokens), buffer, len(buffer), False, True)
    return buffer.raw[: max(size, 0)].decode("utf-8", errors="replace")


def main(argv=None):
    args = parse_args(argv)
    log = None if args.verbose else quiet_log()
    api.llama_backend_init()
    try:
        run(args)
        return 0
    except (CaptureError, OSError) as error:
        print(f"llamacpp_capture.py: {error}", file=sys.stderr)
        return 1
    finally:
        api.llama_backend_free()
        del log


if __name__ == "__main__":
    sys.exit(main())
