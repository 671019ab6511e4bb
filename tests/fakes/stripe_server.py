"""A stand-in for Stripe on this machine: the endpoints we use, with state, bracketed forms and idempotency keys."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from tests.fakes.stripe_books import Books, Json, Refused

KEY, SECRET = "sk_test_of_the_stand_in", "whsec_of_the_stand_in"
_KINDS = {
    "customers": "customer", "products": "product", "prices": "price", "coupons": "coupon", "invoices": "invoice",
    "charges": "charge", "disputes": "dispute", "refunds": "refund", "events": "event",
    "payment_intents": "payment_intent", "payment_methods": "payment_method", "subscriptions": "subscription",
    "webhook_endpoints": "webhook_endpoint", "sessions": "checkout.session",
    "configurations": "billing_portal.configuration",
}  # fmt: skip


class StripeServer(Books):
    """`with StripeServer() as stripe:`; `stripe.url` is STRIPE_API_URL."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[str, str, Json, dict[str, str]]] = []
        """Method, path, parameters and headers (lower case) of every request."""
        self._answers: dict[str, tuple[str, int, Json]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Desk", (_Desk,), {"stripe": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def forget_keys(self) -> None:
        """More than a day later: Stripe no longer knows which keys were used."""
        with self._lock:
            self._answers.clear()

    def answer(self, verb: str, path: str, form: Json, headers: dict[str, str]) -> tuple[int, Json]:
        """Status and body; a key that was used before gets its first answer, or an error for other parameters."""
        with self._lock:
            self.requests.append((verb, path, json.loads(json.dumps(form)), headers))
            if headers.get("authorization") != f"Bearer {KEY}":
                return 401, {"error": {"type": "invalid_request_error", "message": f"Invalid API Key: {KEY}"}}
            key, sent = headers.get("idempotency-key", ""), json.dumps([verb, path, form], sort_keys=True)
            if verb == "POST" and key in self._answers:
                first, status, body = self._answers[key]
                if first != sent:
                    return 400, {"error": {"type": "idempotency_error", "message": "Keys for idempotent requests …"}}
                return status, body
            try:
                expand = form.pop("expand", [])
                found = self._route(verb, path.strip("/").split("/")[1:], form)
                status, body = 200, json.loads(json.dumps(found))
                for one in expand:
                    self._expand(body, one.split("."))
            except Refused as refusal:
                status, body = refusal.status, {"error": refusal.error}
            if verb == "POST" and key:
                self._answers[key] = (sent, status, body)
            return status, body

    def _route(self, verb: str, parts: list[str], form: Json) -> Json:
        if parts == ["billing_portal", "sessions"]:
            self.find(form["customer"], "customer")
            used = form.get("configuration", "")
            return self.put("billing_portal.session", "bps", url=f"https://billing.stripe.com/p/{used}")
        if parts[0] in ("checkout", "billing_portal"):
            parts = parts[1:]
        if parts[0] == "invoices" and parts[2:] == ["lines"]:
            return self._page(self.lines[parts[1]], form, "/v1/invoices/lines")
        kind = _KINDS[parts[0]]
        if verb == "GET" and len(parts) == 2:
            return self.find(parts[1], kind)
        if verb == "GET":
            return self._list(kind, form)
        if kind == "subscription":
            found = self.find(parts[1], kind)
            return self._end(found) if verb == "DELETE" else self._change(found, form)
        if kind == "customer" and len(parts) == 2 and self.find(parts[1], kind).get("deleted"):
            raise Refused(404, "resource_missing", f"No such customer: '{parts[1]}'")
        if verb == "DELETE":
            return self._remove(self.find(parts[1], kind))
        if len(parts) == 2:
            self.find(parts[1], kind).update({name: _flags(value) for name, value in form.items()})
            return self.find(parts[1], kind)
        if "id" in form and form["id"] in self.objects:
            raise Refused(400, "resource_already_exists", "already exists")
        return getattr(self, f"_create_{kind.replace('.', '_')}", lambda: self._create(kind, form))(
            *([form] if hasattr(self, f"_create_{kind.replace('.', '_')}") else [])
        )

    def _create(self, kind: str, form: Json) -> Json:
        prefix = {"webhook_endpoint": "we", "customer": "cus", "price": "price"}.get(kind, kind)
        extra = {"invoice_settings": {"default_payment_method": None}} if kind == "customer" else {}
        extra = {"secret": "whsec_new", "status": "enabled"} if kind == "webhook_endpoint" else extra
        if kind == "billing_portal.configuration":
            form["features"], extra = _flags(form["features"]), {"active": True}
        if kind == "price":
            form["unit_amount"] = int(form["unit_amount"])
            form["recurring"]["interval_count"] = int(form["recurring"]["interval_count"])
            if self.all("price", lookup_key=form["lookup_key"]):
                raise Refused(400, "", "A price already uses that lookup key.")
        return self.put(kind, prefix, **{**extra, **form})

    def _create_checkout_session(self, form: Json) -> Json:
        customer = form.get("customer") or self._create("customer", {"email": form["customer_email"]})["id"]
        self.find(customer, "customer")
        return self.put(
            "checkout.session", "cs_test", status="open", payment_status="unpaid", mode=form["mode"], customer=customer,
            metadata=form["metadata"], subscription=None, payment_intent=None, asked=form,
            url="https://checkout.stripe.com/c/pay/1",
        )  # fmt: skip

    def _create_payment_intent(self, form: Json) -> Json:
        intent = self.take(form["customer"], int(form["amount"]), form["metadata"], form["payment_method"])
        if intent["last_payment_error"]:
            code = intent["last_payment_error"]["code"]
            raise Refused(402, code, "Your card was declined.", "card_error", payment_intent=intent)
        return intent

    def _create_refund(self, form: Json) -> Json:
        charge = self.find(self.find(form["payment_intent"], "payment_intent")["latest_charge"], "charge")
        form.setdefault("amount", charge["amount"] - charge["amount_refunded"])
        if charge["amount_refunded"] + int(form["amount"]) > charge["amount"]:
            raise Refused(400, "", "Refund amount is greater than unrefunded amount on charge")
        charge["amount_refunded"] += int(form["amount"])
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
        self.tell("charge.refunded", charge)
        return self.put("refund", "re", **{**form, "amount": int(form["amount"]), "status": "succeeded"})

    def _remove(self, customer: Json) -> Json:
        for sub in self.all("subscription", customer=customer["id"]):
            sub["status"] = "canceled"
        kept = {"id": customer["id"], "object": "customer", "deleted": True}
        customer.clear()
        customer.update(kept)
        return kept

    def _end(self, sub: Json) -> Json:
        if sub["status"] == "canceled":
            raise Refused(404, "resource_missing", "No such subscription")
        sub["status"] = "canceled"
        self.tell("customer.subscription.deleted", sub)
        return sub

    def _change(self, sub: Json, form: Json) -> Json:
        if "cancel_at_period_end" in form:
            sub["cancel_at_period_end"] = form["cancel_at_period_end"] == "true"
        if "pause_collection" in form:
            sub["pause_collection"] = form["pause_collection"] or None
        if "items" in form:
            item, price = sub["items"]["data"][0], self.find(form["items"][0]["price"], "price")
            old, item["price"] = item["price"]["unit_amount"], price
            if form["proration_behavior"] == "always_invoice":
                self.bill(sub, "subscription_update", [(-old, True), (price["unit_amount"], True)])
        self.tell("customer.subscription.updated", sub)
        return sub

    def _list(self, kind: str, form: Json) -> Json:
        form = {name: value for name, value in form.items() if name not in ("created", "types", "type")}
        limit, after = int(form.pop("limit", 10)), form.pop("starting_after", None)
        form.pop("active", None)
        if "lookup_keys" in form:
            form["lookup_key"] = form.pop("lookup_keys")[0]
        if kind == "invoice" and "subscription" in form:
            form["subscription_for_filter"] = form.pop("subscription")
        found = self.all(kind, **form)
        if kind == "subscription":
            found = [one for one in found if one["status"] != "canceled"]
        return self._page(found, {"limit": limit, "starting_after": after}, f"/v1/{kind}s")

    @staticmethod
    def _page(found: list[Json], form: Json, url: str) -> Json:
        limit, after = int(form.get("limit", 10)), form.get("starting_after")
        if after:
            found = found[[one["id"] for one in found].index(after) + 1 :]
        return {"object": "list", "data": found[:limit], "has_more": len(found) > limit, "url": url}

    def _expand(self, body: Any, path: list[str]) -> None:
        if isinstance(body, list):
            for one in body:
                self._expand(one, path)
        elif isinstance(body, dict) and path and body.get(path[0]) is not None:
            value = body[path[0]]
            if isinstance(value, str) and path[0] != "data":
                body[path[0]] = json.loads(json.dumps(self.objects[value]))
            self._expand(body[path[0]], path[1:])


def _flags(value: Any) -> Any:
    """What a form says as text, as Stripe shows it again."""
    if isinstance(value, dict):
        return {name: _flags(one) for name, one in value.items()}
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def parse(text: str) -> Json:
    """`a[0][b]=c` as nested objects and lists."""
    found: Json = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        first, *rest = re.findall(r"[^\[\]]+|(?<=\[)(?=\])", name)
        here = found
        for word in [first, *rest][:-1]:
            here = here.setdefault(word, {})
        here[rest[-1] if rest else first] = value
    return {name: _listed(value) for name, value in found.items()}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: _listed(one) for name, one in value.items()}
    return list(inner.values()) if inner and all(name.isdigit() for name in inner) else inner


class _Desk(BaseHTTPRequestHandler):
    stripe: StripeServer
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        sent = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, body = self.stripe.answer(self.command, parts.path, parse(sent or parts.query), headers)
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _serve

    def log_message(self, *_: object) -> None:
        """Quiet."""
