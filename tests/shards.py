"""A model in two files, as llama.cpp splits them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFWriter


def write_shards(path: Path, folder: Path) -> list[Path]:
    """The model of ``path`` as two shards in ``folder``: the first half of its tensors and all
    metadata, and the other half."""
    source = GGUFReader(path)
    paths = [folder / f"split-0000{i}-of-00002.gguf" for i in (1, 2)]
    half = len(source.tensors) // 2
    for number, shard in enumerate(paths):
        made = GGUFWriter(shard, "llama", use_temp_file=False)
        made.add_uint16("split.no", number)
        made.add_uint16("split.count", 2)
        made.add_int32("split.tensors.count", len(source.tensors))
        if number == 0:
            for key, field in source.fields.items():
                if not key.startswith("GGUF.") and key != "general.architecture":
                    made.add_key_value(key, field.contents(), field.types[0], _sub_type(field))
        for tensor in source.tensors[half:] if number else source.tensors[:half]:
            made.add_tensor(tensor.name, np.array(tensor.data))
        made.write_header_to_file()
        made.write_kv_data_to_file()
        made.write_tensors_to_file()
        made.close()
    return paths


def _sub_type(field: Any) -> Any:
    return field.types[1] if len(field.types) > 1 else None
