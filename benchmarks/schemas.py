"""Check that every text of a JSON Schema is valid: random walks, a model's own texts, a test suite.

    python benchmarks/schemas.py [--only KIND] [--walks N] [--texts N] [--suite DIR] [--output DIR]

Schemas of ten kinds that people use are walked at random over the allowed tokens, in the model's
vocabulary and in a small one with byte tokens; and the model writes texts of them. Each text that
ends by itself must be valid under the package jsonschema, which judges formats as far as its extras
are installed: pip install 'jsonschema[format-nongpl]'.

A walk takes each allowed token with the same probability. After --loose tokens it prefers those
that begin with a quote or a bracket, or few walks would ever end.

--suite: the published tests of draft 2020-12, such as json/tests/draft2020-12 in the source archive
of jsonschema. A schema is refused, or no instance that the suite calls invalid is let through, and
its walks are valid. The last line of the output is one JSON object; "wrong" counts what must not
happen, and each case is printed to stderr.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import common
import jsonschema
import numpy as np
import schema_kinds

from localgen import GenerationConfig, LocalModel
from localgen.constraints.classes import schema_of
from localgen.constraints.compiler import CompiledConstraint, Compiler
from localgen.constraints.matcher import GrammarMatcher
from localgen.constraints.vocabulary import tokenizer_for

MAKE_TINY = Path(__file__).parents[1] / "models" / "make_tiny.py"
CLOSING = b'"}],'
SUITE_WALKS = 20
SUITE_LOOSE = 30


@dataclass
class Tally:
    """What became of schemas and of their texts.

    unjudged: texts that ended and that jsonschema cannot judge, as it cannot read the schema.
    wrong: texts that should not have come.
    """

    what: str
    schemas: int = 0
    refused: int = 0
    texts: int = 0
    ended: int = 0
    unjudged: int = 0
    wrong: int = 0
    refusals: list[str] = field(default_factory=list)

    def refuse(self, where: str, error: Exception) -> None:
        self.refused += 1
        self.refusals.append(f"{where}: {error}")

    def fail(self, where: str, schema: Any, text: str, reason: object) -> None:
        self.wrong += 1
        shown = json.dumps(schema, ensure_ascii=False)
        common.progress(f"WRONG {where}: {text!r:.300}: {reason!s:.200}\n      {shown:.400}")

    def judge(self, where: str, judge: Judge, text: str) -> None:
        """Count a text that ended by itself, and whether it is valid."""
        self.ended += 1
        try:
            reason = judge.reason_against(text)
        except (re.error, RecursionError, jsonschema.exceptions._WrappedReferencingError):
            self.unjudged += 1
            return
        if reason:
            self.fail(where, judge.schema, text, reason)

    @property
    def row(self) -> common.Row:
        return {name: value for name, value in vars(self).items() if name != "refusals"}


class Judge:
    """What jsonschema, and a class if one was given, say of texts.

    A number that is too large for Python satisfies jsonschema.
    """

    def __init__(self, given: Any) -> None:
        self.schema, parse = schema_of(given)
        self._parse = None if isinstance(given, str | dict) else parse
        kind = jsonschema.validators.validator_for(self.schema, jsonschema.Draft202012Validator)
        self._validator = kind(self.schema, format_checker=kind.FORMAT_CHECKER)

    def reason_against(self, text: str) -> str:
        """Return why a text is invalid; nothing if it is valid."""
        try:
            self._validator.validate(json.loads(text))
            if self._parse is not None:
                self._parse(text)
        except (jsonschema.ValidationError, ValueError) as error:
            return str(error).partition("\n\n")[0]
        return ""


class Walker:
    """Compiles schemas for one vocabulary, and walks through them at random."""

    def __init__(self, model: LocalModel) -> None:
        tokenizer = model.tokenizer
        self._pieces = [tokenizer.token_bytes(each) for each in range(tokenizer.vocab_size)]
        self.compile = Compiler(
            lambda: tokenizer_for(model._backend.vocab, tokenizer.token_bytes), len(self._pieces)
        )
        self._closes = np.array([piece[:1] in CLOSING for piece in map(_or_space, self._pieces)])

    def walk(self, constraint: CompiledConstraint, chosen: random.Random, loose: int) -> str | None:
        """Return a text of random tokens; None if it did not end in four times ``loose``."""
        matcher, text = constraint.matcher(), b""
        for step in range(4 * loose):
            if matcher.is_done:
                return text.decode()
            ids = self._allowed(matcher, closes=step >= loose and chosen.random() < 0.8)
            if matcher.may_end and (step >= loose or chosen.randrange(len(ids) + 1) == len(ids)):
                return text.decode()
            token_id = int(ids[chosen.randrange(len(ids))])
            matcher.accept(token_id)
            text += self._pieces[token_id]
        return None

    def _allowed(self, matcher: GrammarMatcher, *, closes: bool) -> Any:
        bits = np.unpackbits(matcher.mask(), bitorder="little")[: len(self._pieces)]
        closing = np.flatnonzero(bits & self._closes) if closes else ()
        return closing if len(closing) else np.flatnonzero(bits)

    def accepts(self, constraint: CompiledConstraint, text: str) -> bool:
        """Return whether a text is let through, as the tokens that the vocabulary has for it."""
        matcher = constraint.matcher()
        for token_id in self.compile._vocabulary.tokenize_str(text):
            if matcher.is_done or not matcher.mask()[token_id // 8] >> token_id % 8 & 1:
                return False
            matcher.accept(token_id)
        return matcher.may_end


def _or_space(piece: bytes) -> bytes:
    return piece or b" "


# --- what is checked ---


def walks(
    what: str, walker: Walker, samples: list[schema_kinds.Sample], n_walks: int, loose: int
) -> Tally:
    """Walk through each schema, ``n_walks`` times in all."""
    tally = Tally(what, schemas=len(samples))
    for number, sample in enumerate(samples):
        where = f"{sample.kind} {sample.number}"
        try:
            constraint = walker.compile("json_schema", sample.given)
        except ValueError as error:
            tally.refuse(where, error)
            continue
        judge = Judge(sample.given)
        for turn in range(number, n_walks, len(samples)):
            tally.texts += 1
            text = walker.walk(constraint, random.Random(turn), loose)
            if text is not None:
                tally.judge(where, judge, text)
    return tally


def generations(model: LocalModel, samples: list[schema_kinds.Sample], n_each: int) -> Tally:
    """Let the model write texts of each schema, eight sequences at a time."""
    tally = Tally("texts of the model", schemas=len(samples))
    jobs: list[tuple[str, Judge, GenerationConfig]] = []
    for sample in samples:
        where = f"{sample.kind} {sample.number}"
        try:
            model.complete(".", json_schema=sample.given, max_new_tokens=1)
        except ValueError as error:
            tally.refuse(where, error)
            continue
        for seed in range(n_each):
            config = GenerationConfig(
                json_schema=sample.given, temperature=1.0, seed=seed, max_new_tokens=160
            )
            jobs.append((where, Judge(sample.given), config))
    for first in range(0, len(jobs), 8):
        part = jobs[first : first + 8]
        prompts = [f"A good example of {where.rstrip(' 0123456789')}, as JSON:\n"
                   for where, _, _ in part]  # fmt: skip
        done = model.complete(prompts, generation_config=[config for _, _, config in part])
        for (where, judge, _), each in zip(part, done, strict=True):
            tally.texts += 1
            if each.finish_reason in ("stop", "eos"):
                tally.judge(where, judge, each.text)
                if not each.is_valid:
                    tally.fail(where, judge.schema, each.text, "it ended, and is_valid is false")
    return tally


def suite(folder: Path, walker: Walker) -> list[Tally]:
    """Check the schemas of a published suite: their instances, and walks."""
    cases, texts = Tally("instances of the suite"), Tally("walks of the suite")
    for where, case in suite_cases(folder):
        schema = case["schema"]
        for tally in (cases, texts):
            tally.schemas += 1
        try:
            constraint = walker.compile("json_schema", json.dumps(schema))
        except ValueError as error:
            cases.refuse(where, error)
            texts.refused += 1
            continue
        for test in case["tests"]:
            for text in {json.dumps(test["data"]), json.dumps(test["data"], ensure_ascii=False)}:
                cases.texts += 1
                if not is_utf8(text) or not walker.accepts(constraint, text):
                    continue
                cases.ended += 1
                if not test["valid"]:
                    cases.fail(where, schema, text, test["description"])
        judge = Judge(json.dumps(schema))
        for turn in range(SUITE_WALKS):
            texts.texts += 1
            walked = walker.walk(constraint, random.Random(turn), SUITE_LOOSE)
            if walked is not None:
                texts.judge(where, judge, walked)
    return [cases, texts]


def suite_cases(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The cases of all files of a suite, optional ones too."""
    for path in sorted(folder.rglob("*.json")):
        for case in json.loads(path.read_text("utf-8")):
            yield f"{path.relative_to(folder)}: {case['description']}", case


def is_utf8(text: str) -> bool:
    """Return whether a text is one that UTF-8 can say: it may have half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def small_model() -> Iterator[LocalModel]:
    """A model whose vocabulary has few pieces, and a token for each byte."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, str(MAKE_TINY), folder], check=True)
        with LocalModel.from_pretrained(f"{folder}/llama-spm.gguf", device="cpu") as model:
            yield model


def main() -> None:
    """Read the arguments, check, print and write."""
    parser = common.argument_parser(__doc__, rounds=1)
    parser.add_argument("--only", action="append", choices=[*schema_kinds.KINDS], metavar="KIND",
                        help="of the schemas; may be given again")  # fmt: skip
    parser.add_argument("--per-kind", type=int, default=schema_kinds.PER_KIND, help="schemas")
    parser.add_argument("--walks", type=int, default=2000, help="in each of the two vocabularies")
    parser.add_argument("--loose", type=int, default=60, help="tokens of a walk")
    parser.add_argument("--texts", type=int, default=1, help="of the model, for each schema")
    parser.add_argument("--suite", type=Path, help="folder of the published tests")
    options = parser.parse_args()
    samples = [each for each in schema_kinds.samples(options.per_kind)
               if each.kind in (options.only or schema_kinds.KINDS)]  # fmt: skip
    tallies: list[Tally] = []
    with LocalModel.from_pretrained(options.model, device="cpu") as model:
        threads = common.n_threads(model)
        walker = Walker(model)
        if options.walks:
            tallies.append(
                walks("walks, the model's tokens", walker, samples, options.walks, options.loose)
            )
            with small_model() as small:
                tallies.append(
                    walks("walks, byte tokens", Walker(small), samples, options.walks,
                          2 * options.loose)
                )  # fmt: skip
        if options.texts:
            tallies.append(generations(model, samples, options.texts))
        if options.suite:
            tallies += suite(options.suite, walker)
    refusals = sorted({each for tally in tallies for each in tally.refusals})
    note = """Texts that ended by themselves were judged by jsonschema; of the instances, those that
        were let through count. unjudged: its re cannot read the pattern. wrong: they should not
        have come."""
    common.report(
        "schemas", [each.row for each in tallies], options,
        threads=threads, note=note, refusals=refusals,
    )  # fmt: skip


if __name__ == "__main__":
    main()
