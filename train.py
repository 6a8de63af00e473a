"""Train a GOT model: train.py CONFIG [section.key=value ...]; the same as `got train`."""

from got_train.cli.exits import leave
from got_train.cli.train import main

if __name__ == "__main__":
    leave(main())
