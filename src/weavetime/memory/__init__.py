"""The append-only memory of frames: blocks in tiers, an index over them, and views as of any time."""

from .blocks import Cells, Provisional, Sink
from .memory import Memory
from .past import Past
from .star import StarMemory
from .views import LayerView, View

__all__ = ["Cells", "LayerView", "Memory", "Past", "Provisional", "Sink", "StarMemory", "View"]
