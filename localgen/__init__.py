"""transformers' generate() on quantized GGUF weights, on your own machine."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from localgen._version import __version__

if TYPE_CHECKING:
    from localgen.benchmark import BenchResult, BenchTest, bench
    from localgen.completion import (
        Completion,
        GenerateBeamOutput,
        GenerateOutput,
        Stats,
        TokenLogprob,
    )
    from localgen.config import GenerationConfig, ModelConfig, WatermarkingConfig
    from localgen.errors import (
        ActorsDoNotFitError,
        BackendError,
        ClosedError,
        CompareError,
        ConstraintError,
        ContextFullError,
        DecodeError,
        DownloadError,
        EvaluateError,
        GenerationInterrupted,
        InvalidGGUFError,
        JobError,
        KvBudgetError,
        LocalgenError,
        ModelFileError,
        ModelNotFoundError,
        NotEnoughMemoryError,
        QuantizeError,
        RayJobError,
        RepeatedIdError,
        ServeError,
        StateError,
        TemplateError,
        WorkerCrashedError,
    )
    from localgen.generation.choosing import ChoiceScores, ChoiceStats, ScoredChoice
    from localgen.generation.continuation_scores import ContinuationScore
    from localgen.generation.row_stream import RowStream, RowUpdate
    from localgen.generation.tool_runs import ToolResult, ToolRun
    from localgen.inspection import ModelInfo, inspect
    from localgen.mixtures.quantize import quantize
    from localgen.mixtures.search import QuantizedMixture
    from localgen.model import LocalModel
    from localgen.quantization.imatrix import imatrix
    from localgen.quantization.imatrix_merge import merge_imatrices
    from localgen.quantization.imatrix_result import ImportanceMatrix
    from localgen.quantization.runner import QuantizedFile
    from localgen.text.batch_encoding import BatchEncoding
    from localgen.text.replies.results import ReplyDelta, ToolCall
    from localgen.text.tokenizer import Tokenizer
    from localgen.tuning import Trial, TuneResult, forget_profile, tune
    from localgen.watermarking import WatermarkDetector, WatermarkDetectorOutput
    from localgen.worker.config import WorkerConfig
    from localgen.worker.model import IsolatedModel

__all__ = [
    "ActorsDoNotFitError",
    "BackendError",
    "BatchEncoding",
    "BenchResult",
    "BenchTest",
    "ChoiceScores",
    "ChoiceStats",
    "ClosedError",
    "CompareError",
    "Completion",
    "ConstraintError",
    "ContextFullError",
    "ContinuationScore",
    "DecodeError",
    "DownloadError",
    "EvaluateError",
    "GenerateBeamOutput",
    "GenerateOutput",
    "GenerationConfig",
    "GenerationInterrupted",
    "ImportanceMatrix",
    "InvalidGGUFError",
    "IsolatedModel",
    "JobError",
    "KvBudgetError",
    "LocalModel",
    "LocalgenError",
    "ModelConfig",
    "ModelFileError",
    "ModelInfo",
    "ModelNotFoundError",
    "NotEnoughMemoryError",
    "QuantizeError",
    "QuantizedFile",
    "QuantizedMixture",
    "RayJobError",
    "RepeatedIdError",
    "ReplyDelta",
    "RowStream",
    "RowUpdate",
    "ScoredChoice",
    "ServeError",
    "StateError",
    "Stats",
    "TemplateError",
    "TokenLogprob",
    "Tokenizer",
    "ToolCall",
    "ToolResult",
    "ToolRun",
    "Trial",
    "TuneResult",
    "WatermarkDetector",
    "WatermarkDetectorOutput",
    "WatermarkingConfig",
    "WorkerConfig",
    "WorkerCrashedError",
    "__version__",
    "bench",
    "forget_profile",
    "imatrix",
    "inspect",
    "merge_imatrices",
    "quantize",
    "tune",
]

# A module is imported when one of its names is first used: a child process that quantizes, and a
# command that lists models, then start without the rest.
_NAMES_IN = {
    "localgen.benchmark": ("BenchResult", "BenchTest", "bench"),
    "localgen.completion": (
        "Completion",
        "GenerateBeamOutput",
        "GenerateOutput",
        "Stats",
        "TokenLogprob",
    ),
    "localgen.config": ("GenerationConfig", "ModelConfig", "WatermarkingConfig"),
    "localgen.errors": (
        "ActorsDoNotFitError",
        "BackendError",
        "ClosedError",
        "CompareError",
        "ContextFullError",
        "DecodeError",
        "ConstraintError",
        "DownloadError",
        "EvaluateError",
        "GenerationInterrupted",
        "InvalidGGUFError",
        "JobError",
        "KvBudgetError",
        "LocalgenError",
        "ModelFileError",
        "ModelNotFoundError",
        "NotEnoughMemoryError",
        "QuantizeError",
        "RayJobError",
        "RepeatedIdError",
        "ServeError",
        "StateError",
        "TemplateError",
        "WorkerCrashedError",
    ),
    "localgen.generation.choosing": ("ChoiceScores", "ChoiceStats", "ScoredChoice"),
    "localgen.generation.continuation_scores": ("ContinuationScore",),
    "localgen.generation.row_stream": ("RowStream", "RowUpdate"),
    "localgen.generation.tool_runs": ("ToolResult", "ToolRun"),
    "localgen.inspection": ("ModelInfo", "inspect"),
    "localgen.mixtures.quantize": ("quantize",),
    "localgen.mixtures.search": ("QuantizedMixture",),
    "localgen.model": ("LocalModel",),
    "localgen.quantization.imatrix": ("imatrix",),
    "localgen.quantization.imatrix_merge": ("merge_imatrices",),
    "localgen.quantization.imatrix_result": ("ImportanceMatrix",),
    "localgen.quantization.runner": ("QuantizedFile",),
    "localgen.text.batch_encoding": ("BatchEncoding",),
    "localgen.text.replies.results": ("ReplyDelta", "ToolCall"),
    "localgen.text.tokenizer": ("Tokenizer",),
    "localgen.tuning": ("Trial", "TuneResult", "forget_profile", "tune"),
    "localgen.watermarking": ("WatermarkDetector", "WatermarkDetectorOutput"),
    "localgen.worker.config": ("WorkerConfig",),
    "localgen.worker.model": ("IsolatedModel",),
}
_MODULE_OF = {name: module for module, names in _NAMES_IN.items() for name in names}


def __getattr__(name: str) -> Any:
    """Return a public name, or a module of the package."""
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value
    module = f"{__name__}.{name}"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return __all__
