"""python -m got_train is the command `got`."""

from got_train.cli.__main__ import main
from got_train.cli.exits import leave

if __name__ == "__main__":
    leave(main())
