"""Video in: files, image folders, arrays, cameras, RTSP and HLS, sampled by presentation time.

    with open_video("clip.mp4", fps=1.0) as video:
        for frame in video:             # frame.pixels, frame.time
            ...

PyAV is imported when a video is opened, not before.
"""

from .ahead import LiveSource
from .opening import open_video
from .pictures import array_video
from .source import Source, VideoWarning, as_source

__all__ = ["LiveSource", "Source", "VideoWarning", "array_video", "as_source", "open_video"]
