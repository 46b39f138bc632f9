"""The transformer and its sampler against the oracle."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import torch
from torch import Tensor, nn

from model_actor.models.sana_streaming import converting, rotary, sampler
from model_actor.models.sana_streaming.rotary import Rotation
from model_actor.models.sana_streaming.state import TransformerState
from model_actor.models.sana_streaming.transformer import SanaStreamingTransformer
from tests.oracle.checks import LAYER, SAMPLER, WITHIN, Part
from tests.oracle.folder import Folder

NAME: Final = "dit"
SWITCHING: Final = "latents_out"
"""Changes the prompt on the way; its calls and caches are recorded."""
STEADY: Final = {"latents_out_prompt0": ("", 0), "latents_out_b_prompt1": ("_b", 1)}
"""Results of one prompt: the suffix of their inputs, and the prompt. Also run as one batch."""
WINDOWS_KEPT: Final = 2
UNIT_START: Final = 2
"""Temporal position of the first frame that single layers were tapped with."""

Session = tuple[str, Sequence[int]]
"""Suffix of the inputs, and the prompt of each window."""


def check(folder: Folder) -> Part:
    """Compares the transformer of a folder."""
    part, io, config = Part(NAME), folder.io(NAME), folder.config[NAME]
    sizes = config["tiny"]
    told = {key: sizes[key] for key in ("num_heads", "linear_head_dim") if key in sizes}
    model, _ = converting.read_transformer(folder.weights_file(NAME), told)
    _recipe(part, model, config)
    if "parameters" in config:
        parameters = converting.parameters_of(folder.weights(NAME))
        part.equal("parameters", parameters, config["parameters"])
    bounds = config["chunk_bounds"]
    steady = {
        name: (suffix, [prompt] * (len(bounds) - 1)) for name, (suffix, prompt) in STEADY.items()
    }
    with torch.no_grad():
        _layers(part, model, io)
        for name in part.found(io, SWITCHING):
            run = Run(model, io, bounds, [("", io["prompt_index_per_chunk"].tolist())])
            part.compare(name, run.latents, io[name], SAMPLER)
            for step, ours in (*run.velocities(), *run.caches()):
                for found in part.found(io, step):
                    part.compare(found, ours, io[found], WITHIN)
        for name in (found := list(part.found(io, *steady))):
            run = Run(model, io, bounds, [steady[name]])
            part.compare(name, run.latents, io[name], SAMPLER)
        if len(found) > 1:
            run = Run(model, io, bounds, [steady[name] for name in found])
            for name, ours in zip(found, run.latents.split(1), strict=True):
                part.compare(f"{name}, in a batch", ours, io[name], SAMPLER)
    return part


class Run:
    """Streams of one batch from their beginning to their end."""

    def __init__(
        self,
        model: SanaStreamingTransformer,
        io: Mapping[str, Tensor],
        bounds: Sequence[int],
        sessions: Sequence[Session],
    ) -> None:
        """Runs.

        Args:
            model: The transformer.
            io: The inputs, among others.
            bounds: Of windows, in latent frames.
            sessions: What each is given.
        """
        noise = torch.cat([io[f"noise{suffix}"] for suffix, _ in sessions])
        source = torch.cat([io[f"source_latents{suffix}"] for suffix, _ in sessions])
        self._model, self._bounds = model, bounds
        self._grid = noise.shape[3], noise.shape[4]
        self._states: list[TransformerState] = []
        self._velocities: list[list[Tensor]] = []
        made, state = [], model.begin(len(sessions), self._grid)
        hook = model.register_forward_hook(
            lambda _module, _inputs, result: self._velocities[-1].append(result[0])
        )
        for window, (begin, end) in enumerate(pairwise(bounds)):
            self._velocities.append([])
            chosen = torch.tensor([prompts[window] for _, prompts in sessions])
            text, mask = io["prompts"][chosen], io["prompt_masks"][chosen]
            context = model.context(state, text, mask, end - begin, self._grid)
            of_window = source[:, :, begin:end]
            latents = sampler.denoise(model, noise[:, :, begin:end], of_window, context)
            state = sampler.commit(model, latents, of_window, context, state)
            made.append(latents)
            self._states.append(state)
        hook.remove()
        self.latents = torch.cat(made, dim=2)

    def velocities(self) -> Iterator[tuple[str, Tensor]]:
        """Yields those of all calls that upstream makes too: it commits no last window."""
        for window, calls in enumerate(self._velocities):
            is_last = window == len(self._velocities) - 1
            for call, velocity in enumerate(calls[: len(sampler.TIMESTEPS)] if is_last else calls):
                yield f"pred.chunk{window}.call{call}", velocity

    def caches(self) -> Iterator[tuple[str, Tensor]]:
        """Yields what is remembered, as upstream has it: positions from the beginning."""
        for window, state in enumerate(self._states[:-1]):
            begin, end = self._bounds[window], self._bounds[window + 1]
            dim = state.memory.shape[-1]
            memory = rotary.rotate(state.memory, rotary.shift(-end, dim))
            frames = torch.arange(begin, end, dtype=torch.float64)
            past = "last" if window else "sink"
            keys, values = (getattr(state, f"{past}_{each}") for each in ("keys", "values"))
            keys = rotary.rotate(keys, rotary.positions(frames, *self._grid, dim))
            name = f"cache.chunk{window}.block"
            for layer, block in enumerate(self._model.delta_blocks):
                yield f"{name}{block}.slot0", memory[:, layer]
                yield f"{name}{block}.slot1", state.normalizer[:, layer, :, :, None]
            for layer, block in enumerate(self._model.softmax_blocks):
                yield f"{name}{block}.slot1", keys[:, layer].mT
                yield f"{name}{block}.slot2", values[:, layer].mT
            for block in range(state.tail.shape[1]):
                yield f"{name}{block}.slot5", state.tail[:, block].mT[:, :, None]


def _recipe(part: Part, model: SanaStreamingTransformer, config: Mapping[str, Any]) -> None:
    """Compares what the released recipe fixes."""
    kept = config["tiny"].get("num_cached_blocks", WINDOWS_KEPT)
    part.equal("windows kept", WINDOWS_KEPT, kept)
    part.equal(
        "the first window stays", ours=True, reference=config["tiny"].get("sink_token", True)
    )
    part.equal("softmax blocks", [*model.softmax_blocks], config["softmax_layer_indices"])
    part.equal("time steps", [*sampler.TIMESTEPS], config["timesteps"])
    part.equal("noise levels", [*sampler.SIGMAS], config["sigmas"])


def _layers(part: Part, model: SanaStreamingTransformer, io: Mapping[str, Tensor]) -> None:
    """Compares single layers, which were all given the same input and no past."""
    for _ in part.found(io, "unit.t_embed"):
        # Which step it was tapped at is not written.
        steps = torch.tensor([*sampler.TIMESTEPS, 0.0])
        embedded = model.time_embed(steps)
        step = int((embedded - io["unit.t_embed"]).abs().amax(1).argmin())
        part.compare("unit.t_embed", embedded[step : step + 1], io["unit.t_embed"], LAYER)
        for name in part.found(io, "unit.t_block"):
            modulation = model.time_proj(nn.functional.silu(embedded[step : step + 1]))
            part.compare(name, modulation, io[name], LAYER)
    for name in part.found(io, "unit.text_after_norm"):
        part.compare(name, model.embed_text(io["prompts"][:1]), io[name], LAYER)
    taps = ("unit.x", "unit.rope_cos", "unit.rope_sin")
    if [*part.found(io, *taps)] != [*taps]:
        return
    grid = io["noise"].shape[3], io["noise"].shape[4]
    x = io["unit.x"].unflatten(1, (-1, grid[0] * grid[1]))
    frames = torch.arange(UNIT_START, UNIT_START + x.shape[1], dtype=torch.float64)
    rotation = rotary.positions(frames, *grid, model.config.linear_head_dim)
    part.compare("unit.rope_cos", rotation.cos, io["unit.rope_cos"], LAYER)
    part.compare("unit.rope_sin", rotation.sin, io["unit.rope_sin"], LAYER)
    given = Rotation(io["unit.rope_cos"], io["unit.rope_sin"])
    state = model.begin(1, grid)
    context = model.context(state, io["prompts"][:1], io["prompt_masks"][:1], x.shape[1], grid)

    def cross(block: Any) -> Tensor:
        return block.attn2(io["unit.x"], *block.attn2.context(text), context.text_bias)

    text = model.embed_text(io["prompts"][:1])
    nothing = context.past[0] if context.past else None
    layers = {
        "gdn": lambda block: block.attn1(x, given, context.memory[0])[0],
        "softmax": lambda block: block.attn1(x, given, nothing, None)[0],
        "ffn": lambda block: block.ff(x, grid, state.tail[:, 0])[0],
        "cross": cross,
    }
    for name in sorted(io):
        if found := re.fullmatch(r"unit\.(\w+)_block(\d+)", name):
            made = layers[found[1]](model.blocks[int(found[2])])
            part.compare(name, made.reshape(io[name].shape), io[name], LAYER)
