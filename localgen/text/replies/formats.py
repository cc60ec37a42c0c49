"""The formats of replies as tables: the marks of each, and the words in a chat template that tell
which one a model writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from localgen._util.suggestions import did_you_mean
from localgen.text.replies.other_calls import DEEPSEEK_SEPARATOR, deepseek_mark
from localgen.text.replies.tagged_calls import Tags

Body = Literal[
    "json", "keyed", "tagged", "mistral", "deepseek", "gemma", "python", "harmony", "none"
]

_THINK = ("<think>", "</think>")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyFormat:
    """How a family of models writes reasoning and tool calls.

    clues: the format is that of a template which has all words of one of these groups. body: what
    a call looks like between its marks. begins, ends: the marks before and after calls; without
    ``ends``, a call ends where its JSON does. starts: what a call inside the reasoning begins with
    after its mark; any other text there only mentions the mark. dropped: marks without a meaning
    of their own. inner: marks inside calls. thought: the marks around reasoning. thinks_anywhere:
    reasoning may follow text; otherwise its mark there is text. tags: of body "tagged". has_bare:
    a call may come without a mark: a JSON object at the beginning, or the tag of a tool's name.
    one_call_a_message: templates of this format render the first call of a message only.
    """

    name: str
    clues: tuple[tuple[str, ...], ...] = ()
    body: Body = "none"
    begins: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    thought: tuple[str, str] = _THINK
    thinks_anywhere: bool = False
    tags: Tags | None = None
    has_bare: bool = False
    one_call_a_message: bool = False

    @property
    def marks(self) -> frozenset[str]:
        """Every mark of the format, as far as a token may be one."""
        return frozenset((*self.begins, *self.ends, *self.dropped, *self.inner, *self.thought))

    @property
    def always_reasons(self) -> bool:
        """Whether each message begins with a header, so that none is an answer from its start."""
        return self.body == "harmony"

    def without_calls(self) -> ReplyFormat:
        """Return the format of replies that have reasoning and an answer."""
        if self.body == "harmony":
            return self
        return ReplyFormat(name=self.name, thought=self.thought)

    def shows_thoughts(self, template: str) -> bool:
        """Return whether a chat template has a mark of the reasoning, or of messages by channel."""
        return self.body == "harmony" or any(mark in template for mark in self.thought)


# In this order: a template that has the words of several formats is of the first one.
FORMATS = (
    ReplyFormat(
        name="harmony",
        clues=(("<|channel|>", "<|start|>"),),
        body="harmony",
        inner=(
            *("<|start|>", "<|channel|>", "<|message|>", "<|constrain|>"),
            *("<|end|>", "<|call|>", "<|return|>"),
        ),
        thought=("<|channel|>analysis<|message|>", "<|end|>"),
        thinks_anywhere=True,
        one_call_a_message=True,
    ),
    ReplyFormat(
        name="apertus",
        clues=(("<|tools_prefix|>",),),
        body="keyed",
        begins=("<|tools_prefix|>",),
        ends=("<|tools_suffix|>",),
        thought=("<|inner_prefix|>", "<|inner_suffix|>"),
        thinks_anywhere=True,
    ),
    ReplyFormat(
        name="functiongemma",
        clues=(("<start_function_call>",),),
        body="gemma",
        begins=("<start_function_call>",),
        ends=("<end_function_call>",),
        inner=("<escape>",),
    ),
    ReplyFormat(
        name="seed-oss",
        clues=(("<seed:tool_call>",),),
        body="tagged",
        begins=("<seed:tool_call>",),
        ends=("</seed:tool_call>",),
        starts=("<function=",),
        thought=("<seed:think>", "</seed:think>"),
        tags=Tags(
            name="<function=",
            name_end=">",
            key="<parameter=",
            key_end=">",
            value_end="</parameter>",
            call_end="</function>",
        ),
    ),
    ReplyFormat(
        name="deepseek",
        clues=((deepseek_mark("tool call begin"),),),
        body="deepseek",
        begins=(deepseek_mark("tool call begin"),),
        ends=(deepseek_mark("tool call end"),),
        dropped=(deepseek_mark("tool calls begin"), deepseek_mark("tool calls end")),
        inner=(DEEPSEEK_SEPARATOR,),
    ),
    ReplyFormat(
        name="mistral",
        clues=(("[TOOL_CALLS]",),),
        body="mistral",
        begins=("[TOOL_CALLS]",),
        inner=("[ARGS]", "[CALL_ID]"),
        thought=("[THINK]", "[/THINK]"),
    ),
    ReplyFormat(
        name="glm",
        clues=(("<arg_key>", "<tool_call>"),),
        body="tagged",
        begins=("<tool_call>",),
        ends=("</tool_call>",),
        inner=("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
        tags=Tags(
            key="<arg_key>",
            key_end="</arg_key>",
            value="<arg_value>",
            value_end="</arg_value>",
        ),
    ),
    ReplyFormat(
        name="qwen-xml",
        clues=(("<tool_call>", "<function="),),
        body="tagged",
        begins=("<tool_call>",),
        ends=("</tool_call>",),
        starts=("<function=",),
        tags=Tags(
            name="<function=",
            name_end=">",
            key="<parameter=",
            key_end=">",
            value_end="</parameter>",
            call_end="</function>",
            pads=True,
        ),
        has_bare=True,
    ),
    ReplyFormat(
        name="granite3",
        clues=(("<|tool_call|>",),),
        body="json",
        begins=("<|tool_call|>", "<tool_call>"),
        starts=("[",),
        dropped=("<response>", "</response>"),
    ),
    ReplyFormat(
        name="hermes",
        clues=(("<tool_call>",),),
        body="json",
        begins=("<tool_call>",),
        ends=("</tool_call>",),
        starts=("{", "["),
    ),
    ReplyFormat(
        name="llama3",
        clues=(("<|python_tag|>",), ("<|start_header_id|>", '"parameters"')),
        body="json",
        begins=("<|python_tag|>",),
        has_bare=True,
        one_call_a_message=True,
    ),
    ReplyFormat(
        name="gemma3",
        clues=(("<start_of_turn>",),),
        body="python",
        begins=("```tool_code\n", "```tool_call\n"),
        ends=("```",),
    ),
    ReplyFormat(name="think", clues=(("<think>",), ("</think>",))),
)
# How models are called that write a format, besides its own name.
ALIASES = {
    "qwen2.5": "hermes",
    "qwen3": "hermes",
    "granite4": "hermes",
    "qwen3-coder": "qwen-xml",
    "qwen3.5": "qwen-xml",
    "deepseek-r1": "deepseek",
    "deepseek-v3.1": "deepseek",
    "glm4": "glm",
    "gpt-oss": "harmony",
}
NONE = "none"
_BY_NAME = {each.name: each for each in FORMATS}


def find_format(template: str) -> ReplyFormat | None:
    """Return the format that a chat template shows to its model; None if it shows none."""
    for each in FORMATS:
        if any(all(word in template for word in group) for group in each.clues):
            return each
    return None


def calls_format(name: str | None, template: str) -> ReplyFormat:
    """Return ``choose_format()``'s; raise ValueError if there is none, or it has no tool calls."""
    found = choose_format(name, template)
    if found is None or found.body == "none":
        raise ValueError(
            "the chat template shows no format of tool calls, so calls could not be found in the "
            "replies: use a model whose template takes tools or, in Python, pass chat_template= "
            "with one that shows them and reply_format='hermes', or another, for what the model "
            "writes"
        )
    return found


def choose_format(name: str | None, template: str) -> ReplyFormat | None:
    """Return the format called ``name``, or that of a chat template if that is None.

    None for "none", and for a template without one. Raises ValueError for an unknown name.
    """
    if name is None:
        return find_format(template)
    if name == NONE:
        return None
    found = _BY_NAME.get(ALIASES.get(name, name)) if isinstance(name, str) else None
    if found is None:
        known = sorted([*_BY_NAME, *ALIASES])
        hint = did_you_mean(name, [*known, NONE], shown=repr) if isinstance(name, str) else ""
        raise ValueError(
            f"reply_format must be one of {', '.join(known)}, none (the reply stays as it is) or "
            f"None (as the chat template shows it), got {name!r}{hint}"
        )
    return found
