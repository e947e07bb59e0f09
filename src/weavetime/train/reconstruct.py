"""Temporal reconstruction: clips shown in another order under times that still ascend, and the true times asked for."""

from __future__ import annotations

import random
from collections.abc import Sequence

ANSWER = "Correct timestamps (in displayed order): "
JOINER = " | "

REQUESTS = (
    "The clips above were put in another order. When did each really happen? Go through them as they are shown.",
    "What you see is out of order, and the times beside it mislead. State when each part was really recorded.",
    "Somebody mixed up the pieces of this video. For every piece, in the order shown, say which time it belongs to.",
    "The times run on, but the pictures do not. Which time belongs to each picture? Answer in the order of display.",
    "Work out from what happens in the video when each shown step took place, and list those times one after another.",
    "These steps may not follow each other as they did in reality. Name the original time of each, as shown.",
    "Ignore the printed times, which only count the steps. Where in the original video does each step come from?",
    "Put right the clock of this video: for each step on display, write the time that it should carry.",
    "Parts of the recording have changed places. Tell the time at which each part stood before, following the display.",
    "Reconstruct the timeline. For each picture as it appears here, give the span of time that it was taken from.",
    "When was each of these moments filmed? The labels are wrong; list the real times in the order you see them.",
    "Look for what must come before and what after, then assign every shown step its true place in time.",
    "The video was cut into clips and the clips were reordered. Give back each step's own time, step by step as shown.",
    "Pictures and times have come apart. Match them again: the right time of the first picture, then the next.",
)
"""What the first turn asks; one is drawn."""


def permuted(steps: int, clips: int, rng: random.Random, degree: float = 1.0) -> list[int]:
    """Which step is shown at each place, where `clips` clips of neighbouring steps, as equal as can be, change places.

    degree 1 draws from all orders of the clips alike, the true one included. Below 1, round(degree x clips) clips, at
    least two where the degree is not 0, are drawn, and none of them stays at its place (all such orders alike); the
    rest do. Fewer steps than clips make a clip of each.
    """
    clips = min(clips, steps)
    cuts = [i * steps // clips for i in range(clips + 1)] if clips else [0]
    order = list(range(clips))
    if degree >= 1:
        rng.shuffle(order)
    elif degree > 0 and clips > 1:
        places = sorted(rng.sample(range(clips), min(clips, max(2, round(degree * clips)))))
        moved = places[:]
        while any(a == b for a, b in zip(places, moved, strict=True)):
            rng.shuffle(moved)
        for place, clip in zip(places, moved, strict=True):
            order[place] = clip
    return [step for clip in order for step in range(cuts[clip], cuts[clip + 1])]


def request(rng: random.Random) -> str:
    """The question of the first turn."""
    return rng.choice(REQUESTS)


def timestamps(stamps: Sequence[str]) -> str:
    """The answer of the first turn; stamps: each shown step's true time prompt, as displayed."""
    return ANSWER + JOINER.join(stamp.strip() for stamp in stamps)
