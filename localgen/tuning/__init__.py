"""Finds and remembers the fastest settings of a model on this machine: ``localgen tune``."""

from localgen.tuning.results import Trial, TuneResult
from localgen.tuning.run import forget_profile, tune

__all__ = ["Trial", "TuneResult", "forget_profile", "tune"]
