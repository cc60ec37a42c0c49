"""``localgen serve``: mistakes before a model loads, and a server as people start it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from localgen.cli.app import app
from localgen.cli.commands import PLACES
from localgen.serve.config import ServeConfig
from tests.children import run_python
from tests.serve.processes import Server, server

pytest.importorskip("starlette")

MAIN = "import sys; sys.argv = ['localgen', *sys.argv[1:]]; from localgen.cli import main; main()"


def run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, ["serve", *arguments], env=env)


def fails(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit code and the message of a command that does not start a server."""
    given = {**os.environ, **(env or {})}
    done = run_python(MAIN, "serve", *arguments, forks=True, env=given)
    assert not done.stdout
    return done.returncode, done.stderr.strip()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "pass --api-key, or --no-auth"),
        (["--no-auth", "--api-key", "k"], "--no-auth cannot be used with --api-key"),
        (["--port", "70000"], "--port must be between 0 and 65535"),
        (["--api-key", "two words"], "key 1 of 1"),
        (["--api-key-file", "/no/such/file"], "no such file"),
        (["--cors-origin", "app.example"], "--cors-origin must hold origins such as"),
        (["--max-waiting", "-1"], "--max-waiting must be"),
        (["--log-prompts", "--no-access-log"], "--log-prompts needs the access log"),
        (["--n-ctx", "0"], "--n-ctx must be"),
        (["--deterministic", "--flash-attention", "on"], "without flash attention"),
        (["x=/no/such.gguf", "x=smollm2"], "two models have the name 'x'"),
        (['a"b=smollm2'], "NAME=MODEL"),
    ],
)
def test_mistakes_are_usage_errors_before_a_model_is_looked_for(
    arguments: list[str], message: str
) -> None:
    code, stderr = fails("/no/such.gguf", *arguments)
    assert code == 2, stderr
    assert message in stderr
    assert len(stderr.splitlines()) == 1


def test_a_key_of_the_environment_counts(tmp_path: Path) -> None:
    code, stderr = fails("x", "--no-auth", env={"LOCALGEN_API_KEY": "first second"})
    assert code == 2
    assert "--no-auth cannot be used with --api-key" in stderr
    assert "first" not in stderr
    (tmp_path / "keys").write_text("# nobody\n\n")
    code, stderr = fails("x", "--api-key-file", str(tmp_path / "keys"))
    assert "holds no key" in stderr


def test_a_missing_model_is_an_error() -> None:
    code, stderr = fails("/no/such.gguf", "--port", "0")
    assert code == 1
    assert "/no/such.gguf" in stderr
    assert "Traceback" not in stderr


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, stderr = fails("/no/such.gguf", "--port", str(port))
    assert code == 1
    assert stderr == (
        f"localgen: cannot listen on 127.0.0.1:{port}: another program uses this port; choose "
        f"another one with --port, or --port 0 for a free one"
    )


def test_a_host_that_is_not_this_machines() -> None:
    code, stderr = fails("x", "--host", "192.0.2.1", "--no-auth", "--port", "0")
    assert code == 1
    assert "192.0.2.1 is not an address of this machine" in stderr


def test_options_of_loading_reach_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def make_pool(
        models: object, config: ServeConfig, options: dict[str, object], **_: object
    ) -> None:
        given.update(options, max_running=config.max_running)
        raise SystemExit(0)

    monkeypatch.setattr("localgen.serve.models.make_pool", make_pool)
    run("x", "--port", "0", "--deterministic", "--max-sequences", "3", "--n-ctx", "512")
    assert {"deterministic": True, "max_sequences": 3, "n_ctx": 512}.items() <= given.items()
    assert given["max_running"] == 1, "the others wait in the fair queue"


def test_every_option_is_in_the_help() -> None:
    text = run("--help").output
    for flag in ("--no-auth", "--allowed-host", "--cors-origin", "--no-isolation", "--n-ctx"):
        assert flag in text


@pytest.mark.parametrize(("command", "default"), [("serve", "f16"), ("eval", "f32")])
def test_the_help_has_the_default_of_its_own_command(command: str, default: str) -> None:
    parameters = PLACES[command].load(command).params
    (found,) = (each for each in parameters if each.name == "kv_type")
    assert found.show_default == default


@pytest.fixture(scope="module")
def served(tiny_bpe_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text("# of the team\nfile-key\n")
    with server(
        "-m", "localgen", "serve", str(tiny_bpe_path), f"second,2nd={tiny_bpe_path}", "--port", "0",
        "--n-ctx", "512", "--n-threads", "1", "--api-key-file", str(keys), "--max-loaded", "1",
        env={"LOCALGEN_API_KEY": "env-key"},
    ) as found:  # fmt: skip
        yield found


def test_the_first_line_has_the_models_and_the_address(served: Server) -> None:
    assert "2 models (tiny-bpe, second) at http://127.0.0.1:" in served.first_line


@pytest.mark.parametrize(("key", "status"), [("file-key", 200), ("env-key", 200), ("x", 401)])
def test_the_keys_of_file_and_environment(served: Server, key: str, status: int) -> None:
    with served.client(key) as client:
        assert client.get("/v1/models").status_code == status


def test_models_in_processes_of_their_own_are_loaded_at_need(served: Server) -> None:
    with served.client("file-key") as client:
        for name, root in (("2nd", "second"), ("tiny-bpe", "tiny-bpe")):
            answer = client.post(
                "/v1/completions", json={"model": name, "prompt": "abc", "max_tokens": 4}
            )
            assert answer.status_code == 200, answer.text
            assert answer.json()["usage"]["completion_tokens"] == 4
            states = {
                each["id"]: each["status"] for each in client.get("/v1/models").json()["data"]
            }
            assert states.pop(root) == "loaded"
            assert list(states.values()).count("unloaded") >= 1
        missing = client.post("/v1/completions", json={"model": "gpt-4o", "prompt": "x"})
        assert missing.status_code == 404
        assert "'tiny-bpe', 'second', '2nd'" in missing.json()["error"]["message"]
        assert "/" not in missing.json()["error"]["message"]


def test_a_model_that_cannot_be_loaded_ends_the_server_with_its_reason(
    tiny_bpe_path: Path,
) -> None:
    arguments = ("serve", str(tiny_bpe_path), "--port", "0", "--n-ctx", str(2**27))
    done = run_python(MAIN, *arguments, forks=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "--no-check-memory loads it anyway" in done.stderr
