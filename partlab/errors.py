"""What can go wrong on this side of the wire; each error knows the exit status of `part`.

::

    ClientError                 1
    ├── UsageError              2   a file, option or run name that cannot be meant
    ├── Unreachable             3   nothing answers
    │   └── NotALab             3   something answers that is no lab of this version
    ├── UnusableToken           3   a token with characters that no token has
    ├── Defect                 70   `part` itself failed
    ├── DigestMismatch          1   a download is not what the lab says it is
    ├── LabBusy                 1   another `part up` holds the state folder
    ├── LabBroken               1   a part of the embedded lab does not start
    └── Refused                 1   the lab answered with a problem
        ├── SpecRefused         2   400, 422: `errors` name the fields
        ├── NotSignedIn         3   401
        ├── NotAllowed          1   403
        ├── NoSuchThing         2   404
        ├── Contradiction       1   409, 412
        ├── Overloaded          3   429, 502, 503, 504, after retries
        └── LabFailed           1   any other 5xx
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from domain.errors import FieldError


class ClientError(Exception):
    """Base of the tree."""

    exit_status: ClassVar[int] = 1


class UsageError(ClientError):
    """What was typed cannot be meant."""

    exit_status = 2


class Unreachable(ClientError):
    """No lab answers there."""

    exit_status = 3


class NotALab(Unreachable):
    """What answers there is no lab, or one of another version."""


class UnusableToken(ClientError):
    """The token cannot be sent; the message does not hold it."""

    exit_status = 3


class Defect(ClientError):
    """An error that nobody foresaw."""

    exit_status = 70  # EX_SOFTWARE of sysexits.h


class DigestMismatch(ClientError):
    """The downloaded bytes do not have the hash the lab recorded."""


class LabBusy(ClientError):
    """The state folder belongs to a lab that runs."""


class LabBroken(ClientError):
    """The embedded lab cannot start; the message says what to do."""


class Refused(ClientError):
    """The lab answered with a problem document (RFC 9457)."""

    def __init__(
        self, status: int, code: str, detail: str, errors: Sequence[FieldError] = ()
    ) -> None:
        self.status, self.code, self.detail = status, code, detail
        self.errors = tuple(errors)
        """Which fields are wrong and what is allowed there."""
        super().__init__(detail)


class SpecRefused(Refused):
    """The lab does not understand the request."""

    exit_status = 2


class NotSignedIn(Refused):
    """The token is missing, wrong or revoked."""

    exit_status = 3


class NotAllowed(Refused):
    """This user may not do that."""


class NoSuchThing(Refused):
    """There is no such run, file or user."""

    exit_status = 2


class Contradiction(Refused):
    """What is stored does not allow it, such as cancelling a finished run."""


class Overloaded(Refused):
    """The lab cannot answer just now."""

    exit_status = 3


class LabFailed(Refused):
    """The lab has a defect; its log has the details."""


BY_STATUS: Mapping[int, type[Refused]] = {
    400: SpecRefused,
    401: NotSignedIn,
    403: NotAllowed,
    404: NoSuchThing,
    409: Contradiction,
    412: Contradiction,
    422: SpecRefused,
    429: Overloaded,
    502: Overloaded,
    503: Overloaded,
    504: Overloaded,
}


def refusal(status: int, code: str, detail: str, errors: Sequence[FieldError] = ()) -> Refused:
    """Return the error for an HTTP status."""
    kind = BY_STATUS.get(status, LabFailed if status >= 500 else Refused)
    return kind(status, code, detail, errors)
