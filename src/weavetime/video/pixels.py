"""From decoded pictures to uint8 RGB arrays, the way up that the file says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_rgb(frame: Any) -> NDArray[np.uint8]:
    """A decoded picture as (height, width, 3) uint8 RGB, turned and mirrored as its display matrix says.

    Pixels are given as stored: those of anamorphic video are not stretched to be square.
    """
    from av.sidedata.sidedata import SideDataContainer

    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    # Not frame.side_data: the frame would keep it, and it the frame, with its decoder and threads, until a collection.
    for data in SideDataContainer(frame):  # type: ignore[call-arg]
        if data.type.name == "DISPLAYMATRIX":
            pixels = oriented(pixels, np.frombuffer(bytes(data), "=i4", count=9))
    return np.ascontiguousarray(pixels)


def oriented(pixels: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Pixels under a display matrix, to the nearest quarter turn: x' = m0·x + m3·y, y' = m1·x + m4·y."""
    across, down = matrix[0], matrix[4]
    if abs(matrix[1]) > abs(matrix[0]):
        pixels = pixels.transpose(1, 0, 2)
        across, down = matrix[3], matrix[1]
    if across < 0:
        pixels = pixels[:, ::-1]
    if down < 0:
        pixels = pixels[::-1]
    return pixels
