"""What every payload on the wire is built on."""

from typing import Any

from pydantic import BaseModel, ConfigDict

# Any JSON value. pydantic's own recursive JsonValue costs a Python call a node; what comes in as JSON bytes is JSON.
Json = Any
JsonObject = dict[str, Any]

# The context in which what stands in the log is read: it was checked when it was written, perhaps by an older release,
# on a machine that knew other time zones, and must be readable for ever. Validators that may grow stricter ask for it.
STORED = {"stored": True}


class Message(BaseModel):
    """A payload: frozen, and unknown fields are refused. Ids and time are in its envelope."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null", protected_namespaces=())

    def encode(self) -> bytes:
        """Return the payload as JSON bytes: the same bytes for the same values, fields in the order of the class."""
        return self.__pydantic_serializer__.to_json(self)
