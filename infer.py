"""Read pages with a GOT model: infer.py --model_name_or_path CHECKPOINT --image_file PAGE; as `got infer`."""

from got_train.cli.exits import leave
from got_train.cli.infer import main

if __name__ == "__main__":
    leave(main())
