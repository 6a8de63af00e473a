"""One process of a tensor-parallel group: split_decoder.py FOLDER reads weights.npz and inputs.npz, writes
result-RANK.npz with the loss and the gradients of its parts."""

import sys
from pathlib import Path

import numpy as np
import paddle

sys.path.insert(0, str(Path(__file__).parents[1]))
from got_train.checkpoint.weights import load_model
from got_train.modeling.tensor_parallel import split


def main(folder: Path) -> None:
    paddle.distributed.init_parallel_env()
    rank = paddle.distributed.get_rank()
    model = load_model(folder / "model")
    split(model.decoder, rank, paddle.distributed.get_world_size())
    loss = model(**{name: paddle.to_tensor(value) for name, value in np.load(folder / "inputs.npz").items()})
    loss.loss_sum.backward()
    gradients = {name: each.grad.numpy() for name, each in model.named_parameters()}
    np.savez(folder / f"result-{rank}.npz", loss=loss.loss_sum.numpy(), **gradients)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
