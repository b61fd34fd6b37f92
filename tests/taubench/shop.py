"""The shop of tau-bench's retail tasks, written afresh: its data, and the sixteen things that an agent can do with it.

What a tool says, to the letter, is what the recorded tasks expect; an error begins with "Error: ".
"""

import ast
import copy
import hashlib
import json
import operator
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tests.shared_data import DATA

FOLDER = "tau_retail"
READS = (
    "calculate",
    "find_user_id_by_email",
    "find_user_id_by_name_zip",
    "get_order_details",
    "get_product_details",
    "get_user_details",
    "list_all_product_types",
    "think",
    "transfer_to_human_agents",
)

_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class RefusedError(Exception):
    """What a tool says no with."""


@cache
def _given() -> dict[str, Any]:
    return {name: json.loads((DATA / FOLDER / f"{name}.json").read_text()) for name in ("orders", "products", "users")}


@cache
def _given_text(name: str, key: str) -> str:
    """One entry of the given data as the hash has it; most entries are never changed."""
    return str((key, _hashable(_given()[name][key])))


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((key, _hashable(item)) for key, item in sorted(value.items()))
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value


class Shop:
    """A copy of the shop's data, as far as it is touched. All public methods but `sha256` are tools."""

    def __init__(self) -> None:
        self._given = _given()
        self._own: dict[tuple[str, str], dict[str, Any]] = {}  # copies of what was touched

    def sha256(self) -> str:
        """The sha256 of all data, as the tasks have it: of `str` of nested tuples, sorted by key."""
        rooms = []
        for name in sorted(self._given):
            entries = (
                str((key, _hashable(self._own[name, key]))) if (name, key) in self._own else _given_text(name, key)
                for key in sorted(self._given[name])
            )
            rooms.append(f"({name!r}, ({', '.join(entries)}))")
        return hashlib.sha256(f"({', '.join(rooms)})".encode()).hexdigest()

    # --- looking ----------------------------------------------------------------------------------------------------

    def calculate(self, expression: str) -> str:
        if not all(character in "0123456789+-*/(). " for character in expression):
            raise RefusedError("Error: invalid characters in expression")
        return str(round(float(_value(ast.parse(expression, mode="eval").body)), 2))

    def find_user_id_by_email(self, email: str) -> str:
        return self._user_who(lambda user: user["email"].lower() == email.lower())

    def find_user_id_by_name_zip(self, first_name: str, last_name: str, zip: str) -> str:
        def fits(user: dict[str, Any]) -> bool:
            names = (user["name"]["first_name"].lower(), user["name"]["last_name"].lower())
            return names == (first_name.lower(), last_name.lower()) and user["address"]["zip"] == zip

        return self._user_who(fits)

    def get_order_details(self, order_id: str) -> str:
        return json.dumps(self._order(order_id))

    def get_product_details(self, product_id: str) -> str:
        return json.dumps(self._entry("products", product_id))

    def get_user_details(self, user_id: str) -> str:
        return json.dumps(self._user(user_id))

    def list_all_product_types(self) -> str:
        return json.dumps(dict(sorted((each["name"], each["product_id"]) for each in self._given["products"].values())))

    def think(self, thought: str) -> str:
        return ""

    def transfer_to_human_agents(self, summary: str) -> str:
        return "Transfer successful"

    # --- changing ---------------------------------------------------------------------------------------------------

    def cancel_pending_order(self, order_id: str, reason: str) -> str:
        order = self._order(order_id)
        if order["status"] != "pending":
            raise RefusedError("Error: non-pending order cannot be cancelled")
        if reason not in ("no longer needed", "ordered by mistake"):
            raise RefusedError("Error: invalid reason")
        for payment in list(order["payment_history"]):
            self._refund(order, payment["payment_method_id"], payment["amount"])
        order["status"], order["cancel_reason"] = "cancelled", reason
        return json.dumps(order)

    def exchange_delivered_order_items(
        self, order_id: str, item_ids: Sequence[str], new_item_ids: Sequence[str], payment_method_id: str
    ) -> str:
        order = self._order(order_id)
        if order["status"] != "delivered":
            raise RefusedError("Error: non-delivered order cannot be exchanged")
        more = round(self._price_difference(order, item_ids, new_item_ids), 2)
        self._can_pay(order, payment_method_id, more, "the price difference")
        order["status"] = "exchange requested"
        order["exchange_items"], order["exchange_new_items"] = sorted(item_ids), sorted(new_item_ids)
        order["exchange_payment_method_id"], order["exchange_price_difference"] = payment_method_id, more
        return json.dumps(order)

    def modify_pending_order_address(self, order_id: str, **address: str) -> str:
        order = self._pending(order_id)
        order["address"] = _address(address)
        return json.dumps(order)

    def modify_pending_order_items(
        self, order_id: str, item_ids: Sequence[str], new_item_ids: Sequence[str], payment_method_id: str
    ) -> str:
        order = self._order(order_id)
        if order["status"] != "pending":
            raise RefusedError("Error: non-pending order cannot be modified")
        more = self._price_difference(order, item_ids, new_item_ids)
        self._can_pay(order, payment_method_id, more, "the new item")
        if more > 0:
            self._pay(order, payment_method_id, more)
        else:
            self._refund(order, payment_method_id, -more)
        for item_id, new_id in zip(item_ids, new_item_ids, strict=True):
            item = next(each for each in order["items"] if each["item_id"] == item_id)
            variant = self._entry("products", item["product_id"])["variants"][new_id]
            item["item_id"], item["price"], item["options"] = new_id, variant["price"], variant["options"]
        order["status"] = "pending (item modified)"
        return json.dumps(order)

    def modify_pending_order_payment(self, order_id: str, payment_method_id: str) -> str:
        order = self._pending(order_id)
        history = order["payment_history"]
        if payment_method_id not in self._user(order["user_id"])["payment_methods"]:
            raise RefusedError("Error: payment method not found")
        if len(history) > 1 or history[0]["transaction_type"] != "payment":
            raise RefusedError("Error: there should be exactly one payment for a pending order")
        former, amount = history[0]["payment_method_id"], history[0]["amount"]
        if former == payment_method_id:
            raise RefusedError("Error: the new payment method should be different from the current one")
        self._can_pay(order, payment_method_id, amount, "the order")
        self._pay(order, payment_method_id, amount)
        self._refund(order, former, amount)
        return json.dumps(order)

    def modify_user_address(self, user_id: str, **address: str) -> str:
        user = self._user(user_id)
        user["address"] = _address(address)
        return json.dumps(user)

    def return_delivered_order_items(self, order_id: str, item_ids: Sequence[str], payment_method_id: str) -> str:
        order = self._order(order_id)
        if order["status"] != "delivered":
            raise RefusedError("Error: non-delivered order cannot be returned")
        if payment_method_id not in self._user(order["user_id"])["payment_methods"]:
            raise RefusedError("Error: payment method not found")
        if (
            "gift_card" not in payment_method_id
            and payment_method_id != order["payment_history"][0]["payment_method_id"]
        ):
            raise RefusedError("Error: payment method should be either the original payment method or a gift card")
        owned = [item["item_id"] for item in order["items"]]
        if any(item_ids.count(item_id) > owned.count(item_id) for item_id in item_ids):
            raise RefusedError("Error: some item not found")
        order["status"], order["return_items"] = "return requested", sorted(item_ids)
        order["return_payment_method_id"] = payment_method_id
        return json.dumps(order)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _user_who(self, fits: Callable[[dict[str, Any]], bool]) -> str:
        for user_id, user in self._given["users"].items():
            if fits(self._own.get(("users", user_id), user)):
                return str(user_id)
        raise RefusedError("Error: user not found")

    def _user(self, user_id: str) -> dict[str, Any]:
        return self._entry("users", user_id)

    def _order(self, order_id: str) -> dict[str, Any]:
        return self._entry("orders", order_id)

    def _entry(self, name: str, key: str) -> dict[str, Any]:
        if key not in self._given[name]:
            raise RefusedError(f"Error: {name.removesuffix('s')} not found")
        if (name, key) not in self._own:
            self._own[name, key] = copy.deepcopy(self._given[name][key])
        return self._own[name, key]

    def _pending(self, order_id: str) -> dict[str, Any]:
        """An order that may be changed, also after its items were."""
        order = self._order(order_id)
        if "pending" not in order["status"]:
            raise RefusedError("Error: non-pending order cannot be modified")
        return order

    def _price_difference(self, order: dict[str, Any], item_ids: Sequence[str], new_ids: Sequence[str]) -> float:
        """What new items cost more, not rounded: the recorded histories have it as it is."""
        owned = [item["item_id"] for item in order["items"]]
        for item_id in item_ids:
            if item_ids.count(item_id) > owned.count(item_id):
                raise RefusedError(f"Error: {item_id} not found")
        if len(item_ids) != len(new_ids):
            raise RefusedError("Error: the number of items to be exchanged should match")
        more = 0.0
        for item_id, new_id in zip(item_ids, new_ids, strict=True):
            item = next(each for each in order["items"] if each["item_id"] == item_id)
            variant = self._entry("products", item["product_id"])["variants"].get(new_id)
            if variant is None or not variant["available"]:
                raise RefusedError(f"Error: new item {new_id} not found or available")
            more += variant["price"] - item["price"]
        return more

    def _can_pay(self, order: dict[str, Any], method_id: str, amount: float, what: str) -> None:
        methods = self._user(order["user_id"])["payment_methods"]
        if method_id not in methods:
            raise RefusedError("Error: payment method not found")
        if methods[method_id]["source"] == "gift_card" and methods[method_id]["balance"] < amount:
            raise RefusedError(f"Error: insufficient gift card balance to pay for {what}")

    def _pay(self, order: dict[str, Any], method_id: str, amount: float) -> None:
        self._book(order, method_id, "payment", amount, -amount)

    def _refund(self, order: dict[str, Any], method_id: str, amount: float) -> None:
        self._book(order, method_id, "refund", amount, amount)

    def _book(self, order: dict[str, Any], method_id: str, kind: str, amount: float, to_card: float) -> None:
        entry = {"transaction_type": kind, "amount": amount, "payment_method_id": method_id}
        order["payment_history"].append(entry)
        if "gift_card" in method_id:
            card = self._user(order["user_id"])["payment_methods"][method_id]
            card["balance"] = round(card["balance"] + to_card, 2)


def _address(given: dict[str, str]) -> dict[str, str]:
    return {name: given[name] for name in ("address1", "address2", "city", "state", "country", "zip")}


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _ARITHMETIC[type(op)](_value(left), _value(right))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case _:
            raise RefusedError("Error: invalid expression")
