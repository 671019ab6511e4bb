"""A stand-in for Creem on this machine: the endpoints we use, with state, over real HTTP.

Shapes and states follow docs.creem.io. It is as strict as the documentation allows: a field it does not name, a second
cancel or a resume of what runs on are refused, so that our own idempotency is what makes a repeat succeed.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from tests.fakes.creem_books import PERIOD, Books, Json, iso, now

KEY = "creem_test_key_of_the_stand_in"

_CHECKOUT_FIELDS = {
    *("product_id", "units", "request_id", "success_url", "customer", "metadata", "discount_code", "custom_price"),
    *("affiliate_code", "custom_fields"),
}
_DISCOUNT_FIELDS = {
    *("name", "code", "type", "amount", "percentage", "currency", "expiry_date", "max_redemptions", "duration"),
    *("duration_in_months", "applies_to_products"),
}


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status, self.message = status, message


class CreemServer(Books):
    """`with CreemServer() as creem:`; `creem.url` is CREEM_API_URL. What a customer or Creem does are its methods."""

    def __init__(self, tax_percent: int = 0) -> None:
        super().__init__(tax_percent)
        self.requests: list[tuple[str, str, Json, Json]] = []
        """Method, path, query and body of every request that had the key."""
        self._failures: list[tuple[int, bytes, dict[str, str], float]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Desk", (_Desk,), {"creem": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # What happens at Creem

    def fail(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, times: int = 1, seconds: float = 0
    ) -> None:
        """The next requests are answered like this, after a while."""
        self._failures += [(status, body, headers or {}, seconds)] * times

    # Endpoints

    def answer(self, verb: str, path: str, query: Json, body: Json) -> Json:
        """The answer to a request; raises Refused."""
        with self._lock:
            self.requests.append((verb, path, query, body))
            parts = path.strip("/").split("/")[1:]
            routes: dict[tuple[str, ...], Callable[[], Json]] = {
                ("POST", "checkouts"): lambda: self._create_checkout(body),
                ("GET", "checkouts"): lambda: self.shown_checkout(_found(self.checkouts, query.get("checkout_id"))),
                ("GET", "subscriptions"): lambda: self._shown(_found(self.subscriptions, query.get("subscription_id"))),
                ("GET", "discounts"): lambda: _found(self.discounts, query.get("discount_code")),
                ("POST", "discounts"): lambda: self._create_discount(body),
                ("POST", "customers", "billing"): lambda: self._open_portal(body),
                ("GET", "subscriptions", "search"): lambda: _page(
                    [self._shown(one) for one in self.subscriptions.values()], query
                ),
                ("GET", "transactions", "search"): lambda: self._search_transactions(query),
            }
            if (verb, *parts) in routes:
                return routes[(verb, *parts)]()
            if verb == "GET" and parts[:1] == ["products"] and len(parts) == 2:
                return _found(self.products, parts[1])
            if verb == "POST" and parts[:1] == ["subscriptions"] and len(parts) == 3:
                one = _found(self.subscriptions, parts[1])
                acts = {"cancel": self._cancel, "resume": self._resume, "upgrade": self._upgrade, "pause": self._pause}
                acts[parts[2]](one, body)
                one["updated_at"] = iso(now())
                return self._shown(one)
            raise Refused(404)

    def failure(self) -> tuple[int, bytes, dict[str, str], float] | None:
        """What the next request meets instead of an answer."""
        with self._lock:
            return self._failures.pop(0) if self._failures else None

    def _create_checkout(self, body: Json) -> Json:
        _only(body, _CHECKOUT_FIELDS)
        _found(self.products, body.get("product_id"))
        wanted = body.get("customer") or {}
        if set(wanted) not in ({"id"}, {"email"}):
            raise Refused(400, "specify only one of customer.id and customer.email")
        code = body.get("discount_code")
        if code is not None and body["product_id"] not in self.discounts.get(code, {}).get("applies_to_products", []):
            raise Refused(400, "Discount code is not valid for this product")
        if "id" in wanted:
            customer = _found({one["id"]: one for one in self.customers.values()}, wanted["id"])
        else:
            customer = self.customers.setdefault(
                wanted["email"], {"id": self._id("cust"), "object": "customer", "email": wanted["email"]}
            )
        found = {
            "id": self._id("ch"),
            "mode": "test",
            "object": "checkout",
            "status": "pending",
            "product": body["product_id"],
            "units": body.get("units", 1),
            "request_id": body.get("request_id"),
            "success_url": body.get("success_url"),
            "metadata": body.get("metadata", {}),
            "discount_code": code,
            "wanted_customer": customer,
        }
        found["checkout_url"] = f"{self.url}/pay/{found['id']}"
        self.checkouts[found["id"]] = found
        return {**self.shown_checkout(found), "product": found["product"]}

    def _create_discount(self, body: Json) -> Json:
        _only(body, _DISCOUNT_FIELDS)
        if body["code"] in self.discounts:
            raise Refused(400, "Discount code already exists")
        found = {**body, "id": self._id("dis"), "mode": "test", "object": "discount", "status": "active"}
        self.discounts[body["code"]] = found
        return found

    def _open_portal(self, body: Json) -> Json:
        found = _found({one["id"]: one for one in self.customers.values()}, body.get("customer_id"))
        return {"customer_portal_link": f"{self.url}/my-orders/login/{found['id']}"}

    def _search_transactions(self, query: Json) -> Json:
        found = [
            one
            for one in self.transactions.values()
            if query.get("customer_id", one["customer"]) == one["customer"]
            and query.get("order_id", one["order"]) == one["order"]
        ]
        return _page(found[::-1], query)

    def _cancel(self, one: Json, body: Json) -> None:
        _only(body, {"mode", "onExecute"})
        if one["status"] == "canceled" or (one["status"] == "scheduled_cancel" and body["mode"] == "scheduled"):
            raise Refused(400, "Subscription is already canceled")
        one["status"] = {"immediate": "canceled", "scheduled": "scheduled_cancel"}[body["mode"]]
        if one["status"] == "canceled":
            one["canceled_at"] = iso(now())
        self.tell(f"subscription.{one['status']}", self._shown(one))

    def _resume(self, one: Json, _: Json) -> None:
        if one["status"] not in ("paused", "scheduled_cancel"):
            raise Refused(400, "Subscription must be in paused or scheduled_cancel status")
        one["status"] = "active"
        self.tell("subscription.update", self._shown(one))

    def _pause(self, one: Json, body: Json) -> None:
        _only(body, set())
        if one["status"] != "active":
            raise Refused(400, "Subscription must be active")
        one["status"] = "paused"
        self.tell("subscription.paused", self._shown(one))

    def _upgrade(self, one: Json, body: Json) -> None:
        _only(body, {"product_id", "update_behavior"})
        new, old = _found(self.products, body["product_id"]), self.products[one["product"]]
        if new is old:
            raise Refused(400, "Subscription already has this product")
        end = datetime.fromisoformat(one["current_period_end_date"])
        difference = round((new["price"] - old["price"]) * ((end - now()) / PERIOD))
        one["product"] = new["id"]
        if difference > 0:
            self._charge(difference, one["customer"], None, one, (now(), end))
        elif difference < 0:
            self.give_back(one["last_transaction_id"], -difference)
        self.tell("subscription.update", self._shown(one))


class _Desk(BaseHTTPRequestHandler):
    creem: CreemServer
    protocol_version = "HTTP/1.1"
    wbufsize = 65_536  # head and body in one packet, or every answer waits for an acknowledgement

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def _answer(self, verb: str) -> None:
        parts = urlsplit(self.path)
        sent = self.rfile.read(int(self.headers.get("content-length") or 0))
        failure = self.creem.failure()
        if failure is not None:
            status, content, headers, seconds = failure
            time.sleep(seconds)
            self._send(status, content, headers)
            return
        try:
            if self.headers.get("x-api-key") != KEY:
                raise Refused(403)
            found = self.creem.answer(verb, parts.path, dict(parse_qsl(parts.query)), json.loads(sent or b"{}"))
            self._send(200, json.dumps(found).encode())
        except Refused as error:
            said = {"trace_id": "t", "status": error.status, "error": "Refused", "message": [error.message]}
            self._send(error.status, json.dumps(said).encode())

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _found(where: dict[str, Json], key: Any) -> Json:
    if key not in where:
        raise Refused(404, "Not found")
    return where[key]


def _only(body: Json, fields: set[str]) -> None:
    unknown = set(body) - fields
    if unknown:
        raise Refused(400, f"unknown fields: {sorted(unknown)}")


def _page(items: list[Json], query: Json) -> Json:
    number, size = int(query.get("page_number", 1)), int(query.get("page_size", 10))
    last = max(1, -(-len(items) // size))
    paging = {"total_records": len(items), "total_pages": last, "current_page": number}
    paging["next_page"] = number + 1 if number < last else None  # type: ignore[assignment]
    return {"items": items[(number - 1) * size : number * size], "pagination": paging}
