"""What can go wrong in the operator, as one tree.

OperatorError
├── InvalidSpec          a VLLMModel cannot be followed: each fault names its field
├── NotEstimable         what is known of a model does not tell how much memory it takes
├── SettingsError        an option has a wrong value
├── SignaturesError      the operator's own table of known failures is wrong: each fault names its signature
├── LoginError           no way to the API server is configured
├── StoreWentBack        what the API server holds is older than what it held before
├── NotLeading           another replica is the one that writes, or may be by now
├── TrialFailed          what `helm test` tries has not come about
├── NoStreamedList       a watch that was to begin with a list cannot, or not here: list in pages
└── ApiError             the API server did not do what was asked
    ├── ApiUnavailable   it did not answer, or cannot now: try again
    │   └── ApiSilent    it did not answer at all: whatever is asked next will not be answered either
    ├── ApiConflict      somebody else owns a field, or the object is another one by now
    ├── ApiNotFound      there is no such object
    │   └── ApiNotServed its kind is not served: its definition is not there, or not yet
    └── ApiRefused       it will not do it, and says why
        ├── ApiInvalid   the object as a whole breaks a rule of its kind
        └── ApiEnding    the namespace is being deleted, and takes in nothing new
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class OperatorError(Exception):
    """Base of all errors of the operator."""


class InvalidSpec(OperatorError):  # noqa: N818 # named for the state, as the status says it
    """A VLLMModel that cannot be followed until somebody edits it."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        """Everything that is wrong, each with the path of its field."""
        super().__init__("; ".join(self.faults))


class NotEstimable(OperatorError):  # noqa: N818 # named for the state, as the command line says it
    """What is known of a model does not tell how much memory it takes; the message says what would."""


class SettingsError(OperatorError):
    """An option of the operator has a value that it cannot have."""


class SignaturesError(OperatorError):
    """The signatures of known failures, which are part of the operator, have another form than they must have."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


class LoginError(OperatorError):
    """Neither a service account nor a kubeconfig tells how to reach the API server."""


class NotLeading(OperatorError):  # noqa: N818 # named for the state, as the log says it
    """Another replica of the operator is the one that writes, or may be by now: nothing was sent."""


class StoreWentBack(OperatorError):  # noqa: N818 # named for the state, as the log says it
    """What the API server holds is older than what it held before: the versions of objects say nothing any more."""


class NoStreamedList(OperatorError):  # noqa: N818 # named for the state, as client-go falls back from it
    """A watch that was to begin with a list of what is there cannot, or not through what stands between."""


class TrialFailed(OperatorError):  # noqa: N818 # named for the state, as `helm test` says it
    """The model of `helm test` is not served, or completes nothing; the message says how far it came."""


class ApiError(OperatorError):
    """The API server did not do what was asked."""

    def __init__(self, what: str, message: str) -> None:
        super().__init__(f"{what}: {message}")
        self.message = message


class ApiUnavailable(ApiError):  # noqa: N818 # named for the state, as the HTTP status is
    """The API server did not answer, or asks to come back later."""

    def __init__(self, what: str, message: str, *, retry_after_seconds: float = 0.0) -> None:
        super().__init__(what, message)
        self.retry_after_seconds = retry_after_seconds
        """How long the API server asks to be left alone; 0 where it does not say."""


class ApiSilent(ApiUnavailable):
    """The API server did not answer at all: what is asked next will most likely not be answered either."""


class ApiConflict(ApiError):  # noqa: N818 # as above
    """Somebody else owns a field, or the object is another one by now."""


class ApiNotFound(ApiError):  # noqa: N818 # as above
    """There is no such object."""


class ApiNotServed(ApiNotFound):
    """The API server does not serve the kind: its CustomResourceDefinition is not there, or not yet."""


class ApiRefused(ApiError):  # noqa: N818 # as above
    """The API server will not do it, whoever tries again: the message is its own."""


class ApiInvalid(ApiRefused):
    """The object that would come of it breaks a rule of its kind."""

    def __init__(self, what: str, message: str, *, fields: tuple[str, ...] = ()) -> None:
        super().__init__(what, message)
        self.fields = fields
        """Paths of what breaks it, as the API server names them: `status.conditions[3].reason`."""


class ApiEnding(ApiRefused):
    """The namespace is being deleted with all that is in it, and takes in nothing new."""
