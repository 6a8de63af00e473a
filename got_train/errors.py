"""What a user can mend: every refusal of the project is one of these. Knows nothing of ours.

A message reads `<where>: <what is wrong, with the value>; expected <x>` or `; use <x>`. The commands turn any
GotError into one line on stderr and an exit code (got_train.cli.exits); everything else is a fault of ours.
"""


class GotError(ValueError):
    """The root: input, settings or a machine that the project cannot work with."""


class ConfigError(GotError):
    """A setting that does not exist or cannot be."""


class UsageError(GotError):
    """Options of a command that do not go together."""


class RequirementError(GotError):
    """A package, program or processor feature that a command needs is absent."""


class DataError(GotError):
    """Records, label files or folders that cannot be used; data.record has those of one row and one file."""


class ImageError(GotError):
    """A picture or PDF page that cannot be decoded."""


class PromptError(GotError):
    """A question that the prompts have no words for."""


class CheckpointError(GotError):
    """Weights, adapters, tokenizers or their descriptions that cannot be read, or do not fit together."""


class TrainingError(GotError):
    """A run that cannot start, go on or be reported."""


class GenerationError(GotError):
    """Decoding that the rules or the length do not allow."""


class InferenceError(GotError):
    """Pages, jobs, films or calibrations that cannot be read."""


class EvaluationError(GotError):
    """Predictions, benchmarks or scores that cannot be compared."""


class DrawingError(GotError):
    """A picture that the data tools cannot draw as asked, or whose text they cannot be sure of."""


class AnswerError(GotError):
    """An answer that is not what its kind demands: a table, chart, formula, list of spots."""


class RenderingError(GotError):
    """An answer that cannot be drawn or exported."""


class RequestError(GotError):
    """A request to the web page or server that is refused."""
