"""The option objects: frozen and checked. They know what is allowed, not how it is done.

``model_config`` has the options of loading, ``sampling_options`` and ``generation_config`` those of
generating, ``watermarking_config`` those of a watermark. ``checks``, ``token_checks`` and
``text_checks`` are for values that need more than a range.
"""

from localgen.config.checks import MAX_SEED
from localgen.config.generation_config import (
    CONSTRAINTS,
    DEFAULT_MAX_NEW_TOKENS,
    GenerationConfig,
)
from localgen.config.model_config import (
    DEVICES,
    FLASH_ATTENTION,
    KV_TYPES,
    UNQUANTIZED,
    ModelConfig,
)
from localgen.config.overrides import replace_options
from localgen.config.sampling_options import SamplingOptions
from localgen.config.watermarking_config import WatermarkingConfig, check_watermark

__all__ = [
    "CONSTRAINTS",
    "DEFAULT_MAX_NEW_TOKENS",
    "DEVICES",
    "FLASH_ATTENTION",
    "KV_TYPES",
    "MAX_SEED",
    "UNQUANTIZED",
    "GenerationConfig",
    "ModelConfig",
    "SamplingOptions",
    "WatermarkingConfig",
    "check_watermark",
    "replace_options",
]
