"""One trace from the grab to the ledger; nothing of it where it is off."""

import secrets
import socket
import subprocess
import sys
from typing import Any

import httpx2
import pytest

from flashgrab.tracing import TRACED_MAX, begin_all, read_traces, write_traces
from gateway.lane import Lane
from gateway.serve import protocol_of
from gateway.traced import Declining, Sampler, Traces
from tests.e2e.buyers import Buyer
from tests.e2e.running import Stack, simple, until
from tests.gateway.serving import settings
from tests.observability.collector import Collector
from worker.traced import processing

SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5
WAY = [
    ("POST /v1/campaigns/{id}/grabs", "flashgrab-gateway", SERVER),
    ("EVALSHA", "flashgrab-gateway", CLIENT),
    ("send flashgrab.grabs", "flashgrab-relay", PRODUCER),
    ("process flashgrab.grabs", "flashgrab-worker", CONSUMER),
    ("INSERT coupons", "flashgrab-worker", CLIENT),
]
"""Each the child of the one before."""


def grab(buyer: Buyer, key: str, traceparent: str) -> httpx2.Response:
    """With a caller's trace."""
    head = {
        "authorization": f"Bearer {buyer.token}",
        "idempotency-key": key,
        "traceparent": traceparent,
    }
    url = f"{buyer.stack.gateway_url}/v1/campaigns/{buyer.campaign_id}/grabs"
    return httpx2.post(url, headers=head, timeout=10)


@pytest.mark.xdist_group("observability")
def test_one_trace_from_the_grab_to_the_ledger(watched: Stack, collector: Collector) -> None:
    """A caller who traces his grab finds it in all three parts, each step the child of the one
    before; no user is named. A grab beside it whose trace is not sampled leaves nothing."""
    campaign_id = watched.campaign(simple("traced", quota=5))
    trace_id, parent_id, quiet = secrets.token_hex(16), secrets.token_hex(8), secrets.token_hex(16)
    ann, bob = (Buyer.enter(watched, campaign_id, user) for user in ("ann-of-traces", "bob"))
    assert grab(bob, "k", f"00-{quiet}-{parent_id}-00").status_code == 201
    granted = grab(ann, "k", f"00-{trace_id}-{parent_id}-01")
    assert granted.status_code == 201
    until("all steps have come", lambda: len(collector.of(trace_id)) == len(WAY))
    spans, before = collector.of(trace_id), parent_id
    for name, service, kind in WAY:
        span = spans[name]
        assert (span.service, span.kind, span.parent_id, span.is_error) == (
            service,
            kind,
            before,
            False,
        )
        before = span.span_id
    request, call, sent, processed, insert = (spans[name].attributes for name, _, _ in WAY)
    assert request["http.response.status_code"] == 201
    assert request["http.route"] == "/v1/campaigns/{campaign_id}/grabs"
    assert (call["db.system.name"], call["db.operation.name"]) == ("redis", "EVALSHA")
    assert call["db.operation.batch.size"] >= 1
    assert len(call["db.stored_procedure.name"]) == 40
    for attributes, operation in ((sent, "send"), (processed, "process")):
        assert attributes["messaging.system"] == "kafka"
        assert attributes["messaging.operation.name"] == operation
        assert attributes["messaging.destination.name"] == "flashgrab.grabs"
        assert attributes["messaging.batch.message_count"] >= 1
    assert (insert["db.system.name"], insert["db.collection.name"]) == ("postgresql", "coupons")
    assert "ann-of-traces" not in str(spans)
    assert collector.of(quiet) == {}
    # its repeat is a request and a call, and no fact
    again = secrets.token_hex(16)
    assert grab(ann, "k", f"00-{again}-{parent_id}-01").status_code == 200
    until("the repeat's steps have come", lambda: len(collector.of(again)) == 2)


@pytest.mark.xdist_group("observability")
def test_traced_and_others_are_answered_alike(watched: Stack) -> None:
    """The lane declines a traced grab; the ordinary way gives the same answer."""
    campaign_id = watched.campaign(simple("alike", quota=2))
    sampled = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    answers = []
    for user, traceparent in (("a", sampled), ("b", sampled[:-1] + "0")):
        buyer = Buyer.enter(watched, campaign_id, user)
        for _ in range(2):
            answer = grab(buyer, "k", traceparent)
            body = answer.json() | {"serial": 0, "grab_id": "", "state": ""}
            names = sorted(answer.headers.keys() - {"date"})
            answers.append((answer.status_code, body, names))
    assert answers[:2] == answers[2:]
    assert [status for status, _, _ in answers] == [201, 200, 201, 200]


class Recorded:
    """A span that is only noted."""

    def __init__(self, number: int, parent: str | None, links: tuple[str, ...]) -> None:
        self.traceparent = f"00-{number:032x}-{number:016x}-01"
        self.parent, self.links = parent, links

    def put(self, name: str, value: str | int) -> None: ...
    def fail(self, error: BaseException) -> None: ...
    def end(self) -> None: ...


class Recorder:
    """A tracer that only notes."""

    def __init__(self) -> None:
        self.spans: list[Recorded] = []

    def begin(self, name: str, kind: Any, parent: Any, attributes: Any, links: Any = ()) -> Any:
        self.spans.append(Recorded(len(self.spans) + 1, parent, tuple(links)))
        return self.spans[-1]

    def close(self) -> None: ...


def test_what_traces_share_is_linked() -> None:
    """A call that carries three traced grabs is a span in each trace, linked to the other two."""
    recorder = Recorder()
    parents = [f"00-{n:032x}-{n:016x}-01" for n in (7, 8, 9)]
    begin_all(recorder, "EVALSHA", "client", parents, {})
    assert [span.parent for span in recorder.spans] == parents
    for span in recorder.spans:
        assert set(span.links) == set(parents) - {span.parent}


def test_a_transaction_has_a_bound_of_traces() -> None:
    """However many of its facts are traced: their spans are all made before it begins."""
    recorder = Recorder()
    traces = [f"00-{n:032x}-{n:016x}-01" for n in range(1, 3 * TRACED_MAX)]
    with processing(recorder, traces, 10_000):
        assert len(recorder.spans) == 2 * TRACED_MAX


SENDING = """
import signal, sys, threading
from flashgrab.tracing import tracing
stopped = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopped.set())
with tracing(sys.argv[1], "gateway") as tracer:
    for n in range(2000):
        tracer.begin("a", "server", None, {}).end()
    print("ready", flush=True)
    while not stopped.wait(0.05):
        pass
"""


@pytest.mark.parametrize("listens", [True, False], ids=["silent", "away"])
def test_a_collector_that_is_away_holds_up_no_end(listens: bool) -> None:
    """A part with spans that nobody takes ends soon after SIGTERM, with status 0: long before any
    grace period, and the library's own 30 s."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen(8)  # and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        command = [sys.executable, "-c", SENDING, url]
        part = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert part.stdout is not None
            assert part.stdout.readline() == "ready\n"
            part.terminate()
            assert part.wait(7) == 0  # 3 s of its own; unbounded it is 10
        finally:
            part.kill()
            part.communicate()


def test_traces_come_out_of_an_entry_as_they_went_in() -> None:
    """And what has another form is left out."""
    traces = {(f"u@{n}", f"k{n}"): f"00-{n:032x}-{n:016x}-01" for n in (1, 2)}
    text = write_traces(traces)
    assert read_traces(text) == traces
    assert read_traces("") == read_traces("a,b") == read_traces("a,b,c;x") == {}
    assert read_traces(text + ";u,k,00-zz") == traces


def head_with(traceparent: str) -> bytes:
    line = f"traceparent: {traceparent}\r\n" if traceparent else ""
    return f"POST /v1/campaigns/c/grabs HTTP/1.1\r\nHost: a\r\n{line}\r\n".encode()


def test_who_is_traced() -> None:
    """Those whose caller samples, never those whose caller does not; of the others one of N; and
    no more in a second than the bound, whoever asks."""
    now = 10.0
    sampler = Sampler(every=4, per_second=6, now=lambda: now)
    yes, no = (f"00-{'1' * 32}-{'2' * 16}-{flags}" for flags in ("01", "00"))
    assert sampler.takes(head_with(yes))
    assert not sampler.takes(head_with(no))
    assert [sampler.takes(head_with("")) for _ in range(8)] == [False, False, False, True] * 2
    assert sampler.takes(head_with("nonsense")) is False
    assert sampler.asked(yes)
    assert not sampler.asked(no)
    assert not sampler.asked("")
    assert [sampler.takes(head_with(yes)) for _ in range(4)] == [True, True, False, False]
    now = 11.0
    assert sampler.takes(head_with(yes))
    assert not any(Sampler(every=0).takes(head_with("")) for _ in range(50))


def test_off_is_off() -> None:
    """Without an address the connection's class is the bare lane, and nothing of it is loaded."""
    assert protocol_of(settings("redis://127.0.0.1:1"), None) is Lane
    program = (
        "import sys, gateway.serve, worker.relay_main, worker.worker_main\n"
        "ours = {'gateway.traced', 'flashgrab.otel'}\n"
        # redis-py loads other parts of the SDK where it is installed
        "theirs = {'opentelemetry.sdk.trace', 'opentelemetry.exporter'}\n"
        "assert not (ours | theirs) & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_on_is_a_lane_before_each_kind_of_lane() -> None:
    """Also behind listed proxies."""
    traces = Traces(Recorder(), Sampler(every=0))
    for proxies in ((), ("127.0.0.1",)):
        kind = protocol_of(settings("redis://127.0.0.1:1", trusted_proxies=proxies), None, traces)
        assert issubclass(kind, Declining)
        assert kind.sampler is traces.sampler
