"""Pictures that explain an answer: contact sheets of frames, timelines of what was read. Drawn with Pillow alone.

Plots of figures are SVG.
"""

from .heat import Map, heat_maps
from .page import Answered, card, page
from .pen import PALETTE, Pen
from .plot import Axis, Bar, Line, bars, lines
from .sheet import contact_sheet
from .timeline import Curve, Lane, timeline

__all__ = [
    "PALETTE",
    "Answered",
    "Axis",
    "Bar",
    "Curve",
    "Lane",
    "Line",
    "Map",
    "Pen",
    "bars",
    "card",
    "contact_sheet",
    "heat_maps",
    "lines",
    "page",
    "timeline",
]
