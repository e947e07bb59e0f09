"""An RTSP server on loopback, for the system's Python (GStreamer's bindings are Debian packages): PORT [sound].

Serves rtsp://127.0.0.1:PORT/live: 25 pictures a second, a key frame each second; prints "ready" when it listens.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PICTURES = (
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width=192,height=64,framerate=25/1 ! "
    "x264enc tune=zerolatency key-int-max=25 speed-preset=ultrafast ! rtph264pay name=pay0 config-interval=1"
)
SOUND = "audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay0"


def main() -> None:
    port, what = sys.argv[1], (sys.argv[2] if len(sys.argv) > 2 else "")
    Gst.init(None)
    server, factory = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory.set_launch(f"( {SOUND if what == 'sound' else PICTURES} )")
    factory.set_shared(True)
    server.get_mount_points().add_factory("/live", factory)
    if not server.attach(None):
        sys.exit(f"port {port} is taken")
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
