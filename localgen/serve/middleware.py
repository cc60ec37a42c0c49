"""What stands between the network and the endpoints, in its order."""

from __future__ import annotations

from starlette.middleware import Middleware

from localgen.serve.access_log import AccessLog
from localgen.serve.admission import Admission
from localgen.serve.body_limit import BodyLimit
from localgen.serve.config import ServeConfig
from localgen.serve.metrics import Metrics
from localgen.serve.security import HostCheck, KeyCheck, OriginCheck


def middleware(config: ServeConfig, admission: Admission, metrics: Metrics) -> list[Middleware]:
    """Return the middleware of a server, the outermost first.

    Every answer is logged and has an id. The checks that cost nothing come first; a body is read
    only of those who may use the server.
    """
    return [
        Middleware(
            AccessLog,
            is_logged=config.access_log,
            log_prompts=config.log_prompts,
            ended=metrics.ended,
        ),
        Middleware(HostCheck, config=config),
        Middleware(OriginCheck, config=config),
        Middleware(KeyCheck, config=config),
        Middleware(BodyLimit, config=config, is_stopping=lambda: admission.is_stopping),
    ]
