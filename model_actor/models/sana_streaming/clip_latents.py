"""Source latents of a clip, so that it is encoded once, however often it is played.

They belong to the session that made them, and to one clip of it, whose name the engine tells
with every window: nothing is looked up across sessions, so nobody is ever shown a clip of
another. A latent frame of 1280x704 takes 225 kB in bfloat16, a minute of a clip 40 MB: little
beside the rest of a session, so they stay where the session is, and go into its snapshots.

A session's encoder stands after the last window that is known here. So a clip may be played
again when only its beginning is known: from there on it is encoded as if it had never been
interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class ClipLatents:
    """The first windows of a clip."""

    name: str
    """Which clip, among those of the session."""
    windows: tuple[Tensor, ...] = ()
    """In order, (1, channels, t, height, width) each."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(each.nbytes for each in self.windows)

    def known(self, index: int) -> Tensor | None:
        """Returns the latents of a window; None if it is to be encoded."""
        return self.windows[index] if index < len(self.windows) else None

    def joined(self, latents: Tensor, most_bytes: int) -> ClipLatents | None:
        """Returns what is known with the next window.

        Args:
            latents: Its latents.
            most_bytes: What a clip may take. One that takes more is not kept at all: what is
                left of it would only be encoded again up to where it ends.
        """
        if self.nbytes + latents.nbytes > most_bytes:
            return None
        return ClipLatents(self.name, (*self.windows, latents.clone()))
