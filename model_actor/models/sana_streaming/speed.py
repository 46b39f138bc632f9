"""Ways to compute the same faster. All are off unless asked for: `python -m tests.bench.sana`
measures what each gains on the machine at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Final

import torch
import torch._dynamo

from model_actor.models.sana_streaming import fp8
from model_actor.models.sana_streaming.graphs import CudaCapture, GraphedPass
from model_actor.models.sana_streaming.speed_options import ON_OFF
from model_actor.models.sana_streaming.streaming_vae import StreamingVae
from model_actor.models.sana_streaming.transformer import SanaStreamingTransformer
from scheduler.core.errors import PluginError

_SHAPES: Final = 64
"""Shapes that one function is compiled for: three lengths of the past for each size of batch,
with and without a mask."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What is done to be faster; see `SPEED_OPTIONS`."""

    compile: bool = False
    graphs: bool = False
    fp8: bool = False
    tf32: bool = False
    channels_last: bool = False
    overlap: bool = False

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Speed:
        """Reads options, `on` or `off` each; what is not named is off."""
        return cls(**{each.name: ON_OFF[options.get(each.name, "off")] for each in fields(cls)})

    @property
    def named(self) -> tuple[str, ...]:
        """What is on."""
        return tuple(each.name for each in fields(self) if getattr(self, each.name))

    @property
    def warms(self) -> bool:
        """Whether every shape takes long the first time."""
        return self.compile or self.graphs

    def check(self, device: torch.device) -> None:
        """Passes where a device can do it.

        Raises:
            PluginError: It cannot.
        """
        if self.fp8 and not fp8.supported(device):
            raise PluginError(
                "fp8=on needs a GPU of Hopper's generation (H100, H200) or a later one"
            )
        if device.type != "cuda" and (
            only := {"graphs", "tf32", "overlap"}.intersection(self.named)
        ):
            raise PluginError(f"{min(only)}=on needs a GPU")

    def apply(self, transformer: SanaStreamingTransformer, vae: StreamingVae) -> None:
        """Makes a model faster. Once, before its first window."""
        if self.tf32:
            # The scans of gated delta attention are the only products in fp32.
            torch.set_float32_matmul_precision("high")
        if self.fp8:
            fp8.apply(transformer)
        if self.channels_last:
            vae.memory_format = torch.channels_last_3d
            vae.vae.to(memory_format=torch.channels_last_3d)
        if self.compile:
            compile_steps(transformer, vae)
        if self.graphs:
            transformer.faster = GraphedPass(transformer.one_pass, CudaCapture())


def compile_steps(
    transformer: SanaStreamingTransformer,
    vae: StreamingVae,
    *,
    backend: str | Callable[..., object] = "inductor",
) -> None:
    """Compiles what is computed again and again: a block of each kind, encoding, decoding.

    One shape at a time: sizes are constants, which is what makes it fast.

    Args:
        transformer: The transformer.
        vae: The autoencoder.
        backend: What makes code of what was traced.
    """
    torch._dynamo.config.recompile_limit = _SHAPES  # noqa: SLF001 - public in all but name
    for block in transformer.blocks:
        block.compile(fullgraph=True, dynamic=False, backend=backend)
    vae.encode_step = torch.compile(vae.encode_step, fullgraph=True, dynamic=False, backend=backend)
    vae.decode_step = torch.compile(vae.decode_step, fullgraph=True, dynamic=False, backend=backend)
