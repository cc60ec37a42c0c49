"""Constraints let through what they describe and nothing else; llguidance is the real one."""

from __future__ import annotations

import dataclasses
import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import jsonschema
import numpy as np
import pydantic
import pytest

from localgen.constraints.compiler import CompiledConstraint, Compiler
from localgen.constraints.enforceable import CheckedGrammar
from localgen.constraints.matcher import masks_of
from localgen.constraints.narrowing import narrow
from localgen.engine.constraint import Matcher
from localgen.errors import ConstraintError
from tests.constraints.vocabularies import N_VOCAB, PIECES, allows, byte_compiler


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return byte_compiler()


def walk(constraint: CompiledConstraint, seed: int, most: int = 120) -> bytes | None:
    """A text of random tokens that are allowed; None if it did not end.

    Each token is as likely as any other, but for those that close something after a while.
    """
    matcher, chosen = constraint.matcher(), random.Random(seed)
    text = b""
    for step in range(most):
        ids = np.flatnonzero(np.unpackbits(matcher.mask(), bitorder="little"))
        if matcher.is_done or (matcher.may_end and (not len(ids) or chosen.random() < 0.3)):
            return text
        closing = [token_id for token_id in ids if PIECES[token_id][:1] in b'"}],']
        if step > most // 2 and closing and chosen.random() < 0.7:
            ids = np.array(closing)
        token_id = int(chosen.choice(list(ids)))
        matcher.accept(token_id)
        text += PIECES[token_id]
    return None


PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 8},
        "born": {"type": "string", "format": "date"},
        "tags": {"type": "array", "items": {"enum": ["a", "b\n"]}, "minItems": 1, "maxItems": 3},
        "friend": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        "score": {"type": "number", "exclusiveMinimum": -2, "maximum": 3.5, "multipleOf": 0.5},
    },
    "required": ["name", "friend"],
}
SCHEMAS: list[Any] = [
    PERSON,
    {},
    {"type": ["integer", "boolean", "null"], "minimum": -3, "maximum": 1000},
    {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 2},
    {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": True},
    {
        "type": "object",
        "patternProperties": {"^x_": {"const": [1, {"b": "é"}]}},
        "minProperties": 1,
    },
    {
        "prefixItems": [{"type": "string", "pattern": "^[a-c]+$"}, {"type": "boolean"}],
        "items": False,
    },
    {"oneOf": [{"type": "string", "format": "ipv4"}, {"type": "integer", "multipleOf": 7}]},
    {"allOf": [{"properties": {"a": {"type": "null"}}, "required": ["a"]}, {"type": "object"}]},
    {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "b"},
]


@pytest.mark.slow
@pytest.mark.parametrize("schema", SCHEMAS)
def test_whatever_comes_is_valid(schema: Any, compiler: Compiler) -> None:
    constraint = compiler("json_schema", schema)
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    n_ended = 0
    for seed in range(40):
        text = walk(constraint, seed)
        if text is not None:
            n_ended += 1
            validator.validate(json.loads(text))
    assert n_ended > 10


@pytest.mark.parametrize(
    ("name", "value", "allowed", "refused"),
    [
        ("regex", r"\d{3}-\d", ["123-4"], ["123", "123-", "123-45", "x"]),
        ("regex", r"^a|b$", ["a", "b"], ["ab", "^a"]),
        ("choices", ["a+", "a+b", "a.c", "\\d", "é\n"], ["a+", "\\d", "é\n"], ["aa", "7"]),
        ("grammar", 'start: "x" INT\nINT: /[0-9]{1,2}/', ["x1", "x12"], ["x", "x123"]),
        ("grammar", 'root ::= "x" d d?\nd ::= [0-9]', ["x1", "x12"], ["x", "x123"]),
        ("json_object", True, ['{"a": [1, null]}', "{}"], ["[]", "{", '{"a":1}']),
        ("json_schema", '{"type": "integer"}', ["7", "-7"], ["7.0", '"7"', "07"]),
        ("json_schema", {"const": {"a": 1}}, ['{"a": 1}'], ["{}", '{"a":  1}', ' {"a": 1}']),
    ],
)  # fmt: skip
def test_exactly_the_texts_that_are_described(
    name: str, value: Any, allowed: list[str], refused: list[str], compiler: Compiler
) -> None:
    constraint = compiler(name, value)
    assert [text for text in allowed if not allows(constraint, text)] == []
    assert [text for text in refused if allows(constraint, text)] == []


def test_schemas_in_a_grammar_are_as_those_of_json_schema(compiler: Compiler) -> None:
    schema = '{"type": "object", "properties": {"a": {"type": "integer"}}}'
    constraint = compiler("grammar", f'start: "<" call ">"\ncall: %json {schema}')
    assert allows(constraint, '<{"a": 1}>')
    assert not allows(constraint, '<{"a":  1}>')
    assert not allows(constraint, r'<{"\u0061": "x"}>')
    with pytest.raises(ValueError, match=r"\$\.not cannot be enforced"):
        compiler("grammar", 'start: %json {"not": {}}')
    with pytest.raises(ValueError, match="%json needs a JSON object"):
        compiler("grammar", "start: %json [1]")


@pytest.mark.parametrize(
    "grammar",
    [
        'start: %json {"const": 1} | %json SCHEMA',
        'start: "a" %json\n  SCHEMA',
        '# a "comment\nstart: /[^"]\n/ b\nb: %json SCHEMA',
        'start: "\\"" %json SCHEMA // "',
    ],
)
def test_each_schema_of_a_grammar_is_checked_and_narrowed(grammar: str, compiler: Compiler) -> None:
    """None is left as it is, wherever it stands: llguidance takes dates too widely."""
    schema = '{\n "type": "string",\n "format": "date"}'
    constraint = compiler("grammar", grammar.replace("SCHEMA", schema))
    before = {'"a"': "a", "[^": "x\n", '\\"': '"'}
    start = next((text for sign, text in before.items() if sign in grammar), "")
    assert allows(constraint, f'{start}"2024-02-29"')
    assert not allows(constraint, f'{start}"2023-02-29"')
    with pytest.raises(ValueError, match=r"\$\.not cannot be enforced"):
        compiler("grammar", grammar.replace("SCHEMA", '{"not": {}}'))


def test_schemas_of_a_checked_grammar_are_taken_as_they_are(compiler: Compiler) -> None:
    """A pattern that was translated once would mean something else after a second time."""
    schema: dict[str, Any] = {"type": "string", "pattern": r"^.[\W_]$"}
    numbers = {"type": "array", "prefixItems": [schema, {"type": "number", "minimum": 0}]}
    narrow(numbers)
    grammar = CheckedGrammar(f"start: %json {json.dumps(numbers)}")
    constraint = compiler("grammar", grammar)
    assert allows(constraint, '["]_", 0.5]')
    assert not allows(constraint, '["]a", 0.5]')
    assert not allows(constraint, '["]_", 0.' + 11 * "3" + "]")


def test_a_lark_grammar_has_a_start(compiler: Compiler) -> None:
    with pytest.raises(ValueError, match='has no rule "start"'):
        compiler("grammar", 'begin: "a"')


def test_texts_and_comments_of_a_grammar_are_no_schemas(compiler: Compiler) -> None:
    constraint = compiler("grammar", 'start: "%json {" // %json [\n  # %json (\n')
    assert allows(constraint, "%json {")


def test_a_name_has_one_spelling(compiler: Compiler) -> None:
    r"""As "\u0061" the name "a" would escape what the schema says of "a"."""
    schema = {"properties": {"a": {"type": "integer"}}, "additionalProperties": True}
    constraint = compiler("json_schema", schema)
    assert allows(constraint, '{"a": 1, "b/c": "x"}')
    for text in ('{"\\u0061": "x"}', '{"b\\/c": 1}', '{"a": 1, "a": 2}'):
        assert not allows(constraint, text)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("regex", "[", "regex cannot be enforced: .*unclosed character class"),
        ("regex", r"(?=a)b", "look-around"),
        ("regex", r"[^\s\S]", "allows no text at all"),
        ("regex", "(|)", "allows only an empty text"),
        ("grammar", "start: start", "allows no text at all"),
        ("grammar", "start: (", "grammar cannot be enforced"),
        ("grammar", "root ::= (", "grammar cannot be enforced"),
        ("grammar", "a: b", "grammar cannot be enforced"),
        ("grammar", 'start: %json {"x-guidance": {"lenient": true}, "not": {}}', "x-guidance"),
        ("grammar", "start: " + "(" * 20_000 + '"a"' + ")" * 20_000, "too deeply nested"),
        ("json_schema", {"type": "nonsense"}, r"\$\.type must be one of"),
        ("json_schema", {"oneOf": [{"type": "number"}, {"type": "integer"}]}, "use anyOf"),
        ("json_schema", {"type": "integer", "minimum": 2, "maximum": 1}, "no value satisfies it"),
        ("json_schema", {"pattern": r"(a)\1"}, "a reference to a group"),
        ("json_schema", int | set, "has no JSON Schema|must be a JSON Schema|uniqueItems"),
        ("choices", ["x" * 9_000_000], "must have at most 8,000,000"),
        (
            "json_schema",
            {"properties": {f"p{i}": {"type": "integer"} for i in range(3_000)}},
            "too large to compile; use",
        ),
    ],
)
def test_what_cannot_be_enforced_is_an_error(
    name: str, value: Any, message: str, compiler: Compiler
) -> None:
    with pytest.raises(ValueError, match=message):
        compiler(name, value)


@pytest.mark.parametrize("sign", ["start:", "root ::="])
def test_a_grammar_of_one_endless_rule_is_refused_at_once(sign: str, compiler: Compiler) -> None:
    """300,000 alternatives took minutes, which no Ctrl-C ends."""
    grammar = f"{sign} " + "|".join(f'"a{index}"' for index in range(300_000))
    with pytest.raises(ValueError, match="has 300,001 texts, patterns and names"):
        compiler("grammar", grammar)


def test_rules_that_refer_to_each_other_in_a_long_chain(compiler: Compiler) -> None:
    """llguidance recurses along them: on the stack of a plain thread the process died."""
    rules = [f'r{number}: "a" r{number + 1}' for number in range(5_000)]
    lark = "\n".join(["start: r0", *rules, 'r5000: "b"'])
    assert bytes(compiler("grammar", lark).matcher().forced_tokens())[:9] == b"aaaaaaaaa"
    with pytest.raises(ValueError, match="at most 10,000 rules"):
        compiler("grammar", lark + "\n" + "\n".join(f'q{i}: "a"' for i in range(5_000)))


def test_many_choices(compiler: Compiler) -> None:
    constraint = compiler("choices", [f"choice {number}" for number in range(20_000)])
    assert allows(constraint, "choice 19999")
    assert not allows(constraint, "choice 20000")
    assert bytes(constraint.matcher().forced_tokens()) == b"choice "


def test_equal_constraints_are_compiled_once(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compiler("json_schema", {"type": "integer"})
    monkeypatch.setattr(Compiler, "_compiled", None)
    assert compiler("json_schema", '{"type":   "integer"}') == first


def test_threads_that_want_one_constraint_compile_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler, compiled = byte_compiler(), list[str]()
    real = Compiler._compiled

    def count(self: Compiler, name: str, shown: str, text: str) -> Any:
        compiled.append(text)
        return real(self, name, shown, text)

    monkeypatch.setattr(Compiler, "_compiled", count)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: compiler("regex", "[ab]{3}"), range(8)))
    assert compiled == ["[ab]{3}"]
    assert all(allows(each, "aba") for each in found)


def test_a_grammar_that_is_too_complex_from_the_start_is_refused_for_that(
    compiler: Compiler,
) -> None:
    with pytest.raises(ValueError, match=r"grammar is too complex to follow here: .*many items"):
        compiler("grammar", "root ::= " + '"a"? ' * 20_000)


def test_a_matcher_goes_back_and_forks(compiler: Compiler) -> None:
    matcher = compiler("regex", "ab(c|d)e?").matcher()
    assert [matcher.forced_tokens(), matcher.may_end] == [[97, 98], False]
    for code in b"abc":
        matcher.accept(code)
    other = matcher.fork()
    other.accept(101)
    assert [other.is_done, matcher.is_done, matcher.may_end] == [True, False, True]
    other.rollback(2)
    assert np.flatnonzero(np.unpackbits(other.mask(), bitorder="little")).tolist() == [99, 100]
    other.rollback(0)
    assert [other.n_allowed(list(each)) for each in (b"ce", b"cee", b"xc", b"")] == [2, 2, 0, 0]
    with pytest.raises(ValueError, match=r"token 120 is not allowed by regex"):
        other.accept(120)
    both: list[Matcher] = [matcher, compiler("choices", ["éx", "y"]).matcher()]
    for together in (masks_of(both), masks_of(both, n_threads=2)):
        assert [len(mask) for mask in together] == [-(-N_VOCAB // 8)] * 2
        allowed = np.flatnonzero(np.unpackbits(together[1], bitorder="little"))
        assert [PIECES[token_id] for token_id in allowed] == [b"y", b"\xc3", "é".encode()]


def test_matchers_of_one_grammar_make_their_masks_one_after_the_other(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share a lock; threads would only wait for each other."""
    monkeypatch.setattr("localgen.constraints.matcher.LLExecutor", None)
    constraint = compiler("choices", ["one mask", "another"])
    first, second = masks_of([constraint.matcher(), constraint.matcher().fork()], n_threads=2)
    assert np.array_equal(first, second)


def test_a_grammar_that_became_too_complex_is_an_error(compiler: Compiler) -> None:
    """llguidance bounds its work for each mask; a billion letters are more than that."""
    matcher = compiler("regex", "x(((a{1000}){1000}){1000})").matcher()

    def follow() -> None:
        for code in b"x" + 3000 * b"a":
            matcher.accept(code)

    with pytest.raises(ConstraintError, match="regex is too complex to follow here"):
        follow()


# --- what is read from a text ---


class Pet(pydantic.BaseModel):
    name: str
    age: int = pydantic.Field(ge=0)


@dataclasses.dataclass
class Place:
    city: str
    zone: Literal[1, 2]


@pytest.mark.parametrize(
    ("name", "value", "text", "parsed"),
    [
        ("json_schema", list[Pet], '[{"name": "Bo", "age": 3}]', [Pet(name="Bo", age=3)]),
        ("json_schema", Pet, '{"name": "Rex", "age": 3}', Pet(name="Rex", age=3)),
        ("json_schema", Place, '{"city": "Ulm", "zone": 2}', Place("Ulm", 2)),
        ("json_schema", {"type": "array"}, "[1, 2.5]", [1, 2.5]),
        ("json_object", True, '{"a": null}', {"a": None}),
        ("choices", ["1"], "1", "1"),
    ],
)
def test_what_a_text_says(
    name: str, value: Any, text: str, parsed: Any, compiler: Compiler
) -> None:
    constraint = compiler(name, value)
    assert allows(constraint, text)
    assert constraint.parse(text) == parsed


def test_a_number_that_python_cannot_hold_is_not_read(compiler: Compiler) -> None:
    """Written as JSON again it would be Infinity, which is none."""
    constraint = compiler("json_schema", {"type": "array", "items": {"type": "number"}})
    assert constraint.parse("[1e308, 2]") == [1e308, 2]
    with pytest.raises(ValueError, match="1e309 is too large"):
        constraint.parse("[1e309]")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "a", "strict": True, "schema": {"type": "object"}}, r"pass its \['schema'\]"),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
            r"pass its \['json_schema'\]\['schema'\]",
        ),
        ('{"type": "json_object"}', "pass json_object=True"),
        ({"type": "function", "function": {"name": "a"}}, r"\['function'\]\['parameters'\]"),
    ],
)
def test_what_wraps_a_schema_is_an_error_that_says_where_it_is(
    given: Any, message: str, compiler: Compiler
) -> None:
    with pytest.raises(ValueError, match=message):
        compiler("json_schema", given)


def test_a_class_without_pydantic_says_what_to_install(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(ValueError, match="pip install pydantic"):
        compiler("json_schema", Place)
