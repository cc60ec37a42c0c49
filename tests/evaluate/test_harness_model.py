"""LocalgenLM under the real lm-eval, with local tasks, against score() and complete()."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from localgen import LocalModel
from localgen.errors import TemplateError
from tests.fakes import BOS, fake_model

pytest.importorskip("lm_eval", reason="lm-eval is not installed")
datasets = pytest.importorskip("datasets", reason="lm-eval is not installed")

from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.api.registry import get_model  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from localgen.evaluate import LocalgenLM, evaluate  # noqa: E402

TASKS = Path(__file__).parent / "tasks"


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of local tasks that name their data, the only ones that lm-eval finds."""
    # lm-eval's own are thousands of files.
    own_only = functools.partial(TaskManager, include_defaults=False)
    monkeypatch.setattr("localgen.evaluate.run.TaskManager", own_only)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    # These describe the machine, with programs that take seconds.
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda _: None)
    monkeypatch.setattr("lm_eval.evaluator.get_git_commit_hash", lambda: "")
    for path in TASKS.glob("*.yaml"):
        text = path.read_text("utf-8").replace("DATA", TASKS.as_posix())
        (tmp_path / path.name).write_text(text, "utf-8")
    return tmp_path


def requests(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [
        Instance(request_type=kind, doc={}, arguments=each, idx=index)
        for index, each in enumerate(arguments)
    ]


def summed(model: LocalModel, context: str, continuation: str) -> float:
    return float(model.score(context + continuation)[-len(continuation) :].sum())


def test_log_likelihoods_are_sums_of_score_in_the_order_of_the_requests() -> None:
    model = fake_model()
    pairs = [("What is it? It is", end) for end in (" red", " blue", " red and blue")]
    pairs = [pairs[2], ("Something else:", " no"), *pairs[:2], ("spaces move ", "over")]
    found = LocalgenLM(model).loglikelihood(requests("loglikelihood", *pairs))
    expected = [summed(model, *pair) for pair in pairs[:4]]
    expected.append(summed(model, "spaces move", " over"))
    assert [logprob for logprob, _ in found] == pytest.approx(expected, abs=1e-3)


def test_an_empty_context_is_bos() -> None:
    model = fake_model()
    ((found, _),) = LocalgenLM(model).loglikelihood(requests("loglikelihood", ("", "abc")))
    assert found == pytest.approx(float(model.score([BOS, *b"abc"]).sum()), abs=1e-3)


def test_contexts_are_computed_once_whatever_the_order_of_their_requests() -> None:
    model = fake_model(n_batch=64)
    examples = "These examples come before each of the questions. "
    pairs = [(f"{examples}{question}:", end) for end in (" a", " b") for question in ("one", "two")]
    LocalgenLM(model).loglikelihood(requests("loglikelihood", *pairs))
    assert model.backend.n_decoded == len(examples) + 2 * len("one:") + 2 * len(" ")


def test_a_long_context_loses_its_beginning_and_the_user_is_told() -> None:
    """The last token takes no room, so max_length tokens go through the model besides it."""
    model = fake_model()
    lm = LocalgenLM(model, max_length=10)
    with pytest.warns(UserWarning, match=r"1 of 2 contexts .* lose up to 8 tokens"):
        found = lm.loglikelihood(
            requests("loglikelihood", ("0123456789abcdef", "xyz"), ("01234567", "xyz"))
        )
    expected = [summed(model, "89abcdef", "xyz"), summed(model, "01234567", "xyz")]
    assert [logprob for logprob, _ in found] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("pair", "message"),
    [(("some context", ""), "has no tokens"), (("c", "x" * 11), "does not fit max_length=10")],
)
def test_what_cannot_be_scored_is_refused_before_anything_runs(
    pair: tuple[str, str], message: str
) -> None:
    model = fake_model()
    with pytest.raises(ValueError, match=message):
        LocalgenLM(model, max_length=10).loglikelihood(
            requests("loglikelihood", ("good", "one"), pair)
        )
    assert model.backend.n_decoded == 0


def test_a_rolling_log_likelihood_predicts_each_token_once() -> None:
    """Windows by hand: BOS predicts the first tokens; later ones see what is before them."""
    model = fake_model()
    found = LocalgenLM(model, max_length=4).loglikelihood_rolling(
        requests("loglikelihood_rolling", ("abcdefghij",), ("xy",))
    )
    long = model.score([BOS, *b"abcd"]).sum() + model.score([*b"defgh"]).sum()
    long += model.score([*b"fghij"])[-2:].sum()
    assert found == pytest.approx([float(long), float(model.score([BOS, *b"xy"]).sum())], abs=1e-3)


def test_texts_end_at_their_own_marks_and_lengths() -> None:
    model = fake_model()
    whole = model.complete("a beginning", do_sample=False, max_new_tokens=20).text
    mark = whole[5:7]
    found = LocalgenLM(model, max_gen_toks=3).generate_until(
        requests(
            "generate_until",
            ("a beginning", {"until": [mark], "max_gen_toks": 20}),
            ("a beginning", {"until": "\0", "max_new_tokens": 4, "do_sample": False}),
            ("a beginning", {}),
        )
    )
    assert found == [whole[: whole.index(mark)], whole[:4], whole[:3]]


def test_sampled_texts_follow_lm_evals_seed() -> None:
    import numpy as np

    asked = requests("generate_until", *[("once", {"temperature": 5.0, "max_gen_toks": 9})] * 3)
    texts = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        texts.append(LocalgenLM(fake_model()).generate_until(asked))
    assert texts[0] == texts[1] != texts[2]
    assert len(set(texts[0])) > 1


def test_an_unknown_option_of_a_task_is_refused_before_anything_runs() -> None:
    model = fake_model()
    asked = requests("generate_until", ("a", {}), ("b", {"tempature": 1}))
    with pytest.raises(TypeError, match="tempature"):
        LocalgenLM(model).generate_until(asked)
    assert model.backend.n_decoded == 0


def test_no_room_for_a_context_is_an_error() -> None:
    with pytest.raises(ValueError, match="max_gen_toks=256 leaves no room"):
        LocalgenLM(fake_model(), max_length=100).generate_until(
            requests("generate_until", ("a", {}))
        )


def test_results_are_cached_as_they_come_in() -> None:
    class Hook:
        found: list[tuple[str, Any, Any]] = []  # noqa: RUF012

        def add_partial(self, *item: Any) -> None:
            self.found.append(item)

    lm = LocalgenLM(fake_model())
    lm.set_cache_hook(Hook())
    (score,) = lm.loglikelihood(requests("loglikelihood", ("a b", " c")))
    (rolling,) = lm.loglikelihood_rolling(requests("loglikelihood_rolling", ("abc",)))
    (text,) = lm.generate_until(requests("generate_until", ("a", {"max_gen_toks": 2})))
    assert Hook.found == [
        ("loglikelihood", ("a b", " c"), score),
        ("loglikelihood_rolling", ("abc",), rolling),
        ("generate_until", ("a", {"max_gen_toks": 2}), text),
    ]


# --- text ---


def test_bos_is_added_unless_the_text_has_it() -> None:
    lm = LocalgenLM(fake_model(), add_bos_token=True)
    spelled = lm.tokenizer.token_text(BOS)
    assert lm.tok_encode("ab") == [BOS, *b"ab"]
    assert lm.tok_encode(f"{spelled}ab") == [*spelled.encode(), *b"ab"]  # no second one
    assert lm.tok_encode("ab", add_special_tokens=False) == [*b"ab"]
    assert lm.tok_encode("abcdef", left_truncate_len=2) == [*b"ef"]
    assert LocalgenLM(fake_model(), add_bos_token=False).tok_encode("ab") == [*b"ab"]


STRICT = """{%- for message in messages -%}
{%- if message.role == "system" -%}{{ raise_exception("no system messages") }}{%- endif -%}
[{{ message.role }}] {{ message.content }}{% if not loop.last or add_generation_prompt %} /
{%- endif %}{%- endfor -%}{%- if add_generation_prompt -%}[assistant]{{ mood }}{%- endif -%}"""
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


def test_chats_are_rendered_by_the_template_with_its_variables() -> None:
    lm = LocalgenLM(fake_model(), chat_template=STRICT, chat_template_args={"mood": " calm"})
    assert lm.apply_chat_template(CHAT[1:]) == "[user] Hi /[assistant] calm"
    open_end = [*CHAT[1:], {"role": "assistant", "content": "Well"}]
    assert lm.apply_chat_template(open_end, add_generation_prompt=False).endswith("Well")
    assert lm.chat_template(True) == STRICT
    assert lm.chat_template(False) is None
    with pytest.raises(ValueError, match="chat_template='tool_use'"):
        lm.chat_template("tool_use")


def test_a_refused_system_message_is_left_out_and_the_user_is_told() -> None:
    lm = LocalgenLM(fake_model(), chat_template=STRICT)
    with pytest.warns(UserWarning, match="no system messages"):
        assert lm.apply_chat_template(CHAT) == "[user] Hi /[assistant]"
    failing = LocalgenLM(fake_model(), chat_template="{{ raise_exception('never') }}")
    with pytest.raises(TemplateError, match="never"):
        failing.apply_chat_template(CHAT[1:])


def test_the_tokenizers_name_follows_what_changes_a_rendered_request() -> None:
    names = [
        LocalgenLM(fake_model(), chat_template=template).tokenizer_name
        for template in (STRICT, STRICT, "{{ messages }}")
    ]
    assert names[0] == names[1] != names[2]


# --- loading ---


def test_a_model_that_was_passed_is_left_open() -> None:
    model = fake_model()
    with LocalgenLM(model) as lm:
        assert lm.model is model
    assert model.complete("a", max_new_tokens=1, do_sample=False).text


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch_size": 2}, "max_sequences"),
        ({"device": "cpu"}, "device"),
        ({"n_threads": 2}, "n_threads"),
        ({"max_length": 512}, "max_length"),
    ],
)
def test_a_loaded_model_takes_no_options_of_loading(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        LocalgenLM(fake_model(n_ctx=512), **options)


@pytest.mark.slow
def test_the_name_localgen_makes_one(tiny_bpe_path: Path) -> None:
    """As simple_evaluate(model="localgen", model_args={…}) does."""
    kind = get_model("localgen")
    arguments = {"pretrained": str(tiny_bpe_path), "max_length": 255, "n_threads": 1}
    with kind.create_from_arg_obj(arguments, {"batch_size": "2", "device": "cpu"}) as lm:
        assert (lm.max_length, lm.batch_size, lm.model.config.n_ctx) == (255, 2, 256)
    with pytest.raises(ValueError, match="leave one of them out"):
        LocalgenLM(tiny_bpe_path, max_length=10, n_ctx=100)


# --- through lm-eval ---


def test_local_tasks_of_each_kind_give_what_their_log_likelihoods_say(tasks: Path) -> None:
    model = fake_model()
    found = evaluate(
        LocalgenLM(model),
        ["colours", "sums", "prose"],
        include_path=tasks,
        bootstrap_iters=0,
        log_samples=True,
    )
    samples = found["samples"]["colours"]
    for sample in samples:
        scores = [summed(model, argument[0], argument[1]) for argument in sample["arguments"]]
        best = max(range(len(scores)), key=scores.__getitem__)
        assert sample["acc"] == (best == sample["doc"]["answer"])
    assert found["results"]["colours"]["acc,none"] == sum(s["acc"] for s in samples) / 4
    assert found["results"]["sums"]["exact_match,letters"] == 0
    texts = [sample["doc"]["text"] for sample in found["samples"]["prose"]]
    nats = -sum(float(model.score([BOS, *text.encode()]).sum()) for text in texts)
    assert found["results"]["prose"]["byte_perplexity,none"] == pytest.approx(
        2.718281828459045 ** (nats / sum(len(text.encode()) for text in texts)), rel=1e-4
    )


def test_an_unknown_task_is_named(tasks: Path) -> None:
    with pytest.raises(ValueError, match="no task 'colors'"):
        evaluate(LocalgenLM(fake_model()), ["colours", "colors"], include_path=tasks)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        evaluate(LocalgenLM(fake_model()), ["colours"], include_path=tasks / "missing")
