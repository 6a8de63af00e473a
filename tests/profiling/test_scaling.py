"""docs/scaling.md: tables and commands as benchmarks/scaling.py prints them, and the sizes behind them."""

import re
import shlex
import sys
from pathlib import Path

import paddle
import pytest

from benchmarks import scaling
from got_train.config.loader import load_config
from got_train.modeling.config import PARTS, DecoderConfig, GotConfig, VisionConfig
from got_train.modeling.cpu.accelerate import accelerate
from got_train.modeling.decoder import build_decoder
from got_train.modeling.gpu.accelerate import accelerate as accelerate_on_gpu
from got_train.modeling.vision import Block
from got_train.profiling.memory import decoder_activations, head_bytes, state_bytes, view_activations
from got_train.training.loader import BatchSchedule

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
STARTS = re.compile(r"^(?!#).*\btrain(?:\.py)? configs/", re.MULTILINE)
LAUNCH = ["python", "-m", "paddle.distributed.launch"]
STAGES = scaling.read_stages()
FULL = GotConfig()


def commands():
    """The words of each command of the page, and its number of GPUs."""
    text = PAGE.replace("\\\n", " ")
    fenced = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in fenced for line in block.splitlines()]
    return [shlex.split(line) for line in lines if STARTS.search(line)]


def test_the_tables_and_commands_of_the_page_are_those_printed_today():
    blocks, place = list(scaling.blocks()), 0
    for block in blocks:
        assert block in PAGE[place:], f"not in docs/scaling.md, in this order:\n{block}"
        place = PAGE.index(block, place) + len(block)
    tables = sum(block.startswith("|") for block in blocks)
    assert len(re.findall(r"^\| --- \|", PAGE, re.MULTILINE)) == tables
    assert len(commands()) == sum(len(STARTS.findall(block)) for block in blocks) >= 15


def test_every_command_of_the_page_is_accepted_and_divides_its_batch(monkeypatch):
    from paddle.distributed.launch.context.args_envs import parse_args

    from got_train.cli import train

    for words in commands():
        gpus, rest = 1, words[1:]
        if words[:3] == LAUNCH:
            monkeypatch.setattr(sys, "argv", words[2:])
            options, unknown = parse_args()
            assert not unknown
            gpus = int(options.nnodes) * len(options.devices.split(","))
            assert gpus == 8 or options.master
            rest = [options.training_script, *options.training_script_args]
        assert rest[0] == ("train" if gpus == 1 else "train.py")
        given = train.parser().parse_intermixed_args(rest[1:])
        config = load_config(ROOT / given.config, given.overrides)
        assert config.train.precision == "bfloat16"
        settings = config.train.batch_size, config.train.per_device_train_batch_size
        assert BatchSchedule(1, *settings, 0, gpus).accumulation * settings[1] * gpus == settings[0] == 128


@pytest.mark.parametrize(("kind", "kv_heads"), [("qwen2", 4), ("qwen2", 2), ("opt", 4)])
def test_parameter_sizes_are_those_of_a_real_model(random_model, kind, kv_heads):
    model = random_model(kind, decoder={"kv_heads": kv_heads})
    sizes = scaling.parameter_sizes(model.config)
    for name in PARTS:
        real = sorted(parameter.size for parameter in model.part(name).parameters())
        assert sorted(sizes[name]) == real


def test_full_sizes_have_the_parameters_of_the_released_models():
    counted = {name: sum(sizes) for name, sizes in scaling.parameter_sizes(FULL).items()}
    assert counted == {"vision": 95_569_152, "projector": 1_049_600, "decoder": 463_909_888}
    first = scaling.parameter_sizes(STAGES[0].model)
    assert sum(sum(sizes) for sizes in first.values()) == 221_595_648


def test_stages_have_the_papers_amounts():
    assert [round(stage.samples / 1e6, 3) for stage in STAGES] == [15.0, 11.0, 10.1]
    assert [stage.steps for stage in STAGES] == [117_187, 85_937, 78_906]
    assert STAGES[2].trains == ("projector", "decoder")


def test_states_worked_by_hand():
    whole = state_bytes([100, 50], [30], "bfloat16")
    assert (whole.weights, whole.gradients, whole.masters, whole.moments) == (360, 600, 600, 1200)
    single = state_bytes([100, 50], [30])
    assert (single.weights, single.gradients, single.masters, single.moments) == (720, 600, 0, 1200)
    assert state_bytes([100, 50], [30], "float16").gradients == 300
    assert state_bytes([100], sharding="stage3").total == state_bytes([100]).total  # one process


def test_sharding_deals_out_whole_parameters_until_stage_3_cuts_them():
    sizes = [10, 60, 20, 30]
    first = state_bytes(sizes, precision="bfloat16", sharding="stage1", processes=2)
    assert (first.masters, first.moments, first.gradients) == (4 * 60, 8 * 60, 4 * 120)  # 60, 30 + 20 + 10
    second = state_bytes(sizes, precision="bfloat16", sharding="stage2", processes=2)
    assert (second.moments, second.gradients) == (8 * 60, 4 * 60)  # 10 + 20 + 30, 60: as they come
    large = 3 << 20
    third = state_bytes([large, 10], [large], "bfloat16", "stage3", 4)
    assert third.weights == 2 * (2 * large // 4 + 10)
    assert third.moments == 8 * (large // 4 + 10)


def test_no_share_of_stage_1_is_below_the_embedding():
    decoder = scaling.parameter_sizes(FULL)["decoder"]
    moments = [state_bytes(decoder, sharding="stage1", processes=n).moments for n in (1, 2, 8, 64)]
    assert moments[0] == 8 * 463_909_888
    assert moments[2] == moments[3] == 8 * 155_504_640


def kept_by(run, parameters):
    """Bytes of the tensors that autograd keeps of a forward pass, without the parameters."""
    found = {}

    def keep(x):
        found[x.data_ptr()] = x  # held, so that no other takes its place
        return x

    with paddle.autograd.saved_tensors_hooks(keep, lambda x: x):
        run()
    own = {each.data_ptr() for each in parameters}
    return sum(x.size * x.element_size() for place, x in found.items() if place not in own)


@pytest.mark.parametrize("window", [7, 0])
def test_a_block_keeps_on_the_cpu_what_is_counted(window):
    """Two views of 16 x 16 patches; the vectors of positions, the same for all views, are not counted."""
    sizes = {"image_side": 256, "width": 96, "layers": 1, "heads": 4, "mlp_width": 384, "neck_width": 1}
    config = VisionConfig(**sizes, window=7, global_layers=() if window else (0,))
    block, x = Block(config, window or config.grid), paddle.randn([2, 16, 16, 96])
    accelerate(block)
    x.stop_gradient = False
    kept = kept_by(lambda: block(x), block.parameters())
    assert 2 * (view_activations(config).kept - 4 * 256 * (96 + 6)) == pytest.approx(kept, rel=0.03)


@pytest.mark.parametrize(("kind", "dropout"), [("qwen2", 0.0), ("opt", 0.1)])
def test_decoders_keep_on_the_cpu_what_is_counted(kind, dropout):
    sizes = {"vocab_size": 50, "width": 64, "layers": 2, "heads": 4, "mlp_width": 176}
    decoder, x = build_decoder(DecoderConfig(kind=kind, dropout=dropout, **sizes)), paddle.randn([1, 256, 64])
    x.stop_gradient = False
    accelerate(decoder)
    decoder.train()
    kept = kept_by(lambda: decoder(x), decoder.parameters())
    assert decoder_activations(decoder.config, [256]).kept == pytest.approx(kept, rel=0.07)


@pytest.mark.parametrize("kind", ["qwen2", "opt"])
def test_a_gpus_attention_keeps_nothing_that_is_quadratic_in_tokens(kind):
    """Two samples packed into a row, through the blocks that float32 takes there."""
    sizes = {"vocab_size": 50, "width": 64, "layers": 2, "heads": 4, "mlp_width": 176, "kind": kind}
    kept = []
    for tokens in (128, 512):
        decoder, x = build_decoder(DecoderConfig(**sizes)), paddle.randn([1, tokens, 64])
        x.stop_gradient = False
        accelerate_on_gpu(decoder)
        decoder.train()
        mask = paddle.to_tensor([[1] * (tokens // 2) + [2] * (tokens // 2)])
        kept.append(kept_by(lambda decoder=decoder, x=x, mask=mask: decoder(x, mask), decoder.parameters()))
    assert kept[1] < 4.1 * kept[0]


def test_activations_on_a_gpu_are_near_what_paddles_own_kernels_keep():
    """Bytes that one layer in float32 kept, by saved_tensors_hooks, before the CPU had kernels of ours."""
    sizes = {"vocab_size": 50, "width": 64, "layers": 1, "heads": 4, "mlp_width": 176}
    qwen2 = decoder_activations(DecoderConfig(**sizes), [256], device="gpu").kept - 4 * 256 * (64 + 2 * 16)
    assert qwen2 == pytest.approx(1_263_616, rel=0.03)


def test_activations_worked_by_hand():
    plain = decoder_activations(FULL.decoder, [600, 400], "bfloat16", device="gpu")
    assert plain.kept == 24 * 1000 * (2 * (9 * 1024 + 3 * 2816) + 4 * 2 * 1024) + 2 * 1000 * (1024 + 2 * 64)
    again = decoder_activations(FULL.decoder, [1000], "bfloat16", recompute=True, device="gpu")
    assert (again.kept, again.moment) == (2 * 1000 * (25 * 1024 + 2 * 64), 2 * plain.moment)
    opt = STAGES[0].model.decoder
    assert decoder_activations(opt, [9], recompute=True).kept == 9 * (13 * 768 + 2 * 64) * 4
    scores = decoder_activations(opt, [200]).kept - 2 * decoder_activations(opt, [100]).kept
    assert scores == 12 * 12 * (200**2 - 2 * 100**2) * (4 + 4 + 1)  # weights, dropped weights, their mask
    on_gpu = [decoder_activations(opt, [size], "bfloat16", device="gpu").kept for size in (100, 200)]
    assert on_gpu[1] == 2 * on_gpu[0] == 200 * (12 * (2 * (8 * 768 + 3072) + 2 * 768) + 2 * (768 + 2 * 64))
    rows = 2 * 4 * 1024 * 4096  # of the head's gradient that are made at once, and as they are added
    assert head_bytes(FULL.decoder, "bfloat16") == 3 * 2**26 + 6 * 155_504_640 + rows
    assert head_bytes(FULL.decoder, supervised=10) == 10 * 4 * 151_860 + 4 * 155_504_640 + rows
    folded = view_activations(FULL.vision, "bfloat16", device="gpu")
    block = 2 * 4096 * (5 * 768 + 2 * 3072) + 2 * 4096 * (2 * 768 + 4 * 12 * 192)
    assert folded.moment == block  # global: heads of 64 + 64 + 64


def test_settings_fit_their_memory_and_use_it():
    for stage in STAGES:
        for gpu in scaling.GPUS:
            for gpus in scaling.COUNTS:
                chosen = scaling.choose(stage, gpu, gpus)
                if chosen is None:
                    smallest = scaling.Settings(stage, gpus, 1, True, "stage1" if gpus > 1 else "")
                    assert smallest.memory > scaling.USABLE * gpu.memory * 2**30
                    continue
                assert chosen.memory <= scaling.USABLE * gpu.memory * 2**30
                assert chosen.accumulation * chosen.rows * gpus == 128


def test_the_pace_of_the_authors_is_the_share_that_the_page_takes():
    share = scaling.authors_share(STAGES[1])
    assert round(share, 2) == scaling.AUTHORS_SHARE
    a_sample = STAGES[1].flops().useful / 11e6
    samples_a_second = 20e9 / 86400 / STAGES[1].mean("tokens")
    assert share == pytest.approx(a_sample * samples_a_second / 64 / 362e12)


def test_a_forecast_is_slower_with_less_of_everything():
    stage = STAGES[1]
    days = {}
    for gpu in scaling.GPUS:
        for gpus in scaling.COUNTS:
            found = scaling.Forecast(scaling.choose(stage, gpu, gpus), gpu)
            assert 0 < found.fast <= found.slow
            assert found.share(found.fast) < scaling.PRODUCTS
            days[gpu.name, gpus] = found.days(found.fast)
    for gpu in scaling.GPUS:
        assert days[gpu.name, 1] > days[gpu.name, 8] > days[gpu.name, 64] > days[gpu.name, 1] / 64
    first = scaling.Forecast(scaling.Settings(stage, 8, 1, True, ""), scaling.GPUS[1])
    shared = scaling.Forecast(scaling.Settings(stage, 8, 1, True, "stage1"), scaling.GPUS[1])
    assert first.settings.communication == pytest.approx(2 * 7 / 8 * 4 * 560_528_640)
    assert shared.settings.communication == pytest.approx(6 * 560_528_640)
    assert first.communication > shared.communication
