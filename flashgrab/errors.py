"""What can break, as exceptions. Expected refusals are values (see outcomes.py), never these."""


class FlashgrabError(Exception):
    """Something broke. `retriable` says whether the same call may succeed later."""

    retriable = False


class StoreUnavailable(FlashgrabError):
    """Redis did not answer, or the connection broke; the command may or may not have run."""

    retriable = True


class StoreRefused(FlashgrabError):
    """Redis answered with an error (out of memory, read-only, a script fault)."""


class BrokerUnavailable(FlashgrabError):
    """Kafka did not acknowledge in time; the records may or may not be in the log."""

    retriable = True


class LedgerUnavailable(FlashgrabError):
    """PostgreSQL did not answer; the transaction may or may not have committed."""

    retriable = True


class StaleWriter(FlashgrabError):
    """Another worker has moved the offsets meanwhile; nothing of this transaction was kept."""

    retriable = True


class DefinitionInvalid(FlashgrabError):
    """A campaign definition is wrong. The message names the field and what was expected."""


class OperationRefused(FlashgrabError):
    """A management operation does not fit the campaign's state. The message says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
