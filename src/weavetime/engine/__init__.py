"""Running a model over memory: append, prefill, decode."""

from .decode import check_decoding
from .prefill import Draft
from .runner import Runner
from .star import check_mode, observe, recollect

__all__ = ["Draft", "Runner", "check_decoding", "check_mode", "observe", "recollect"]
