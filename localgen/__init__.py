"""transformers' generate() on quantized GGUF weights, on your own machine."""

from localgen._version import __version__
from localgen.benchmark import BenchResult, BenchTest, bench
from localgen.completion import Completion, GenerateOutput, Stats, TokenLogprob
from localgen.config import GenerationConfig, ModelConfig
from localgen.errors import (
    BackendError,
    ClosedError,
    CompareError,
    ContextFullError,
    DecodeError,
    DownloadError,
    GenerationInterrupted,
    InvalidGGUFError,
    JobError,
    KvBudgetError,
    LocalgenError,
    ModelFileError,
    ModelNotFoundError,
    NotEnoughMemoryError,
    QuantizeError,
    StateError,
    TemplateError,
)
from localgen.inspection import ModelInfo, inspect
from localgen.model import LocalModel
from localgen.quantization.quantize import QuantizedFile, quantize
from localgen.text.batch_encoding import BatchEncoding
from localgen.text.tokenizer import Tokenizer

__all__ = [
    "BackendError",
    "BatchEncoding",
    "BenchResult",
    "BenchTest",
    "ClosedError",
    "CompareError",
    "Completion",
    "ContextFullError",
    "DecodeError",
    "DownloadError",
    "GenerateOutput",
    "GenerationConfig",
    "GenerationInterrupted",
    "InvalidGGUFError",
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
    "StateError",
    "Stats",
    "TemplateError",
    "TokenLogprob",
    "Tokenizer",
    "__version__",
    "bench",
    "inspect",
    "quantize",
]
