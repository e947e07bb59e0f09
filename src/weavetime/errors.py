"""Every error a user can cause: a type to catch, and one line that says what is wrong and what to do."""

from __future__ import annotations


class WeaveTimeError(Exception):
    """Base of all errors that this package raises on purpose; the command line prints it as one line, exit code 1."""


class VideoError(WeaveTimeError):
    """A video, camera or stream cannot be opened or holds no pictures."""


class ModelError(WeaveTimeError):
    """A model is unknown, is not a supported family, or its files cannot be used."""


class AdapterError(WeaveTimeError):
    """A LoRA adapter is missing, is for another family or shape, or has keys that find no place."""


class StreamError(WeaveTimeError):
    """Frames came out of order, or went to a stream that is closed."""


class QuestionError(WeaveTimeError):
    """A question cannot be answered as asked: no frame yet, a time outside the stream, a bad option list."""


class ModeError(WeaveTimeError):
    """A mode is unknown, or its settings make no sense."""


class CapacityError(WeaveTimeError):
    """A view is larger than the positions the model was made for."""


class NumericsError(WeaveTimeError):
    """The model produced a value that is not finite."""


class OutOfMemoryError(WeaveTimeError):
    """The device or the host ran out of memory; the stream stays as it was before the call."""


class WorldError(WeaveTimeError):
    """A generated world that cannot be: its length, its split or its times."""


class RecipeError(WeaveTimeError):
    """A training recipe that cannot be read, or that asks for what there is not."""


class DataError(WeaveTimeError):
    """A training or benchmark data file, or a sample in one, that cannot be used."""


class ClusterError(WeaveTimeError):
    """A Ray cluster that cannot be joined or has no room, or a video that ended every worker that took it."""
