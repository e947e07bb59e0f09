"""Training data: its files, and getting, converting and checking them."""

from .record import Record, parse
from .records import RecordFile, RecordWriter, stream

__all__ = ["Record", "RecordFile", "RecordWriter", "parse", "stream"]
