"""localgen.inspect and ``localgen inspect``: what a file contains, and whether it fits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from gguf import GGUFWriter

import localgen
from localgen import BackendError, InvalidGGUFError, ModelNotFoundError, inspection
from localgen._util import system
from localgen.cli import app
from localgen.cli import inspect as command
from localgen.gguf import gate
from localgen.gguf.memory import Share
from models.make_tiny import (
    LlamaShape,
    bpe_vocab,
    finish,
    make_llama_bpe,
    write_llama,
    write_vocab,
)

GB = 10**9


@pytest.fixture
def rich_path(tmp_path: Path) -> Path:
    """A tiny llama whose file states all that inspect shows."""
    path = tmp_path / "rich.gguf"
    vocab = bpe_vocab()
    writer = GGUFWriter(path, "llama")
    writer.add_name("A name \x1b[2Jthat clears the screen")
    writer.add_license("mit")
    writer.add_float32("general.sampling.temp", 0.6)
    writer.add_int32("general.sampling.top_k", 20)
    write_llama(writer, LlamaShape(512), len(vocab.tokens), 0, "F32")
    write_vocab(writer, vocab, "{{ messages }}")
    finish(writer)
    return path


@pytest.fixture
def run(monkeypatch, capsys):
    """Run ``localgen inspect`` in this process: exit code, stdout, stderr."""

    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["localgen", "inspect", *map(str, arguments)])
        code = app.run_command()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


def test_what_a_file_says(rich_path):
    """Each field is compared with what was written into the file."""
    info = localgen.inspect(rich_path, n_ctx=512)
    assert (info.architecture, info.level, info.license) == ("llama", "F32", "mit")
    assert (info.n_layer, info.n_embd, info.n_head, info.n_kv_heads) == (2, 64, 2, 1)
    assert (info.n_ctx_train, info.n_experts, info.n_shards) == (512, 0, 1)
    assert info.file_bytes == rich_path.stat().st_size
    assert info.chat_templates == ("default",)
    assert info.sampling_defaults == {"temperature": pytest.approx(0.6), "top_k": 20}
    vocab = bpe_vocab()
    assert info.tokenizer.n_tokens == len(vocab.tokens)
    assert info.tokenizer.n_merges == len(vocab.merges or ())
    assert info.tokenizer.eos == vocab.tokens[vocab.eos]
    assert info.memory.kv_bytes_per_token == 2 * 1 * (32 + 32) * 2
    assert info.fits is True
    assert info.hints == ()


def test_tensors_by_type(tmp_path):
    """Counts, weights and bytes add up to the file's tensors."""
    make_llama_bpe(tmp_path / "half.gguf", file_type="F16")
    info = localgen.inspect(tmp_path / "half.gguf")
    by_name = {types.name: types for types in info.tensor_types}
    assert set(by_name) == {"F16", "F32"}
    assert by_name["F16"].bits_per_weight == 16
    assert by_name["F16"].n_bytes == 2 * by_name["F16"].n_weights
    assert info.tensor_types[0].name == "F16"
    n_bytes = sum(types.n_bytes for types in info.tensor_types)
    assert info.n_weights == sum(types.n_weights for types in info.tensor_types)
    assert info.bits_per_weight == 8 * n_bytes / info.n_weights
    assert n_bytes < info.file_bytes


def test_the_level_is_the_names_where_the_file_states_none(tmp_path):
    """Published files without general.file_type have the level in their names."""
    path = tmp_path / "model-Q5_K_M.gguf"
    make_llama_bpe(path)
    file = gate.check_model(path)
    assert inspection.stated_level(file) == "F32"
    del file.metadata["general.file_type"]
    assert inspection.stated_level(file) == "Q5_K_M"
    other = gate.check_model(path.rename(tmp_path / "model.gguf"))
    del other.metadata["general.file_type"]
    assert inspection.stated_level(other) is None


def test_the_command(rich_path, run):
    """It prints the file's facts, types and memory; control characters are escaped."""
    code, out, err = run(rich_path, "--ctx", 1024, "--sequences", 2, "--kv-type", "f32")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    for said in (
        "level        F32, 32.00 bits per weight",
        "(mit)",
        "temperature=0.6, top_k=20",
        "for 2 sequences of 1,024 tokens (--ctx), KV cache f32:",
        "1 MB  512 B per token",
        "It fits: it needs",
    ):
        assert said in out


def test_json(rich_path, run):
    """All of it as one object, with the sums that the table shows."""
    code, out, _ = run(rich_path, "--json")
    assert code == 0
    found = json.loads(out)
    ram = found["memory"]["ram"]
    assert ram["total"] == sum(n for name, n in ram.items() if name != "total")
    assert found["memory"]["needed"] == ram["total"] - found["memory"]["reclaimable"]
    assert found["tensor_types"][0]["bits_per_weight"] == 32
    assert found["sampling_defaults"]["top_k"] == 20
    assert found["path"] == str(rich_path)


def test_what_does_not_fit(rich_path, run, monkeypatch):
    """The command reports it and suggests what fits; that is an answer, not an error."""
    monkeypatch.setattr(system, "available_memory", lambda: 40_000_000)
    code, out, _ = run(rich_path, "--ctx", 65536)
    assert code == 0
    assert "It does not fit: it needs" in out
    assert "--ctx 2048 would fit" in out
    info = localgen.inspect(rich_path, n_ctx=65536)
    assert info.fits is False
    monkeypatch.setattr(system, "available_memory", lambda: None)
    assert localgen.inspect(rich_path, n_ctx=65536).fits is None
    assert "does not report available memory" in run(rich_path)[1]


def test_bad_input(rich_path, tmp_path, run):
    """The error for a damaged file names the byte; bad settings and devices raise typed errors."""
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(rich_path.read_bytes()[:500])
    with pytest.raises(InvalidGGUFError, match="byte"):
        localgen.inspect(damaged)
    assert run(damaged)[0] == 1
    with pytest.raises(ModelNotFoundError):
        localgen.inspect(tmp_path / "none.gguf")
    with pytest.raises(ValueError, match="n_sequences"):
        localgen.inspect(rich_path, n_sequences=0)
    with pytest.raises(ValueError, match="kv_type"):
        localgen.inspect(rich_path, kv_type="q9")
    with pytest.raises(BackendError, match="no such backend"):
        localgen.inspect(rich_path, device="cuda")


@pytest.mark.real
def test_a_published_model(run):
    """SmolLM2 by its alias."""
    code, out, _ = run("smollm2", "--ctx", 512)
    assert code == 0
    assert "llama, 135M parameters" in out
    assert "gpt2/smollm, 49,152 tokens, BOS <|im_start|>, EOS <|im_end|>" in out


def test_a_gpu_has_its_own_column(rich_path, capsys):
    """A kind of memory that only the GPU needs has a row too."""
    info = localgen.inspect(rich_path, n_ctx=512)
    ram, gpu = Share(weights=3 * GB), Share(weights=2 * GB, kv_cache=GB)
    memory = replace(info.memory, ram=ram, gpu=gpu, reclaimable=0)
    command._print_memory(replace(info, memory=memory))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["memory", "RAM", "GPU"] in rows
    assert ["weights", "3.00", "GB", "2.00", "GB"] in rows
    assert ["total", "3.00", "GB", "3.00", "GB"] in rows
    (kv_cache,) = [row for row in rows if row[:2] == ["KV", "cache"]]
    assert kv_cache[2:6] == ["0", "B", "1.00", "GB"]


@pytest.mark.parametrize("token_id", [10**6, "3"])
def test_a_token_outside_the_vocabulary_is_none(token_id, rich_path, monkeypatch):
    file = gate.check_model(rich_path)
    monkeypatch.setitem(file.metadata, "tokenizer.ggml.bos_token_id", token_id)
    assert inspection._token(file, "tokenizer.ggml.bos_token_id") is None
