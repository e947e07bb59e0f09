"""Running a model over memory: append, prefill, decode."""

from .decode import check_decoding
from .prefill import Draft
from .runner import Runner

__all__ = ["Draft", "Runner", "check_decoding"]
