"""data_tools.build on a cluster: the same parts of the same recipe, as tasks of Ray instead of processes.

Ray is optional. Every machine must see the recipe's folders, and this package, at the same paths.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from got_train.errors import DrawingError

from . import build
from .arguments import positive
from .recipe import RecipeError, load_recipe


def run_on_ray(parts: list[build.Part], workers: int) -> Iterator[tuple[build.Part, str] | None]:
    """The parts as tasks of one CPU each; Ray itself repeats those whose machine is lost."""
    import ray

    task = ray.remote(num_cpus=1)(build.make_part)
    waiting = {task.remote(part): part for part in parts}
    try:
        while waiting:
            ended, _ = ray.wait(list(waiting), timeout=build.TICK)
            for reference in ended:
                yield waiting.pop(reference), ray.get(reference)
            yield None
    finally:
        for reference in waiting:
            ray.cancel(reference)


@contextlib.contextmanager
def cluster(address: str | None, cpus: int | None) -> Iterator[int]:
    """A connection to a cluster, or one of this machine's own; gives its number of CPUs."""
    try:
        import ray
    except ModuleNotFoundError:
        raise DrawingError("python package ray: not installed; `pip install ray` brings it") from None
    try:
        ray.init(address=address, num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    except ConnectionError as error:
        raise DrawingError(f"--address {address}: no cluster there; `ray start` makes one") from error
    try:
        yield int(ray.cluster_resources().get("CPU", 1))
    finally:
        ray.shutdown()


def main(arguments: list[str] | None = None) -> int:
    options = build.parser("python -m data_tools.build_on_ray")
    options.add_argument("--address", help="of the cluster, or auto (default: one on this machine alone)")
    options.add_argument("--num-cpus", type=positive, help="of this machine, without --address")
    args = options.parse_intermixed_args(arguments)
    try:
        recipe = load_recipe(args.config, args.overrides)
        with cluster(args.address, args.num_cpus) as cpus:
            return build.finish(build.Build(recipe, run_on_ray, cpus), args.strict)
    except (RecipeError, DrawingError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
