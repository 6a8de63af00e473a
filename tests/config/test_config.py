"""Settings: every shipped YAML loads, what is written is read back, wrong ones are refused by their key."""

from pathlib import Path

import pytest

from got_train.config.loader import build, dump_config, load_config
from got_train.config.schema import Config, ModelConfig, SourceConfig, differences
from got_train.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = sorted(path for path in CONFIGS.glob("*/*.yaml") if path.parent.name != "data")  # those are recipes


@pytest.fixture
def load(tmp_path):
    """A function: the config of a YAML text and overrides."""

    def load(text, *overrides):
        (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
        return load_config(tmp_path / "run.yaml", overrides)

    return load


# ---- what is read


def test_the_shipped_configs_are_there():
    assert {path.parent.name for path in SHIPPED} == {"finetune", "got", "nano", "rl"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_config_loads_and_has_data(path):
    assert load_config(path).data.sources


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_dumped_config_loads_as_an_equal_one(path, load):
    config = load_config(path)
    assert load(dump_config(config)) == config


def test_an_empty_file_is_the_defaults(load):
    assert load("") == Config()
    assert load("# nothing\n") == Config()


def test_numbers_of_yaml_1_1_that_are_text_are_read_as_floats(load):
    config = load(
        "optimizer: {learning_rate: 1e-4, adam_epsilon: 1e-9, weight_decay: 1}\n"
        "parts: {vision: {learning_rate: 5E-6}}"
    )
    assert (config.optimizer.learning_rate, config.optimizer.adam_epsilon, config.optimizer.weight_decay) == (
        1e-4,
        1e-9,
        1.0,
    )
    assert config.parts.vision.learning_rate == 5e-6


def test_one_path_is_one_source_without_a_weight(load):
    assert load("data: {train: a.jsonl}").data.sources == (SourceConfig(path="a.jsonl"),)
    assert load("").data.sources == ()


def test_sources_with_weights(load):
    sources = load("data: {train: [{path: a, weight: 3}, {path: b, weight: .5, image_root: c}]}").data.sources
    assert [(source.path, source.weight, source.image_root) for source in sources] == [
        ("a", 3, ""),
        ("b", 0.5, "c"),
    ]


def test_a_source_with_columns_is_written_and_read_back(load):
    config = load(
        "data: {train: [{path: a, columns: {text: truth, images: page}}], replay: b, validation: c}"
    )
    assert config.data.sources[0].columns == {"text": "truth", "images": "page"}
    assert config.data.replay_sources == (SourceConfig(path="b"),)
    assert config.data.validation_sources == (SourceConfig(path="c"),)
    assert load(dump_config(config)) == config


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optimizer.learning_rate=3e-4", 3e-4),
        ("optimizer.lr_scheduler_type=constant", "constant"),
        ("parts.vision.learning_rate=null", None),
        ("parts.vision.trainable=no", False),
        ("model.vision.global_layers=[1, 2]", (1, 2)),
        ("model.tokenizer=", ""),
        ("train.output_dir=runs/a=b", "runs/a=b"),
        ("data.train=x.jsonl", "x.jsonl"),
        ("data.train=[{path: a}, {path: b}]", (SourceConfig(path="a"), SourceConfig(path="b"))),
    ],
)
def test_an_override_wins_over_the_file(load, override, value):
    config = load(
        "parts: {vision: {learning_rate: 1.0}}\noptimizer:\ndata: {train: a}\nmodel: {tokenizer: t}",
        override,
        "optimizer.adam_epsilon=1e-9",
    )
    for key in override.partition("=")[0].split("."):
        config = getattr(config, key)
    assert config == value


def test_an_override_fills_a_section_that_the_file_leaves_empty(load):
    assert load("optimizer:\n", "optimizer.learning_rate=1", "train.seed=3") == load(
        "optimizer: {learning_rate: 1}\ntrain: {seed: 3}"
    )


def test_two_overrides_of_one_key_are_refused(load):
    with pytest.raises(ConfigError, match="train.max_steps: is set twice among the overrides; keep one"):
        load("", "train.max_steps=5", "train.seed=1", "train.max_steps=6")


# ---- what is refused

WRONG = [
    ("optimizer: {lrr: 1}", "optimizer.lrr: no such setting; did you mean learning_rate?"),
    ("optimiser: {lr: 1}", "optimiser: no such setting; did you mean optimizer?"),
    ("train: {xyz: 1}", "train.xyz: no such setting; known are output_dir, max_steps, num_train_epochs"),
    ("parts: {vision: {trian: false}}", "parts.vision.trian: no such setting; did you mean trainable?"),
    ("data: {train: [{path: a}, {pth: b}]}", "data.train[1].pth: no such setting; did you mean path?"),
    ("optimizer: 3", "optimizer must be a mapping of settings; got 3"),
    ("optimizer:", "optimizer must be a mapping of settings; got None"),
    ("[1, 2]", "holds [1, 2]; sections such as model"),
    ("optimizer: {learning_rate: fast}", "optimizer.learning_rate must be a number; got 'fast'"),
    ("optimizer: {learning_rate: true}", "optimizer.learning_rate must be of type float; got True"),
    ("optimizer: {learning_rate: .nan}", "optimizer.learning_rate must be a finite number; got nan"),
    ("optimizer: {learning_rate: 1e999}", "optimizer.learning_rate must be a finite number; got inf"),
    ("optimizer: {learning_rate: null}", "optimizer.learning_rate must be of type float; got None"),
    ("train: {max_steps: 1.5}", "train.max_steps must be of type int; got 1.5"),
    ("train: {max_steps: true}", "train.max_steps must be of type int; got True"),
    ("train: {recompute: 1}", "train.recompute must be of type bool; got 1"),
    ("train: {recompute: [projector]}", "train.recompute[0] must be one of 'vision', 'decoder'; got 'proj"),
    ("train: {output_dir: 2024}", "train.output_dir must be of type str; got 2024"),
    ("train: {output_dir: ''}", "train.output_dir is empty"),
    ("train: {precision: fp16}", "train.precision must be one of 'float32', 'bfloat16', 'float16'; got"),
    (
        "train: {sharding: stage4}",
        "train.sharding must be one of '', 'stage1', 'stage2', 'stage3'; got 'stage4'",
    ),
    ("model: {prompt_template: [a]}", "model.prompt_template must be one of '', 'repo'"),
    ("model: {vision: {global_layers: 3}}", "model.vision.global_layers must be a list; got 3"),
    ("model: {vision: {global_layers: [a]}}", "model.vision.global_layers[0] must be of type int; got 'a'"),
    (
        "model: {vision: {image_side: 100}}",
        "model.vision.image_side (100) must be a multiple of vision.patch (16)",
    ),
    ("model: {decoder: {width: 100}}", "model.decoder.width (100) must be a multiple of decoder.heads (16)"),
    ("model: {init_from: a, vision_from: b}", "model.vision_from: init_from (a) brings the whole model"),
    ("model: {init_from: a, decoder: {layers: 2}}", "model.decoder: init_from (a) brings the whole model"),
    ("data: {train: {path: a}}", "data.train must be str or a list; got {'path': 'a'}"),
    ("data: {train: [a]}", "data.train[0] must be a mapping of settings; got 'a'"),
    ("data: {train: [{weight: 1}]}", "data.train[0].path is not given"),
    ("data: {train: [{path: a, weight: 0}]}", "data.train[0].weight must be above 0; got 0"),
    (
        "data: {train: [{path: a, weight: 1}, {path: b}]}",
        "data.train: 1 of 2 sources have a weight; give all sources one, or none",
    ),
    ("data: {train: [{path: a, columns: 3}]}", "data.train[0].columns must be a mapping; got 3"),
    (
        "data: {train: [{path: a, columns: {text: 3}}]}",
        "data.train[0].columns.text must be of type str; got 3",
    ),
    ("data: {train: [{path: a, columns: {3: a}}]}", "data.train[0].columns must be of type str; got 3"),
    (
        "data: {train: [{path: a, columns: {txt: a}}]}",
        "data.train[0].columns.txt: no key of a record; did you mean text?",
    ),
    ("data: {train: [{path: a, columns: {text: ''}}]}", "data.train[0].columns.text is empty; give the name"),
    (
        "data: {train: [{path: a, streaming: true}]}",
        "data.train[0].streaming: its rows are not counted; give all sources a weight",
    ),
    (
        "data: {train: [{path: a, weight: 1}], replay: b}",
        "data.replay[0].weight: needed, as train has weights",
    ),
    ("data: {train: a, replay: [{path: b, weight: 2}]}", "data.replay[0].weight: 2.0; train has no weights"),
    (
        "data: {train: a, replay: [{path: b, streaming: true}]}",
        "data.replay[0].streaming: a share of its rows needs their number; put it into train",
    ),
    ("data: {replay_share: 0}", "data.replay_share must be above 0, at most 1; got 0"),
    ("data: {replay_share: 80}", "data.replay_share must be above 0, at most 1; got 80"),
    (
        "data: {validation: [{path: a, weight: 2}]}",
        "data.validation[0].weight: 2.0; here each row counts once",
    ),
    ("data: {validation: [{path: a, streaming: true}]}", "data.validation[0].streaming: its rows are taken"),
    ("data: {validation_rows: 0}", "data.validation_rows must be at least 1; got 0"),
    ("data: {on_error: stop}", "data.on_error must be one of 'raise', 'skip'; got 'stop'"),
    ("data: {packing_length: 8}", "data.packing_length must be 0 or at least 16; got 8"),
    ("data: {max_tokens: 3}", "data.max_tokens must be at least 16; got 3"),
    ("data: {num_workers: -1}", "data.num_workers must not be negative; got -1"),
    ("optimizer: {learning_rate: 0}", "optimizer.learning_rate must be above 0; got 0"),
    ("optimizer: {warmup_ratio: 2}", "optimizer.warmup_ratio must be in 0..1; got 2"),
    ("optimizer: {adam_beta2: 1}", "optimizer.adam_beta2 must be in 0..1, without 1; got 1"),
    ("optimizer: {weight_decay: -1}", "optimizer.weight_decay must not be negative; got -1"),
    ("parts: {decoder: {learning_rate: -1}}", "parts.decoder.learning_rate must be above 0; got -1"),
    ("parts: {vision: {weight_decay: -1}}", "parts.vision.weight_decay must not be negative; got -1"),
    (
        "parts: {vision: {trainable: false}, projector: {trainable: false}, decoder: {trainable: false}}",
        "parts.decoder.trainable is false, as in all parts; one must train",
    ),
    (
        "train: {batch_size: 10, per_device_train_batch_size: 4}",
        "train.batch_size (10) must be a multiple of train.per_device_train_batch_size (4)",
    ),
    ("train: {batch_size: 0}", "train.batch_size must be at least 1; got 0"),
    ("train: {seed: -1}", "train.seed must not be negative; got -1"),
    ("train: {num_train_epochs: 0}", "train.num_train_epochs must be above 0; got 0"),
    ("train: {save_steps: 0}", "train.save_steps must be at least 1; got 0"),
    (
        "train: {char_loss_weight: 1}\nparts: {vision: {trainable: false}}",
        "train.char_loss_weight (1.0) teaches parts.vision",
    ),
    (
        "train: {token_char_loss_weight: 1}\nparts: {vision: {trainable: false}}",
        "train.token_char_loss_weight (1.0) teaches parts.vision",
    ),
    (
        "train: {attention_loss_weight: 1, recompute: true}",
        "train.attention_loss_weight (1.0) looks at attention that train.recompute does not keep",
    ),
    (
        "train: {seed: 1}\noptim: {lr: 1}\ntrain: {steps: 3}",
        "train (line 3) stands there a second time; keep one of them",
    ),
    (
        "train:\n  seed: 1\n  max_steps: 3\n  seed: 2",
        "seed (line 4) stands there a second time; keep one of them",
    ),
    (
        "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(
            f"{n}: &{n} [{', '.join([f'*{p}'] * 10)}]\n" for p, n in zip("abcdef", "bcdefg", strict=True)
        ),
        "its aliases stand for 12345685 values; write the values out",  # 1 + 7 + 11 + 111 + ... + 11,111,111
    ),
    ("train: &a {seed: *a}", "the value of line 1 holds an alias of itself; write the values out"),
]


def test_values_that_two_sections_share_are_written_once(load):
    shared = load(
        "parts:\n"
        "  vision: &slow {learning_rate: 0.5, weight_decay: 0.1}\n"
        "  projector: {<<: *slow, weight_decay: 0}"
    )
    written = load(
        "parts:\n"
        "  vision: {learning_rate: 0.5, weight_decay: 0.1}\n"
        "  projector: {learning_rate: 0.5, weight_decay: 0}"
    )
    assert shared == written


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[text.replace("\n", " ") for text, _ in WRONG])
def test_a_wrong_config_is_refused_by_file_and_key(load, tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert str(caught.value).startswith(f"{tmp_path}/run.yaml: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=1", "'seed=1': an override reads section.key=value"),
        ("train.seed", "'train.seed': an override reads section.key=value"),
        ("train.seed.x=1", "'train.seed.x=1': seed is a value; it has no keys below it"),
        ("train.sed=1", "train.sed: no such setting; did you mean seed?"),
        ("data.train=[a", "'data.train=[a': '[a' is not YAML; expected a value"),
        ("optimizer.learning_rate=", "optimizer.learning_rate must be a number; got ''"),
    ],
)
def test_a_wrong_override_is_refused(load, tmp_path, override, message):
    with pytest.raises(ConfigError) as caught:
        load("train: {seed: 3}", override)
    assert str(caught.value).startswith(f"{tmp_path}/run.yaml: {message}")


def test_yaml_that_cannot_be_read_is_refused_by_its_line(load, tmp_path):
    with pytest.raises(
        ConfigError, match=r"run\.yaml:3: not YAML \(expected ',' or '}'.*\); expected key: value"
    ):
        load("optimizer: {learning_rate: 1}\ntrain: {seed: 1\n")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none.yaml: no such file; give a YAML file such as configs/"):
        load_config(tmp_path / "none.yaml")


def test_a_file_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "run.yaml").write_bytes(b"train: {output_dir: \xff}")
    with pytest.raises(ConfigError, match=r"run.yaml: is not UTF-8 \('utf-8' codec"):
        load_config(tmp_path / "run.yaml")


def test_sizes_may_stand_beside_a_decoder_but_not_beside_a_whole_model():
    assert build(ModelConfig, {"decoder_from": "x", "decoder": {"layers": 2}}).decoder.layers == 2
    assert build(ModelConfig, {"init_from": "x", "tokenizer": "t"}).init_from == "x"


# ---- which differences make another run


def test_differences_name_what_is_computed_and_not_how_fast():
    one = build(
        Config,
        {"train": {"seed": 1, "threads": 2}, "optimizer": {"learning_rate": 1}, "data": {"num_workers": 3}},
    )
    other = build(
        Config,
        {
            "train": {"seed": 2, "per_device_train_batch_size": 2, "save_steps": 7},
            "optimizer": {"learning_rate": 1},
        },
    )
    assert differences(one, one) == []
    assert differences(one, other) == ["train.seed: 1, not 2"]


def test_another_validation_is_the_same_run_and_another_replay_is_not():
    one = build(Config, {"data": {"train": "a", "replay": "b", "validation": "c"}})
    other = build(Config, {"data": {"train": "a", "replay": "d", "validation_rows": 7, "replay_share": 1}})
    assert differences(one, other) == ["data.replay: 'b', not 'd'", "data.replay_share: 0.8, not 1.0"]


def test_differences_look_into_parts_and_sources():
    one = build(Config, {"parts": {"vision": {"learning_rate": 1}}, "data": {"train": "a"}})
    other = build(Config, {"parts": {"vision": {"trainable": False}}, "data": {"train": "b"}})
    assert differences(one, other) == [
        "data.train: 'a', not 'b'",
        "parts.vision.trainable: True, not False",
        "parts.vision.learning_rate: 1.0, not None",
    ]


@pytest.mark.parametrize("depth", [101, 100_000])
def test_yaml_nested_over_100_brackets_deep_is_refused_within_a_second(tmp_path, processor_seconds, depth):
    path, before = tmp_path / "run.yaml", processor_seconds()
    path.write_text("train: " + "[" * depth + "]" * depth)
    with pytest.raises(ConfigError, match=r"run.yaml: not YAML that can be read \(is nested too deeply\)"):
        load_config(path)
    assert processor_seconds() - before < 1
    path.write_text("train: " + "[" * 100 + "]" * 100)
    with pytest.raises(ConfigError, match="run.yaml: train"):
        load_config(path)
