"""Every error that awase raises on purpose, one tree.

    AwaseError
    ├── PictureError            a picture cannot be used: names it, says why and what to do
    │   ├── PictureTooLarge     over the limit of pixels or bytes
    │   └── AddressRefused      an address that the fetcher will not, or could not, fetch
    ├── TextError               a sentence cannot be encoded (not a string, too long under too_long="error")
    ├── CheckpointError         a checkpoint is missing, damaged or of no known layout
    │   ├── UnsafeCheckpoint    it asks for code to be run
    │   └── TensorMismatch      its tensors are not those of the family that it looks like
    ├── DataError               a data set is missing, damaged, or its parts do not fit together
    ├── LibraryError            a picture library is missing, damaged, in use, or of another model
    ├── EngineError             an engine or precision cannot run here
    ├── MissingExtra            an optional package is needed
    └── UsageError              arguments that make no sense together

A message says what was given, what was expected and what to do next. Catch `AwaseError` to catch them all;
anything else that escapes is a bug in awase.
"""


class AwaseError(Exception):
    """Base of every error that awase raises on purpose."""


class PictureError(AwaseError):
    """A picture cannot be used. `source` names it, `reason` says why, `remedy` what to do."""

    def __init__(self, source: str, reason: str, remedy: str) -> None:
        super().__init__(f"{source}: {reason}; {remedy}")
        self.source = source
        self.reason = reason
        self.remedy = remedy

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.source, self.reason, self.remedy)


class PictureTooLarge(PictureError):
    """A picture is over the limit of pixels or bytes; the remedy names the limit and how to lift it."""


class AddressRefused(PictureError):
    """A picture's address will not be fetched (private, wrong scheme) or could not be."""


class TextError(AwaseError):
    """A sentence cannot be encoded."""


class CheckpointError(AwaseError):
    """A checkpoint is missing, damaged or of no known layout."""


class UnsafeCheckpoint(CheckpointError):
    """A checkpoint asks for code to be run. It was not."""


class TensorMismatch(CheckpointError):
    """Tensors are missing, left over or of the wrong shape for the family that a checkpoint looks like."""


class DataError(AwaseError):
    """A data set is missing, damaged, of no known layout, or its parts do not fit together."""


class LibraryError(AwaseError):
    """A picture library is missing, damaged, in use by another writer, or was made by another model."""


class EngineError(AwaseError):
    """An engine or a precision cannot run on this machine or this model."""


class MissingExtra(AwaseError):
    """An optional package is needed; the message names the extra that brings it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs packages that are not installed: pip install 'awase[{extra}]'")


class UsageError(AwaseError):
    """Arguments that make no sense, alone or together."""
