"""Pictures that explain an answer: contact sheets of frames, timelines of what was read. Drawn with Pillow alone."""

from .page import Answered, card, page
from .pen import PALETTE, Pen
from .sheet import contact_sheet
from .timeline import Curve, Lane, timeline

__all__ = ["PALETTE", "Answered", "Curve", "Lane", "Pen", "card", "contact_sheet", "page", "timeline"]
