"""What type checkers say of the public calls; mypy checks this file, and nothing here runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from localgen import (
    BatchEncoding,
    Completion,
    LocalModel,
    ModelInfo,
    QuantizedFile,
    WatermarkDetector,
    WatermarkDetectorOutput,
    WatermarkingConfig,
    inspect,
    quantize,
)
from localgen.compare import Comparison, compare

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import assert_type

    from localgen import ChoiceScores, ReplyDelta, RowUpdate, ToolCall, ToolRun
    from localgen.completion import ForwardOutput, TokenLogprob

    class Mine(LocalModel):
        """A subclass, as programs write them."""

    def loading() -> None:
        assert_type(LocalModel.from_pretrained("m.gguf", n_ctx=512), LocalModel)
        with LocalModel.from_pretrained("m.gguf") as model:
            assert_type(model, LocalModel)
        assert_type(inspect("m.gguf"), ModelInfo)
        assert_type(quantize("m.gguf", ["Q8_0"]), list[QuantizedFile])
        assert_type(compare("m.gguf", ["Q8_0"], kv_types=["f16"], speed=False), Comparison)
        compare("m.gguf", n_rounds="3")  # type: ignore[arg-type]
        compare("m.gguf", rounds=3)  # type: ignore[call-arg]

    def texts(model: LocalModel) -> None:
        assert_type(model.complete("a"), Completion)
        assert_type(model.complete(["a", [1, 2]]), list[Completion])
        assert_type(model.tokenizer("a"), BatchEncoding)
        assert_type(model.tokenizer.encode("a"), list[int])
        assert_type(model.tokenizer.decode([1]), str)
        for piece in model.stream("a"):
            assert_type(piece, str)
        for index, completion in model.complete_iter(["a"]):
            assert_type(index, int)
            assert_type(completion, Completion)
        assert_type(model.astream("a"), AsyncGenerator[str, None])
        assert_type(model.complete("a", num_return_sequences=2), Completion | list[Completion])
        with model.prefill("a") as prefix:
            assert_type(prefix.complete("b"), Completion)
            assert_type(prefix.complete(["b"]), list[Completion])

    async def awaited(model: LocalModel) -> None:
        assert_type(await model.acomplete("a"), Completion)
        assert_type(await model.acomplete(["a", [1, 2]]), list[Completion])
        message = {"role": "user", "content": "Hi"}
        assert_type(await model.achat([message]), Completion)
        assert_type(await model.achat([[message]], reasoning="off"), list[Completion])
        async for delta in model.achat_stream([message], reasoning=512):
            assert_type(delta, ReplyDelta)
        async for updates in model.astream_rows([await model.achat_prompt([message])]):
            assert_type(updates, list[RowUpdate])
        assert_type(await model.ascore_tokens([1, 2], top=3), list[TokenLogprob])

    def chats(model: LocalModel) -> None:
        message = {"role": "user", "content": "Hi"}
        assert_type(model.chat([message]), Completion)
        assert_type(model.chat([[message]]), list[Completion])
        assert_type(model.chat([message]).tool_calls, tuple[ToolCall, ...])
        for piece in model.chat_stream([message]):
            assert_type(piece, str)
        for delta in model.chat_stream([message]).deltas():
            assert_type(delta, ReplyDelta)
        assert_type(model.run_tools([message], tools=[]), ToolRun)

    def choices(model: LocalModel) -> None:
        assert_type(model.choose("a", ["b"]), ChoiceScores)
        assert_type(model.classify("a", ["b"]), ChoiceScores)
        assert_type(model.classify(["a"], ["b"]), list[ChoiceScores])

    def forward(model: LocalModel) -> None:
        assert_type(model([[1]]), ForwardOutput)
        detect = WatermarkDetector(model.config, "cpu", WatermarkingConfig())
        assert_type(detect([[1, 2]]), npt.NDArray[np.bool_])
        assert_type(detect([[1, 2]], return_dict=True), WatermarkDetectorOutput)


def test_the_package_is_typed() -> None:
    """Without the marker, type checkers ignore every annotation of an installed package."""
    from importlib import resources

    assert resources.files("localgen").joinpath("py.typed").is_file()
