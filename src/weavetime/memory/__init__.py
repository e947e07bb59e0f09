"""The append-only memory of frames: blocks in tiers, an index over them, and views as of any time."""

from .blocks import Cells, Sink
from .memory import Memory, Past
from .views import LayerView, View

__all__ = ["Cells", "LayerView", "Memory", "Past", "Sink", "View"]
