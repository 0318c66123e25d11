"""llama.cpp's forward pass, in a process of its own."""

import ctypes
import json
import time

from program import DATA

TEXT = DATA / "corpora" / "calibration-small.txt"
CHUNKS_AT_ONCE = 4
CONTEXT = 512  # tokens of a chunk


def decode(path, chunks, threads):
    """Decodes TEXT with llama.cpp, all logits, and prints seconds as JSON."""
    import llama_cpp  # noqa: PLC0415: kquant's side of the script runs without

    llama_cpp.llama_log_set(_silent := llama_cpp.llama_log_callback(lambda *_: None), None)
    start = time.monotonic()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    size = CONTEXT * CHUNKS_AT_ONCE
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = size
    params.n_ubatch, params.n_seq_max = 512, CHUNKS_AT_ONCE
    params.n_threads = params.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise SystemExit(f"{path}: llama.cpp cannot load it")
    text = TEXT.read_bytes()
    tokens = (llama_cpp.llama_token * len(text))()
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    count = llama_cpp.llama_tokenize(vocabulary, text, len(text), tokens, len(tokens), True, False)
    if count < chunks * CONTEXT:
        raise SystemExit(f"{TEXT}: {count} tokens are no {chunks} chunks")
    batch = llama_cpp.llama_batch_init(size, 0, 1)
    _fill(batch, tokens[:1])
    _run(llama_cpp, context, batch)
    loaded, seconds, cpu = time.monotonic() - start, 0.0, 0.0
    for first in range(0, chunks, CHUNKS_AT_ONCE):
        last = min(first + CHUNKS_AT_ONCE, chunks)
        _fill(batch, tokens[first * CONTEXT : last * CONTEXT])
        start, cpu_start = time.monotonic(), time.process_time()
        _run(llama_cpp, context, batch)
        seconds, cpu = seconds + time.monotonic() - start, cpu + time.process_time() - cpu_start
    system = llama_cpp.llama_print_system_info().decode()
    print(json.dumps({"load": loaded, "seconds": seconds, "cpu": cpu, "system": system}))


def _fill(batch, tokens):
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i] = token, i % CONTEXT
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, i // CONTEXT
        batch.logits[i] = 1


def _run(llama_cpp, context, batch):
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    if llama_cpp.llama_decode(context, batch):
        raise SystemExit("llama_decode failed")
    llama_cpp.llama_synchronize(context)
    assert ctypes.cast(llama_cpp.llama_get_logits(context), ctypes.c_void_p)
