"""Contacts that a new sandbox begins with. The events in `examples/events` speak of some of them."""

from schemas.message import JsonObject


def _contact(
    contact_id: str, email: str, name: str, company: str, status: str, tags: list[str], employees: int
) -> JsonObject:
    first_name, _, last_name = name.partition(" ")
    return {
        "id": contact_id,
        "email": email,
        "first_name": first_name,
        "last_name": last_name,
        "company": company,
        "status": status,
        "tags": tags,
        "custom_fields": {"employees": employees},
    }


SEED_CONTACTS: tuple[JsonObject, ...] = (
    _contact(
        "7b1f0c52-3d0e-4a67-9a51-0f6c2f1d8e01",
        "maya.okafor@lindqvist.example.com",
        "Maya Okafor",
        "Lindqvist Logistics",
        "lead",
        ["website", "operations"],
        240,
    ),
    _contact(
        "7b1f0c52-3d0e-4a67-9a51-0f6c2f1d8e02",
        "tomas.lindqvist@lindqvist.example.com",
        "Tomas Lindqvist",
        "Lindqvist Logistics",
        "active",
        ["management"],
        240,
    ),
    _contact(
        "7b1f0c52-3d0e-4a67-9a51-0f6c2f1d8e03",
        "ines.carvalho@harbourdental.example.com",
        "Ines Carvalho",
        "Harbour Dental Group",
        "customer",
        ["renewal"],
        85,
    ),
    _contact(
        "7b1f0c52-3d0e-4a67-9a51-0f6c2f1d8e04",
        "daniel.frey@freyjoinery.example.com",
        "Daniel Frey",
        "Frey Joinery",
        "lead",
        ["trade fair"],
        4,
    ),
    _contact(
        "7b1f0c52-3d0e-4a67-9a51-0f6c2f1d8e05",
        "priya.nair@stonebridge.example.com",
        "Priya Nair",
        "Stonebridge Property",
        "lead",
        ["referral"],
        130,
    ),
    _contact(
        "7b1f0c52-3d0e-4a67-9a51-0f6c2f1d8e06",
        "anna.kowalska@stonebridge.example.com",
        "Anna Kowalska",
        "Stonebridge Property",
        "inactive",
        [],
        130,
    ),
)
