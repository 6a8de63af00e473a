"""Experiment trackers beside VisualDL: scalars, pictures, texts, the config and a final table of a run.

paddlenlp's own callbacks for TensorBoard and W&B know scalars only, and ask a model for a config of
transformers' kind. Without an account every tracker writes into the run's folder and asks nobody.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from paddlenlp.trainer import TrainerCallback
from paddlenlp.trainer.integrations import rewrite_logs
from visualdl import LogWriter

from got_train.config.schema import Config
from got_train.errors import RequirementError

from .run_files import TRACKERS_FILE

PROJECT = "got_train"
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "swanlab": "swanlab", "mlflow": "mlflow"}


class TensorBoard:
    def __init__(self, folder: Path, name: str, config: Mapping[str, Any], run_id: str) -> None:
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"))
        self.add_text("config", f"```json\n{json.dumps(config, indent=1)}\n```", 0)

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def add_image(self, name: str, image: np.ndarray, step: int) -> None:
        self.writer.add_image(name, image, step, dataformats="HWC")

    def add_text(self, name: str, text: str, step: int) -> None:
        self.writer.add_text(name, text, step)

    def finish(self) -> None:
        self.writer.close()


class WandB:
    """Online where an account is known or WANDB_MODE says so; else `wandb sync` sends it later."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any], run_id: str) -> None:
        import wandb

        known = os.environ.get("WANDB_MODE") or ("online" if wandb.api.api_key else "offline")
        self.wandb = wandb
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            dir=str(folder),
            config=dict(config),
            id=run_id,
            resume="allow",
            mode=known,
        )
        self.step = 0

    def add_scalars(self, values: Mapping[str, Any], step: int) -> None:
        self.step = max(self.step, step)  # W&B drops what is logged of a step before the last
        self.run.log(dict(values), step=self.step)

    def add_image(self, name: str, image: np.ndarray, step: int) -> None:
        self.add_scalars({name: self.wandb.Image(image)}, step)

    def add_text(self, name: str, text: str, step: int) -> None:
        self.add_scalars({name: self.wandb.Html(f"<pre>{_escaped(text)}</pre>")}, step)

    def finish(self) -> None:
        self.run.finish()


class SwanLab:
    """In the cloud where SWANLAB_API_KEY or SWANLAB_MODE says so; else `swanlab sync` sends it later."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any], run_id: str) -> None:
        import swanlab

        known = os.environ.get("SWANLAB_MODE") or (
            "cloud" if os.environ.get("SWANLAB_API_KEY") else "offline"
        )
        self.swanlab = swanlab
        swanlab.init(
            project=os.environ.get("SWANLAB_PROJECT", PROJECT),
            experiment_name=name,
            config=dict(config),
            logdir=str(folder / "swanlab"),
            mode=known,
        )

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        self.swanlab.log(dict(values), step=step)

    def add_image(self, name: str, image: np.ndarray, step: int) -> None:
        self.swanlab.log({name: self.swanlab.Image(image)}, step=step)

    def add_text(self, name: str, text: str, step: int) -> None:
        self.swanlab.log({name: self.swanlab.Text(text)}, step=step)

    def finish(self) -> None:
        self.swanlab.finish()


class MLflow:
    """At MLFLOW_TRACKING_URI, or in the run's folder."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any], run_id: str) -> None:
        import mlflow

        # MLflow 3 wants a database; a folder needs no package more, and `mlflow ui` shows it
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        uri = os.environ.get("MLFLOW_TRACKING_URI") or (folder / "mlruns").resolve().as_uri()
        mlflow.set_tracking_uri(uri)
        self.client = mlflow.MlflowClient(uri)
        experiment = self.client.get_experiment_by_name(PROJECT)
        experiment_id = experiment.experiment_id if experiment else self.client.create_experiment(PROJECT)
        known = self.client.search_runs([experiment_id], f"tags.got_train_id = '{run_id}'")
        if known:  # a run that is resumed goes on
            self.id = known[0].info.run_id
            self.client.update_run(self.id, "RUNNING")
        else:
            tags = {"got_train_id": run_id}
            self.id = self.client.create_run(experiment_id, run_name=name, tags=tags).info.run_id
            self.client.log_dict(self.id, dict(config), "config.json")

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.client.log_metric(self.id, name, value, step=step)

    def add_image(self, name: str, image: np.ndarray, step: int) -> None:
        self.client.log_image(self.id, image, f"{name}/{step}.png")

    def add_text(self, name: str, text: str, step: int) -> None:
        self.client.log_text(self.id, text, f"{name}/{step}.md")

    def finish(self) -> None:
        self.client.set_terminated(self.id)


TRACKERS: dict[str, Callable[..., Any]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "swanlab": SwanLab,
    "mlflow": MLflow,
}


class Trackers(TrainerCallback):
    """Those of train.report_to, on the first process. `finish` is to be called however the run ends."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.names = [name for name in config.train.report_to if name in TRACKERS]
        self.open: list[Any] = []
        for name in self.names:
            if importlib.util.find_spec(PACKAGES[name]) is None:
                raise RequirementError(
                    f"train.report_to {name}: {PACKAGES[name]} is not installed; use pip install "
                    f"got_train[trackers], or leave {name} out"
                )

    def on_train_begin(self, args: object, state: object, control: object, **kwargs: object) -> None:
        if not state.is_world_process_zero or self.open:
            return
        folder = Path(self.config.train.output_dir)
        settings = json.loads(json.dumps(dataclasses.asdict(self.config), default=str))
        run_id = _run_id(folder)
        for name in self.names:
            self.open.append(TRACKERS[name](folder, folder.resolve().name, settings, run_id))

    def on_log(
        self, args: object, state: object, control: object, logs: dict | None = None, **kwargs: object
    ) -> None:
        values = {
            name: value for name, value in rewrite_logs(logs or {}).items() if isinstance(value, (int, float))
        }
        for tracker in self.open:
            tracker.add_scalars(values, state.global_step)

    def add_text(self, name: str, text: str, step: int) -> None:
        for tracker in self.open:
            tracker.add_text(name, text, step)

    def finish(self) -> None:
        while self.open:
            self.open.pop().finish()


class Writers:
    """VisualDL's writer and the trackers, written to as if they were the former."""

    def __init__(self, writer: LogWriter, trackers: Trackers | None) -> None:
        self.writer, self.trackers = writer, [] if trackers is None else trackers.open

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.writer.add_scalar(name, value, step)
        for tracker in self.trackers:
            tracker.add_scalars({name: value}, step)

    def add_image(self, name: str, image: np.ndarray, step: int) -> None:
        self.writer.add_image(name, image, step)
        for tracker in self.trackers:
            tracker.add_image(name, image, step)

    def add_text(self, name: str, text: str, step: int) -> None:
        self.writer.add_text(name, text, step)
        for tracker in self.trackers:
            tracker.add_text(name, text, step)

    def close(self) -> None:
        """VisualDL's only: the trackers hear the final table too."""
        self.writer.close()


def last_values(log_history: list[Mapping[str, Any]]) -> str:
    """A table in Markdown of what was logged last under each name."""
    last: dict[str, float] = {}
    for row in log_history:
        last |= {name: value for name, value in row.items() if isinstance(value, (int, float))}
    lines = [f"| {name} | {value:.6g} |" for name, value in last.items()]
    return "\n".join(["| name | last value |", "|---|---|", *lines])


def _run_id(folder: Path) -> str:
    """The same for a run and for what goes on from it; it goes with the folder."""
    file = folder / TRACKERS_FILE
    if not file.exists():
        file.write_text(secrets.token_hex(8) + "\n", encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
