"""Fits decoded frames and writes them as I420. Runs in decode workers only."""

from __future__ import annotations

from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from model_actor.media.fit import UPRIGHT, Orientation, Picture, chain


class Fitter:
    """Fits pictures of any size and format to one size, one after another."""

    def __init__(self, width: int, height: int) -> None:
        """Takes the size of the target."""
        self._size = (width, height)
        self._made_for: Picture | None = None
        self._graph = Graph()

    def fit(self, frame: VideoFrame, picture: Picture) -> VideoFrame:
        """Returns the frame as I420 of the target's size."""
        if picture != self._made_for:
            self._graph = _graph(picture, *self._size)
            self._made_for = picture
        self._graph.vpush(frame)
        return self._graph.vpull()


def orientation(frame: VideoFrame) -> Orientation:
    """Reads how a frame is turned for display.

    PyAV ties a frame and its side data in a cycle, which only the garbage collector
    frees: so this is asked once for a clip, not for every frame.
    """
    turn = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]
    return Orientation.from_display_matrix(bytes(turn)) if turn else UPRIGHT


def describe(frame: VideoFrame, pixel_aspect: float = 1.0, turn: Orientation = UPRIGHT) -> Picture:
    """Reads from a decoded frame what its fitting depends on."""
    return Picture(
        width=frame.width,
        height=frame.height,
        pixel_format=frame.format.name,
        is_rgb=frame.format.is_rgb or frame.format.has_palette,
        matrix=frame.colorspace,
        color_range=frame.color_range,
        pixel_aspect=pixel_aspect,
        orientation=turn,
    )


def write_i420(frame: VideoFrame, memory: memoryview, offset: int) -> None:
    """Copies an I420 frame to `offset`, rows without padding."""
    for index, plane in enumerate(frame.planes):
        width = frame.width if index == 0 else frame.width // 2
        rows = frame.height if index == 0 else frame.height // 2
        source, stride = memoryview(plane).cast("B"), plane.line_size
        if stride == width:
            memory[offset : offset + rows * width] = source[: rows * width]
            offset += rows * width
            continue
        for at in range(0, rows * stride, stride):
            memory[offset : offset + width] = source[at : at + width]
            offset += width


def _graph(picture: Picture, width: int, height: int) -> Graph:
    graph = Graph()
    graph.threads = 1
    last = graph.add(
        "buffer",
        f"video_size={picture.width}x{picture.height}:pix_fmt={picture.pixel_format}"
        f":time_base=1/1000000:pixel_aspect=1/1"
        f":colorspace={picture.matrix}:range={picture.color_range}",
    )
    for name, arguments in chain(picture, width, height):
        node = graph.add(name, arguments or None)
        last.link_to(node)
        last = node
    last.link_to(graph.add("buffersink"))
    graph.configure()
    return graph
