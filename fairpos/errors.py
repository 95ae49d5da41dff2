"""Every error that fairpos raises on purpose, in one tree.

    FairposError
    ├── InvalidRequest           a request, layout or input file that can't be used as it is (also a ValueError)
    │   ├── InvalidLayout        segments, prefix or suffix: empty, overlapping, outside of the ids
    │   └── TooLong              more tokens than the model's context
    ├── UnknownName              a method, ranker, model or preset that isn't registered (also a LookupError)
    ├── InvalidOption            a hyperparameter of a wrong type or outside of its range (also a ValueError)
    ├── InvalidComposition       methods that can't work together, or not for this task
    ├── UnsupportedModel         an architecture on which an attention method would not be exact
    ├── UnsupportedBackend       a backend that lacks what a method needs
    ├── ModelUnavailable         weights that can't be found, fetched or verified
    ├── NotCalibrated            a method that needs a profile which is missing or was made for something else
    ├── NonFiniteLogits          the model returned NaN or no finite logit at all
    ├── BackendError             an endpoint failed after its retries
    ├── NoResult                 what came back is of no use, where there is no place for an `Output`'s status
    ├── BrokenPlugin             a module of others that can't be loaded, or registers nothing
    └── MissingDependency        an optional package that isn't installed (also an ImportError)

Each message says what was got and what is allowed. Nothing else is raised for a user's mistake. `PluginWarning` tells
of an installed plugin that was left out because it is broken.
"""


class FairposError(Exception):
    """Base class of all errors in this module."""


class InvalidRequest(FairposError, ValueError):
    """A request, layout or input record can't be used as it is."""


class InvalidLayout(InvalidRequest):
    """Segments, prefix or suffix are empty, overlap, or leave the ids."""


class TooLong(InvalidRequest):
    """The prompt and what is to be generated don't fit into the model's context."""


class UnknownName(FairposError, LookupError):
    """A name that isn't registered; the message offers the nearest one."""


class InvalidOption(FairposError, ValueError):
    """A hyperparameter has a wrong type or lies outside of its range."""


class InvalidComposition(FairposError, ValueError):
    """These methods can't work together, or not for this task."""


class UnsupportedModel(FairposError):
    """An attention method would not be exact on this architecture."""


class UnsupportedBackend(FairposError):
    """The backend lacks a capability that a method or ranker needs."""


class ModelUnavailable(FairposError):
    """Weights can't be found, fetched or verified."""


class NotCalibrated(FairposError):
    """A method needs a profile that is missing or was made for something else."""


class NonFiniteLogits(FairposError):
    """The model returned NaN, or no finite logit at all."""


class BackendError(FairposError):
    """An endpoint failed after its retries.

    Args:
        message: What went wrong.
        http_status: Of its last response; None: there was none.
        retry_after_s: Seconds after which it wants to be asked again; None: it didn't say.
        timed_out: Whether it was silent for too long.
    """

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        retry_after_s: float | None = None,
        timed_out: bool = False,
    ) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.retry_after_s = retry_after_s
        self.timed_out = timed_out


class NoResult(FairposError):
    """What came back holds no result: refused, cut off, unparsable, an error of the endpoint, ...

    Args:
        message: What went wrong.
        status: Of the `Output`.
    """

    def __init__(self, message: str, *, status: str) -> None:
        super().__init__(message)
        self.status = status


class BrokenPlugin(FairposError):
    """A module that was named as a plugin can't be loaded, or registers nothing."""


class PluginWarning(UserWarning):
    """An installed plugin is broken and was left out; the message says which, from which package, and why."""


class MissingDependency(FairposError, ImportError):
    """An optional package isn't installed; the message says which extra brings it."""
