"""LocalModel, and what it can do.

``local_model`` loads and closes it; ``tokens`` has ``generate()``, ``texts`` ``complete()``,
``stream()`` and ``prefill()``, ``chats`` ``chat()`` and tools, ``choices`` ``choose()`` and
``classify()``, ``scores`` ``score()``, ``module_methods`` what programs for torch call. All of them
are thin views of the one generation loop, on the parts that ``parts`` lists.
"""

from localgen.model.local_model import LocalModel

__all__ = ["LocalModel"]
