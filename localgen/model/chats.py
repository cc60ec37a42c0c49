"""Conversations in, replies out: the prompt of a chat, its replies, and the tools they call."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, overload

from localgen._util.call_signature import method_takes
from localgen.completion import Completion
from localgen.generation.chat_arguments import ChatArguments, ChatCall, Conversation, chat_call
from localgen.generation.inputs import ChatPrompt
from localgen.generation.streaming import ChatStream
from localgen.generation.text_arguments import stream_arguments
from localgen.generation.tool_runs import ToolRun, ToolRunner, check_one_reply, functions_by_name
from localgen.model.texts import TextMethods
from localgen.text.chat_arguments import Message, as_conversations
from localgen.text.replies.formats import calls_format
from localgen.text.replies.results import ReplyDelta


class ChatMethods(TextMethods):
    """``chat()`` and its variants, whose arguments ``ChatArguments`` and ``chat_call`` list."""

    @overload
    @method_takes(chat_call)
    def chat(self, call: ChatCall[Conversation]) -> Completion: ...

    @overload
    @method_takes(chat_call)
    def chat(self, call: ChatCall[Sequence[Conversation]]) -> list[Completion]: ...

    @method_takes(chat_call)
    def chat(
        self, call: ChatCall[Conversation | Sequence[Conversation]]
    ) -> Completion | list[Completion]:
        """Answer a conversation, or several together.

        messages: dicts with "role" and "content"; the model answers the last one. tools: Python
        functions, or JSON schemas. tools to split_special_tokens: see
        ``Tokenizer.apply_chat_template``; template_variables: further variables of the template.
        reply_format: how the model writes reasoning and tool calls, such as "hermes"; None is what
        its chat template shows, "none" leaves the reply as it is.
        tool_choice: "auto" lets the model decide, "none" does not show it the tools, "required"
        makes it call at least one, the name of a tool that one. Calls then follow the format and
        the tools' schemas; with None, the default, nothing is enforced. parallel_tool_calls: False
        allows one call, and means "auto" if it is alone.
        reasoning: "off" or "on", where the chat template has a switch for it; "low", "medium" or
        "high", where it has an effort; a number of tokens, after which the reasoning is ended and
        the answer begins. None leaves it to the template.
        options: the arguments of ``complete()``.
        Returns a Completion for one conversation (a list of them with ``num_return_sequences`` >
        1), else a list. Raises TemplateError, and as ``complete()``.
        """
        chats, several = call.chat.of_each()
        prompts = [self._requests.chat_prompt(chat) for chat in chats]
        done = self.complete(prompts, **call.options)
        return done if several or len(done) > 1 else done[0]

    @method_takes(chat_call)
    def chat_stream(self, call: ChatCall[Conversation]) -> ChatStream:
        """Answer one conversation piece by piece; see ``chat()`` and ``stream()``.

        Iterating gives the text; ``deltas()`` also the reasoning and the tool calls.
        """
        prompt = self._requests.chat_prompt(call.chat)
        reply = self._requests.from_text(stream_arguments(prompt, **call.options))
        return ChatStream(reply, self._driver, self._backend.check_usable)

    @overload
    @method_takes(chat_call)
    async def achat(self, call: ChatCall[Conversation]) -> Completion: ...

    @overload
    @method_takes(chat_call)
    async def achat(self, call: ChatCall[Sequence[Conversation]]) -> list[Completion]: ...

    @method_takes(chat_call)
    async def achat(
        self, call: ChatCall[Conversation | Sequence[Conversation]]
    ) -> Completion | list[Completion]:
        """Await ``chat()``: calls of one event loop run in one batch.

        Cancelling the task ends the generation.
        """
        chats, several = call.chat.of_each()
        prompts = [self._requests.chat_prompt(chat) for chat in chats]
        done = await self.acomplete(prompts, **call.options)
        return done if several or len(done) > 1 else done[0]

    @method_takes(chat_call)
    async def achat_stream(self, call: ChatCall[Conversation]) -> AsyncGenerator[ReplyDelta, None]:
        """Iterate over the deltas of ``chat_stream()`` with ``async for``; leaving the loop ends
        the generation."""
        prompt = self._requests.chat_prompt(call.chat)
        reply = self._requests.from_text(stream_arguments(prompt, **call.options))
        async with aclosing(self._deltas(reply, takes_apart=True)) as deltas:
            async for delta in deltas:
                yield delta

    @method_takes(ChatArguments)
    def chat_prompt(self, chat: ChatArguments[Conversation]) -> ChatPrompt:
        """Return a conversation as a prompt for ``complete()``, ``stream()`` and their async twins.

        They take the reply apart as ``chat()`` does, whose arguments these are. ``token_ids`` are
        those of the conversation.
        """
        return self._requests.chat_prompt(chat)

    @method_takes(ChatArguments)
    async def achat_prompt(self, chat: ChatArguments[Conversation]) -> ChatPrompt:
        """Await ``chat_prompt()``, which runs in a thread: a long conversation takes a while."""
        return await self.in_thread(self._requests.chat_prompt, chat)

    def run_tools(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Callable[..., Any]],
        max_rounds: int = 5,
        **options: Any,
    ) -> ToolRun:
        """Answer a conversation, and call the Python functions that the model asks for.

        tools: functions with type hints and a docstring. Each round is a reply and the calls in it,
        whose results the next reply sees; a reply without calls is the answer. max_rounds: the most
        replies. options: the arguments of ``chat()``; a ``tool_choice`` that makes the model call
        holds for the first round, and later ones are "auto", so that an answer can follow.
        An exception of a tool becomes the result of its call, as do a wrong name or arguments.
        Raises ValueError if the chat template shows no format of tool calls and ``reply_format``
        names none, TypeError for tools that are no functions, and as ``chat()``. Whatever is raised
        has ``tool_run``, what was done until then.
        """
        functions = functions_by_name(tools)
        template = self.tokenizer.get_chat_template(options.get("chat_template"), list(tools))
        form = calls_format(options.get("reply_format"), template)
        check_one_reply(options)
        chats, several = as_conversations(messages)
        if several:
            raise ValueError(f"run_tools() takes one conversation, got {len(chats)}")
        return ToolRunner(
            chat=lambda chat, given: self.chat(chat, tools=tools, **given),
            options=options,
            functions=functions,
            form=form,
            template=template,
            messages=chats[0],
            max_rounds=max_rounds,
        ).run()
