"""Why a delivery is not taken: each is told to its sender in one sentence, without anything of the secret.

DeliveryError
├── MalformedDeliveryError   a header is missing, stands twice, or is not what it has to be
├── BadSignatureError        not signed with one of the hook's secrets, or too long ago
├── UnsupportedMediaError    the body is not plain JSON in UTF-8
├── WrongPayloadError        the body says that it is JSON, and is not such as an agent is given
├── OtherPayloadError        the delivery's id came before, with another body
├── TooManyDeliveriesError   the hook's senders are faster than they may be
└── HookGoneError            the hook was deleted while its delivery was being taken
"""

from schemas.errors import DramacError


class DeliveryError(DramacError):
    """A delivery is refused."""


class MalformedDeliveryError(DeliveryError):
    """A delivery lacks what every delivery of its scheme has, or has it in a form that no sender uses."""


class BadSignatureError(DeliveryError):
    """A delivery is not signed with one of the hook's secrets, or was signed too long ago."""


class UnsupportedMediaError(DeliveryError):
    """A body is not JSON in UTF-8, as it is."""


class WrongPayloadError(DeliveryError):
    """A body says that it is JSON, and is not such as an agent is given."""


class OtherPayloadError(DeliveryError):
    """A delivery's id came before, with another body."""


class TooManyDeliveriesError(DeliveryError):
    """A hook's senders are faster than they may be."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"too many deliveries for this hook: try again in {wait_s} s")
        self.wait_s = wait_s


class HookGoneError(DeliveryError):
    """The hook was deleted while its delivery was being taken."""
