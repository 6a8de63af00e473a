"""What the three stages take on GPUs, from counted operations and sizes: the tables of docs/scaling.md.

python -m benchmarks.scaling prints them. Nothing here was run on a GPU: operations, bytes and settings follow
from the configs, seconds from two assumptions about a GPU's speed, which the page names.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from got_train.config.loader import load_config
from got_train.config.schema import Config
from got_train.cpu import settings as cpu
from got_train.modeling.config import DecoderConfig, GotConfig, VisionConfig
from got_train.profiling.flops import PARTS, StepFlops, Work, forward, training
from got_train.profiling.memory import (
    StateBytes,
    decoder_activations,
    head_bytes,
    state_bytes,
    view_activations,
)

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
GIB = 2**30
DAY = 86_400

USABLE = 0.85  # of a GPU's memory: the rest is for CUDA, communication buffers and fragments
MOST_ROWS = 8  # of a micro-batch; more fill a GPU no better and hold more padding
PACK = 2048  # tokens of a packed row, where several samples share a micro-batch

# the faster end: products run at this share of the peak, what is kept passes the memory so often
PRODUCTS = 0.7
KEPT_PASSES, FORWARD_PASSES = 8, 3  # in training; in a forward pass of what is frozen or recomputed
BANDWIDTH = 0.8  # of the memory's
UPDATE = 30  # bytes that AdamW reads and writes for a number: gradient, master and moments, weight
# seconds in which Python and Paddle start the operators of a micro-batch, without and with recompute, by
# `python -m benchmarks.scaling --starts`; before the CPU had kernels in Python, as on a GPU, 0.07 and 0.14
STARTS = {False: 0.11, True: 0.19}
# the slower end: what the authors said of their own run, issue 21 of their repository
AUTHORS_TOKENS, AUTHORS_GPUS = 20e9, 64  # tokens a day on 64 L40S
AUTHORS_SHARE = 0.08  # of the peak, in stage 2: authors_share
LINK = 0.7  # of a link's bytes a second that collectives reach

PROMPT = {"stage1": 5, "stage2": 31, "stage3": 31}  # tokens around image and answer
VIEWS = {"crops": 8, "crops_plain": 8, "multipage": 5}  # a sample; 1 of all others
# mean tokens of an answer: the table of docs/data_tools.md, and `regions` for what is cut out of a page
ANSWERS = {
    "scene": 21, "slices": 22, "pages": 795, "pages_zh": 1108, "pdf": 485, "pdf_slices": 22, "lines": 22,
    "handwriting": 73, "formulas": 55, "formulas_latex": 55, "tables": 265, "markdown": 600,
    "markdown_zh": 600, "molecules": 26, "music": 206, "geometry": 146, "charts": 142, "charts_echarts": 145,
    "regions": 22, "crops": 1649, "crops_plain": 1649, "multipage": 1946,
}  # fmt: skip


@dataclass(frozen=True)
class Gpu:
    name: str
    memory: int  # GiB
    peak: float  # operations a second in bfloat16, without sparsity, summed in float32
    bandwidth: float  # bytes a second of its memory
    link: float  # bytes a second to its neighbours, one way
    network: float  # bytes a second between machines of 8, one way
    source: str


GPUS = (
    Gpu(
        "RTX 4090",
        24,
        165.2e12,
        1.008e12,
        32e9,
        12.5e9,
        "NVIDIA Ada GPU Architecture, appendix A; PCIe 4.0 x16",
    ),
    Gpu("A100 80 GB SXM", 80, 312e12, 2.039e12, 300e9, 200e9, "NVIDIA A100 datasheet; NVLink 3"),
    Gpu("H100 80 GB SXM", 80, 989.4e12, 3.35e12, 450e9, 400e9, "NVIDIA H100 datasheet, halved; NVLink 4"),
)
L40S = Gpu("L40S", 48, 362e12, 0.864e12, 32e9, 12.5e9, "NVIDIA L40S datasheet, halved; the paper's")
COUNTS = (1, 8, 64)


@dataclass(frozen=True)
class Source:
    """Rows that are alike, of one engine."""

    rows: float  # drawn in the stage, all epochs
    views: int
    tokens: int
    supervised: int

    @property
    def work(self) -> Work:
        return Work(self.views, (self.tokens,), self.supervised)


@dataclass(frozen=True)
class Stage:
    """A stage of configs/got with the data of configs/data."""

    name: str
    config: Config
    sources: tuple[Source, ...]

    @cached_property
    def model(self) -> GotConfig:
        decoder = self.config.model.decoder  # stage 3 takes stage 2's sizes, which are the defaults
        return GotConfig(vision=self.config.model.vision, decoder=decoder, image_token=decoder.vocab_size - 1)

    @cached_property
    def trains(self) -> tuple[str, ...]:
        return tuple(part for part in PARTS if getattr(self.config.parts, part).trainable)

    @cached_property
    def samples(self) -> float:
        return sum(source.rows for source in self.sources)

    @cached_property
    def steps(self) -> int:
        return int(self.samples) // self.config.train.batch_size

    def mean(self, name: str) -> float:
        return sum(source.rows * getattr(source, name) for source in self.sources) / self.samples

    def flops(self, recompute: bool = False) -> StepFlops:
        """Of the whole stage."""
        each = [training(self.model, source.work, self.trains, recompute) for source in self.sources]
        return StepFlops(*(round(self._total(each, name)) for name in ("forward", "backward", "recomputed")))

    def _total(self, each: Sequence[StepFlops], name: str) -> float:
        return sum(source.rows * getattr(one, name) for source, one in zip(self.sources, each, strict=True))

    def forward(self) -> dict[str, float]:
        """Of a mean sample, by part."""
        each = [(source.rows, forward(self.model, source.work)) for source in self.sources]
        return {part: sum(rows * one[part] for rows, one in each) / self.samples for part in each[0][1]}

    @cached_property
    def traffic(self) -> float:
        """Bytes of a mean sample through the GPU's memory, of what passes between the products."""
        view = view_activations(self.model.vision, "bfloat16", device="gpu").kept
        passes = KEPT_PASSES if "vision" in self.trains else FORWARD_PASSES
        total = self.mean("views") * view * passes
        for source in self.sources:
            kept = decoder_activations(self.model.decoder, [source.tokens], "bfloat16", device="gpu")
            total += source.rows / self.samples * kept.kept * KEPT_PASSES
        return total


def read_stages() -> tuple[Stage, ...]:
    """The three stages; each replays its share of what all before it drew."""
    found, before = [], ()
    for name in ("stage1", "stage2", "stage3"):
        config = load_config(CONFIGS / f"got/{name}.yaml")
        drawn = tuple(_sources(name, config.train.num_train_epochs))
        share = config.data.replay_share
        again = tuple(Source(share * s.rows, s.views, s.tokens, s.supervised) for s in before)
        found.append(Stage(name, config, drawn + again))
        before = tuple(_sources(name, 1)) + again
    return tuple(found)


def _sources(stage: str, epochs: float) -> Iterator[Source]:
    """The rows of configs/data that train by themselves; those of weight 0 are parts of others."""
    read = yaml.safe_load((CONFIGS / f"data/{stage}.yaml").read_text(encoding="utf-8"))
    for name, given in read["sources"].items():
        if given.get("weight") == 0:
            continue
        views, answer = VIEWS.get(name, 1), ANSWERS[name] + 1  # and its end token
        tokens = views * VisionConfig().view_tokens + PROMPT[stage] + answer
        yield Source(given["rows"] * epochs, views, tokens, answer)


def parameter_sizes(config: GotConfig) -> dict[str, list[int]]:
    """How many numbers each parameter of a part has; the head is the embedding."""
    return {
        "vision": _vision_sizes(config.vision),
        "projector": [config.vision.out_width * config.decoder.width, config.decoder.width],
        "decoder": _decoder_sizes(config.decoder),
    }


def _vision_sizes(config: VisionConfig) -> list[int]:
    width, hidden, neck = config.width, config.mlp_width, config.neck_width
    sizes = [3 * config.patch**2 * width, width, config.grid**2 * width]
    for index in range(config.layers):
        side = config.grid if index in config.global_layers else config.window
        sizes += 2 * [(2 * side - 1) * width // config.heads]
        sizes += [3 * width**2, 3 * width, width**2, width, width * hidden, hidden, width * hidden, width]
        sizes += 4 * [width]
    sizes += [width * neck, 9 * neck**2, *4 * [neck]]
    return [*sizes, 9 * neck * 2 * neck, 9 * 2 * neck * config.out_width]


def _decoder_sizes(config: DecoderConfig) -> list[int]:
    width, hidden = config.width, config.mlp_width
    keys = width // config.heads * config.kv_heads
    if config.kind == "qwen2":
        layer = [width**2, width, *2 * [width * keys, keys], width**2, *3 * [width * hidden], *2 * [width]]
        return [config.vocab_size * width, *config.layers * layer, width]
    layer = [*4 * [width**2, width], width * hidden, hidden, hidden * width, width, *4 * [width]]
    ends = [config.vocab_size * width, (config.max_positions + 2) * width]  # OPT's places begin at 2
    return [*ends, *config.layers * layer, width, width]


@dataclass(frozen=True)
class Settings:
    """How a stage runs on some GPUs."""

    stage: Stage
    gpus: int
    rows: int  # of a micro-batch
    recompute: bool
    sharding: str

    @property
    def accumulation(self) -> int:
        return self.stage.config.train.batch_size // (self.rows * self.gpus)

    @cached_property
    def states(self) -> StateBytes:
        sizes = parameter_sizes(self.stage.model)
        trained = [size for part in self.stage.trains for size in sizes[part]]
        frozen = [size for part in PARTS if part not in self.stage.trains for size in sizes[part]]
        return state_bytes(trained, frozen, "bfloat16", self.sharding, self.gpus)

    @cached_property
    def activations(self) -> int:
        """Bytes, if every row of a micro-batch is as long as data.max_tokens allows."""
        config, model, learns = self.stage.config, self.stage.model, "vision" in self.stage.trains
        views = self.rows * (1 if learns else config.data.max_crops + 1)
        view = view_activations(model.vision, "bfloat16", self.recompute and learns, "gpu")
        lengths = [config.data.max_tokens] * self.rows
        rows = decoder_activations(model.decoder, lengths, "bfloat16", self.recompute, "gpu")
        kept = rows.kept + (views * view.kept if learns else 0)  # frozen, it has one block at a time
        return kept + max(views * view.moment, rows.moment, head_bytes(model.decoder, "bfloat16"))

    @property
    def memory(self) -> int:
        return self.states.total + self.activations

    def fits(self, gpu: Gpu) -> bool:
        return self.memory <= USABLE * gpu.memory * GIB

    @property
    def communication(self) -> float:
        """Bytes that pass a GPU's link in a step, one way, none of them while it computes.

        Gradients are float32 and go once a step: all-reduced, 2 (N - 1) / N of them; with stage 1 each
        to its owner, which sends the bfloat16 weight back.
        """
        trained = sum(sum(parameter_sizes(self.stage.model)[part]) for part in self.stage.trains)
        if self.gpus == 1:
            return 0.0
        return 6.0 * trained if self.sharding else 8 * trained * (self.gpus - 1) / self.gpus

    def overrides(self) -> list[str]:
        given = [
            "train.precision=bfloat16",
            f"train.per_device_train_batch_size={self.rows}",
            f"train.recompute={'true' if self.recompute else 'false'}",
        ]
        given += [f"train.sharding={self.sharding}"] if self.sharding else []
        return given + ([f"data.packing_length={PACK}"] if self.rows > 1 else [])

    def command(self) -> str:
        start = "got train"
        if self.gpus > 1:
            several = f"--nnodes {self.gpus // 8} --master 10.0.0.1:29500 " if self.gpus > 8 else ""
            numbers = ",".join(map(str, range(8)))
            start = f"python -m paddle.distributed.launch {several}--gpus {numbers} \\\n  train.py"
        return f"{start} configs/got/{self.stage.name}.yaml \\\n  {' '.join(self.overrides())}"


@dataclass(frozen=True)
class Forecast:
    """Seconds of a stage under some settings, at both ends of what is assumed."""

    settings: Settings
    gpu: Gpu

    @cached_property
    def flops(self) -> StepFlops:
        """Of a step on one GPU."""
        stage, settings = self.settings.stage, self.settings
        whole, share = stage.flops(settings.recompute), stage.steps * settings.gpus
        return StepFlops(*(round(each / share) for each in (whole.forward, whole.backward, whole.recomputed)))

    @property
    def communication(self) -> float:
        link = self.gpu.network if self.settings.gpus > 8 else self.gpu.link
        return self.settings.communication / (LINK * link)

    @property
    def fast(self) -> float:
        """Seconds of a step: its micro-batches, the update, communication."""
        settings, bandwidth = self.settings, BANDWIDTH * self.gpu.bandwidth
        update = UPDATE * settings.states.moments / 8 / bandwidth
        return settings.accumulation * max(self.micro_batch) + update + self.communication

    @property
    def micro_batch(self) -> tuple[float, float]:
        """Seconds in which the GPU computes and moves one, and in which the CPU starts its operators."""
        settings = self.settings
        moved = settings.rows * settings.stage.traffic
        if settings.recompute:
            moved *= (KEPT_PASSES + FORWARD_PASSES) / KEPT_PASSES
        products = self.flops.total / settings.accumulation / (PRODUCTS * self.gpu.peak)
        return products + moved / (BANDWIDTH * self.gpu.bandwidth), STARTS[settings.recompute]

    @property
    def slow(self) -> float:
        """Seconds of a step at the share of the peak that the authors' words amount to."""
        return max(self.fast, self.flops.useful / (AUTHORS_SHARE * self.gpu.peak) + self.communication)

    def days(self, seconds: float) -> float:
        return self.settings.stage.steps * seconds / DAY

    def share(self, seconds: float) -> float:
        """MFU: of the peak, without what is recomputed."""
        return self.flops.useful / (seconds * self.gpu.peak)


def choose(stage: Stage, gpu: Gpu, gpus: int) -> Settings | None:
    """Those that fit with the fewest seconds a step, at the faster end; None if nothing fits."""
    most = min(MOST_ROWS, stage.config.train.batch_size // gpus)
    rows = (2**power for power in range(int(math.log2(most)) + 1))
    options = itertools.product(rows, (False, True), ("", "stage1") if gpus > 1 else ("",))
    found = [Settings(stage, gpus, *option) for option in options]
    fitting = [settings for settings in found if settings.fits(gpu)]
    return min(fitting, key=lambda settings: (Forecast(settings, gpu).fast, settings.memory), default=None)


def authors_share(stage: Stage) -> float:
    """Of an L40S's peak: this stage's operations a token times 20 billion tokens a day on 64 of them."""
    a_token = stage.flops().useful / (stage.samples * stage.mean("tokens"))
    return a_token * AUTHORS_TOKENS / DAY / (AUTHORS_GPUS * L40S.peak)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def work_table(stages: Sequence[Stage]) -> str:
    head = ("", *(stage.name for stage in stages))
    tera = [{part: value / 1e12 for part, value in stage.forward().items()} for stage in stages]
    useful = [stage.flops().useful for stage in stages]
    again = [stage.flops(True).total for stage in stages]
    rows = [
        ("trains", *(", ".join(stage.trains) for stage in stages)),
        (
            "samples, million (epochs in it)",
            *(f"{s.samples / 1e6:.1f} ({s.config.train.num_train_epochs:g})" for s in stages),
        ),
        ("batch, steps", *(f"{s.config.train.batch_size}, {s.steps:,}" for s in stages)),
        ("views a sample", *(f"{stage.mean('views'):.2f}" for stage in stages)),
        (
            "tokens a sample, supervised",
            *(f"{s.mean('tokens'):.0f}, {s.mean('supervised'):.0f}" for s in stages),
        ),
        ("tokens in all, billion", *(f"{s.samples * s.mean('tokens') / 1e9:.1f}" for s in stages)),
        *((f"forward, {part}, TFLOP a sample", *(f"{each[part]:.4f}" for each in tera)) for part in tera[0]),
        (
            "training, TFLOP a sample",
            *(f"{u / s.samples / 1e12:.2f}" for u, s in zip(useful, stages, strict=True)),
        ),
        ("stage, FLOP", *(f"{value:.2e}" for value in useful)),
        ("stage with recompute, FLOP", *(f"{value:.2e}" for value in again)),
    ]
    return table(head, rows)


def gpu_table() -> str:
    head = (
        "GPU",
        "memory, GB",
        "bfloat16 peak, TFLOP/s",
        "memory, TB/s",
        "link, GB/s",
        "network, GB/s",
        "source",
    )
    rows = [
        (g.name, g.memory, f"{g.peak / 1e12:g}", f"{g.bandwidth / 1e12:g}", f"{g.link / 1e9:g}",
         f"{g.network / 1e9:g}", g.source)
        for g in (*GPUS, L40S)
    ]  # fmt: skip
    return table(head, rows)


def state_table(stages: Sequence[Stage]) -> str:
    head = ("GB a GPU", "train.sharding", "GPUs", "weights", "gradients", "masters", "moments", "in all")
    rows = []
    for stage in stages:
        for sharding, gpus in (("", 1), ("stage1", 8), ("stage1", 64), ("stage2", 64), ("stage3", 64)):
            held = Settings(stage, gpus, 1, False, sharding).states
            each = (held.weights, held.gradients, held.masters, held.moments, held.total)
            rows.append((stage.name, sharding or "-", gpus, *(f"{value / GIB:.2f}" for value in each)))
    return table(head, rows)


def forecast_table(stage: Stage) -> str:
    head = ("GPUs", "micro-batch x accumulation", "recompute", "sharding", "GB: state + activations",
            "PFLOP a step", "communication, s", "step, s", "MFU", "stage")  # fmt: skip
    rows = []
    for gpu in GPUS:
        for gpus in COUNTS:
            settings = choose(stage, gpu, gpus)
            name = f"{gpus} x {gpu.name}"
            rows.append(
                _forecast(name, Forecast(settings, gpu)) if settings else (name, "does not fit", *8 * [""])
            )
    return table(head, rows)


def _forecast(name: str, forecast: Forecast) -> tuple[str, ...]:
    settings, fast, slow = forecast.settings, forecast.fast, forecast.slow
    states, activations = settings.states.total / GIB, settings.activations / GIB
    return (
        name,
        f"{settings.rows} x {settings.accumulation}",
        "yes" if settings.recompute else "no",
        settings.sharding or "-",
        f"{states:.1f} + {activations:.1f}",
        f"{settings.gpus * forecast.flops.total / 1e15:.2f}",
        f"{forecast.communication:.2f}",
        _range(f"{fast:.2f}", f"{slow:.2f}"),
        _range(f"{forecast.share(slow):.2f}", f"{forecast.share(fast):.2f}"),
        _range(_duration(forecast.days(fast)), _duration(forecast.days(slow))),
    )


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} - {high}"


def _duration(days: float) -> str:
    return f"{days:.1f} d" if days >= 1 else f"{24 * days:.1f} h"


def commands(stage: Stage) -> str:
    """One for each number of GPUs, of the two kinds that differ in memory."""
    blocks = []
    for gpu in GPUS[:2]:
        for gpus in COUNTS:
            settings = choose(stage, gpu, gpus)
            if settings:
                where = ", on each of 8 machines" if gpus > 8 else ""
                blocks.append(f"# {gpus} x {gpu.name}{where}\n{settings.command()}")
    return "```\n" + "\n".join(blocks) + "\n```"


def authors_table(stages: Sequence[Stage]) -> str:
    head = ("stage", "GFLOP a token", "days on 64 L40S at their pace", "share of the peak")
    rows = []
    for stage in stages:
        tokens = stage.samples * stage.mean("tokens")
        each = (f"{stage.flops().useful / tokens / 1e9:.1f}", f"{tokens / AUTHORS_TOKENS:.2f}")
        rows.append((stage.name, *each, f"{authors_share(stage):.3f}"))
    return table(head, rows)


# seconds on two threads of an AMD EPYC, float32: docs/performance.md, before the CPU had kernels for training
PRODUCT = (2 * 4096 * 768 * 3072, 0.0896)
CPU = {"encoder forward, one view": 7.57, "prefill, 287 tokens": 1.18, "nano train step, a sample": 0.0201}


def cpu_table() -> str:
    """Operations that were counted, seconds that were measured, and the share of a large product's speed."""
    from .cpu_settings import nano_step

    full, nano = GotConfig(), nano_step()[0].config
    counted = (
        forward(full, Work(1, (), 0))["vision"],
        forward(full, Work(0, (287,), 1))["decoder"],
        training(nano, Work(1, (70,), 69)).useful,
    )
    speed = PRODUCT[0] / PRODUCT[1]
    rows = [("product 4096x768x3072", f"{PRODUCT[0] / 1e9:.1f}", PRODUCT[1], f"{speed / 1e9:.0f}", "1.00")]
    for (name, seconds), flops in zip(CPU.items(), counted, strict=True):
        rate = flops / seconds
        rows.append((name, f"{flops / 1e9:.1f}", seconds, f"{rate / 1e9:.0f}", f"{rate / speed:.2f}"))
    return table(("on the CPU", "GFLOP", "seconds", "GFLOP/s", "of the product's"), rows)


def blocks() -> Iterator[str]:
    """Everything of docs/scaling.md that is computed, in its order."""
    stages = read_stages()
    yield work_table(stages)
    yield gpu_table()
    yield state_table(stages)
    for stage in stages:
        yield forecast_table(stage)
        yield commands(stage)
    yield authors_table(stages)
    yield cpu_table()


def measure_starts(passes: int = 25) -> dict[bool, float]:
    """Seconds of the CPU in a pass forward and backward of all layers at hardly any width."""
    import paddle

    from got_train.modeling.cpu.accelerate import accelerate
    from got_train.modeling.got import Got

    vision = {"image_side": 64, "patch": 8, "width": 24, "heads": 2, "mlp_width": 32, "window": 3}
    decoder = {"vocab_size": 64, "width": 32, "heads": 2, "mlp_width": 32, "max_positions": 64}
    sizes = VisionConfig(**vision, neck_width=8, out_width=16), DecoderConfig(**decoder)
    model = Got(GotConfig(vision=sizes[0], decoder=sizes[1], image_token=63))
    accelerate(model)
    ids, view, taken = paddle.randint(0, 60, [1, 14]), paddle.randn([1, 3, 64, 64]), {}
    ids[:, 2:6] = 63
    for recompute in STARTS:
        for layer in model.sublayers():
            if hasattr(layer, "enable_recompute"):
                layer.enable_recompute = recompute
        seconds = []
        for _ in range(passes):
            began = time.process_time()
            model(ids, view, paddle.ones([1, 14], "int64"), labels=ids).loss_sum.backward()
            seconds.append(time.process_time() - began)
            model.clear_gradients()
        taken[recompute] = statistics.median(seconds)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--starts", action="store_true", help="measure the seconds of STARTS, and nothing else"
    )
    if not parser.parse_args().starts:
        print("\n\n".join(blocks()))
        return
    cpu.tune(1)
    for recompute, seconds in measure_starts().items():
        print(f"{seconds:.3f} s a micro-batch, recompute {recompute}")


if __name__ == "__main__":
    main()
