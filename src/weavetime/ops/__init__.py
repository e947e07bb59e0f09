"""Arithmetic of the memory: layouts, rotary, attention in parts, question-to-block scores. Knows only torch."""

from .attention import Part, attend, attend_causal, attention_reference, merge, merge_reference, windows
from .interaction import coarse, late_interaction, newest_first_topk, question_vectors
from .layout import BlockLayout, Placement, Timeline, place, text_positions
from .rotary import Rotary, rotate, rotate_reference

__all__ = [
    "BlockLayout",
    "Part",
    "Placement",
    "Rotary",
    "Timeline",
    "attend",
    "attend_causal",
    "attention_reference",
    "coarse",
    "late_interaction",
    "merge",
    "merge_reference",
    "newest_first_topk",
    "place",
    "question_vectors",
    "rotate",
    "rotate_reference",
    "text_positions",
    "windows",
]
