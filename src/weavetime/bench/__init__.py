"""How fast: `weavetime bench` measures encoding, first tokens, decoding and memory against the device's own limits."""

from .rekv import Protocol, rekv_protocol
from .run import Setting, bench
from .shapes import SHAPES

__all__ = ["SHAPES", "Protocol", "Setting", "bench", "rekv_protocol"]
