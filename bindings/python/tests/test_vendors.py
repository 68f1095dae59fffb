"""Vendors by name with options of the program's own, over a real local socket; layers around models."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
import stepwell


class Vendor(http.server.ThreadingHTTPServer):
    """Answers as a vendor would: each answer is a status and a body; the last one goes on for ever."""

    daemon_threads = True

    def __init__(self, *answers: tuple[int, Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Vendor

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.path, headers, body))
        answers = self.server.answers
        status, answer = answers.pop(0) if len(answers) > 1 else answers[0]
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def said(text: str) -> tuple[int, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return 200, {"id": "c1", "model": "m", "choices": [choice], "usage": usage}


BUSY = (503, {"error": {"message": "busy", "type": "server_error"}})


@pytest.fixture
def vendor() -> Iterator[Any]:
    open_ones: list[Vendor] = []

    def start(*answers: tuple[int, Any]) -> Vendor:
        open_ones.append(Vendor(*answers))
        return open_ones[-1]

    yield start
    for one in open_ones:
        one.shutdown()
        one.server_close()


def test_any_vendor_takes_a_key_an_address_and_headers(vendor):
    server = vendor(said("hello"))
    for name in ("groq/m", "mistral/m", "vllm/m", "openrouter/org/m"):
        model = stepwell.model(name, api_key="k", base_url=server.url + "/v1", headers={"x-team": "a"})
        answer = model.chat_sync("hi")
        assert (answer.text, answer.usage.input_tokens, answer.usage.output_tokens) == ("hello", 7, 3)
        path, headers, body = server.asked[-1]
        assert (path, headers["authorization"], headers["x-team"]) == ("/v1/chat/completions", "Bearer k", "a")
        assert body["model"] == name.split("/", 1)[1]
    with pytest.raises(stepwell.InvalidInputError, match="api_keys"):
        stepwell.model("groq/m", api_keys="k")  # type: ignore[call-arg]
    with pytest.raises(stepwell.InvalidInputError, match="seconds"):
        stepwell.model("groq/m", api_key="k", http={"idle_timeout": -1})


def test_a_failed_call_is_made_again_unless_the_model_is_bare(vendor):
    server = vendor(BUSY, said("at last"))
    model = stepwell.model("vllm/m", base_url=server.url).with_retry(first_delay=0.01)
    answer = model.chat_sync("hi")
    assert (answer.text, [attempt.status for attempt in answer.attempts]) == ("at last", [503])
    server = vendor(BUSY)
    with pytest.raises(stepwell.OverloadedError):
        stepwell.model("vllm/m", base_url=server.url, is_bare=True).chat_sync("hi")
    assert len(server.asked) == 1


def test_a_cassette_plays_without_a_server_and_goes_wrong_on_demand(vendor, tmp_path):
    server = vendor(said("recorded"))
    path = tmp_path / "calls.jsonl"
    cassette = stepwell.Cassette.record(path)
    assert not cassette.is_playing
    stepwell.model("groq/m", api_key="k-canary", base_url=server.url, cassette=cassette).chat_sync("hi")
    assert "canary" not in path.read_text()
    again = stepwell.Cassette.play(path, chunks={"random": {"seed": 7}})
    assert stepwell.model("groq/m", cassette=again).chat_sync("hi").text == "recorded"
    with pytest.raises(stepwell.NotFoundError):
        stepwell.model("groq/m", cassette=again, is_bare=True).chat_sync("something else")
    broken = stepwell.Cassette.play(path, faults=[(0, {"status": {"status": 529}})])
    model = stepwell.model("groq/m", cassette=broken).with_retry(first_delay=0.01)
    assert [attempt.status for attempt in model.chat_sync("hi").attempts] == [529]
    with pytest.raises(stepwell.InvalidInputError, match="cassette"):
        stepwell.Cassette.play(path, faults=[(0, {"explode": 1})])
    assert len(server.asked) == 1


def test_embedders_and_rerankers_of_vendors_by_name(vendor, run):
    rows = [{"index": 1, "embedding": [0.0, 2.0]}, {"index": 0, "embedding": [3.0, 0.0]}]
    server = vendor((200, {"data": rows, "model": "e", "usage": {"prompt_tokens": 2, "total_tokens": 2}}))
    embedder = stepwell.embedder("vllm/e", base_url=server.url, width=2)
    assert embedder.info.dimension == 2
    assert run(embedder.embed(["a", "b"])) == [[1.0, 0.0], [0.0, 1.0]]
    with pytest.raises(stepwell.InvalidInputError, match="width"):
        stepwell.embedder("vllm/e")
    assert stepwell.embedder("minilm/all-MiniLM-L6-v2").info.dimension == 384

    ranked = {"data": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.2}]}
    server = vendor((200, {**ranked, "usage": {"total_tokens": 9}}))
    reranker = stepwell.reranker("voyage/rerank-2.5", api_key="k", base_url=server.url)
    hits = reranker.rerank_sync("what is ruby", ["a town", "a language by Matz"])
    assert [(hit.chunk.document_id, round(hit.score, 3)) for hit in hits] == [("1", 0.9), ("0", 0.2)]
    assert run(reranker.rerank("what is ruby", hits, 1))[0].chunk.text == "a town"


def test_vendors_of_ones_own(vendor):
    server = vendor(said("mine"))
    stepwell.register_compatible("my-server", server.url + "/v1", {"images": False})
    assert stepwell.model("my-server/m").chat_sync("hi").text == "mine"
    stepwell.register("echo", lambda name: stepwell.HostModel(lambda request: name.upper(), "echo/" + name))
    assert stepwell.model("echo:any/thing").chat_sync("hi").text == "ANY/THING"
    with pytest.raises(stepwell.UnsupportedError, match="echo"):
        stepwell.model("echo/x", api_key="k")
    with pytest.raises(stepwell.InvalidInputError, match="image"):
        stepwell.register_compatible("other", server.url, {"imagess": False})
    for wrong in ("", "a/b", "a:b"):
        with pytest.raises(stepwell.InvalidInputError):
            stepwell.register(wrong, stepwell.model)


@pytest.mark.parametrize("of_the_host", [False, True])
def test_a_fallback_answers_when_the_first_cannot_whoever_plays_them(of_the_host, run):
    first = stepwell.Scripted(name="first/m").fail(stepwell.QuotaExceededError("no money"))
    second: stepwell.ChatModel = stepwell.Scripted("from the second", name="second/m")
    if of_the_host:
        second = stepwell.HostModel(lambda request: "from the second", "second/m")
    model = first.with_fallback(second)
    answer = run(model.chat("hi"))
    assert (answer.text, answer.provider) == ("from the second", "second")
    assert [attempt.code for attempt in answer.attempts] == ["quota_exceeded"]
    assert model.info.name == "first/m"


def test_a_python_model_is_asked_again_and_its_own_exception_comes_out_in_the_end():
    calls = []

    def play(request: dict[str, Any]) -> str:
        calls.append(request)
        if len(calls) < 3:
            raise stepwell.OverloadedError("busy")
        return "the third time"

    model = stepwell.HostModel(play).with_retry(first_delay=0.001).with_timeouts(total=10)
    assert model.chat_sync("hi").text == "the third time"
    calls.clear()
    with pytest.raises(stepwell.OverloadedError, match="busy"):
        stepwell.HostModel(play).with_retry(max_retries=1, first_delay=0.001).chat_sync("hi")
    assert len(calls) == 2


def test_a_slow_answer_rings_the_clock_and_what_had_come_is_kept():
    model = stepwell.Scripted("word " * 50, pace=0.05).with_timeouts(total=0.2)
    with pytest.raises(stepwell.TimeoutError) as rang:
        model.chat_sync("hi")
    assert rang.value.partial is not None and rang.value.partial.text.startswith("word")


def test_limits_are_shared_by_the_models_they_are_around():
    limiter = stepwell.RateLimiter(max_concurrent=1, max_wait=0.05)
    slow = stepwell.Scripted("word " * 40, pace=0.02).with_rate_limit(limiter)
    with slow.stream_sync("hi") as stream:
        next(iter(stream))
        assert limiter.load("scripted/script") == (0, 1)
        with pytest.raises(stepwell.TimeoutError, match="rate limit"):
            stepwell.Scripted("quick").with_rate_limit(limiter).chat_sync("hi")

    budget = stepwell.Budget(calls=2)
    for _ in range(2):
        stepwell.Scripted("spent").with_budget(budget).chat_sync("hi")
    assert (budget.spent.calls, budget.spent.tokens > 0) == (2, True)
    with pytest.raises(stepwell.BudgetExceededError):
        stepwell.Scripted("never").with_budget(budget).chat_sync("hi")

    breaker = stepwell.Breaker(failures=2, open_for=60)
    down = stepwell.Scripted().fail(stepwell.OverloadedError("a")).fail(stepwell.OverloadedError("b")).say("never")
    for _ in range(2):
        with pytest.raises(stepwell.OverloadedError):
            down.with_breaker(breaker).chat_sync("hi")
    with pytest.raises(stepwell.OverloadedError) as refused:
        down.with_breaker(breaker).chat_sync("hi")
    assert down.remaining == 1 and refused.value.retry_after is not None


def test_an_equal_request_of_the_same_tenant_is_answered_from_the_cache(tmp_path):
    cache = stepwell.Cache.sqlite(tmp_path / "answers.db")
    script = stepwell.Scripted("first", "second")
    for tenant, text in (("a", "first"), ("a", "first"), ("b", "second")):
        assert script.with_cache(cache, tenant=tenant).chat_sync("hi").text == text
    assert script.remaining == 0


def test_tokens_are_counted_or_estimated(run):
    model = stepwell.Scripted()
    usage = model.count_tokens_sync("How many tokens are in this sentence?")
    assert usage.is_estimated and usage.input_tokens
    assert run(model.count_tokens("How many tokens are in this sentence?")) == usage


@dataclass
class Trip:
    """Where to go."""

    city: str
    when: date
    days: int = 3


def test_an_answer_comes_as_a_value_of_the_type_asked_for(vendor, run):
    server = vendor(said('{"city": "Oslo", "when": "2026-11-21", "days": null}'))
    answer = stepwell.model("vllm/m", base_url=server.url).chat_as_sync(Trip, "Where to?")
    assert answer.value == Trip("Oslo", date(2026, 11, 21), 3)
    assert answer.response.usage.output_tokens == 3
    asked = server.asked[-1][2]["response_format"]["json_schema"]
    assert asked["name"] == "Trip" and asked["schema"]["properties"]["city"] == {"type": "string"}

    host = stepwell.HostModel(lambda request: 'Gladly: {"city": "Rome", "when": "2026-12-01", "days": 2}')
    assert run(host.chat_as(Trip, "Where to?")).value == Trip("Rome", date(2026, 12, 1), 2)


def test_an_answer_of_another_shape_is_an_error_that_keeps_it():
    model = stepwell.Scripted('{"city": 7, "when": "2026-11-21"}')
    with pytest.raises(stepwell.SchemaMismatchError, match="/city") as mismatch:
        model.chat_as_sync(Trip, "Where to?")
    assert mismatch.value.partial is not None and mismatch.value.partial.text.startswith('{"city": 7')
    assert not mismatch.value.retryable and "2026" not in str(mismatch.value)
    with pytest.raises(stepwell.InvalidInputError, match="response_format"):
        model.chat_as_sync(Trip, "Where to?", response_format="json")


def test_a_slip_in_an_option_is_refused_with_what_there_is():
    model = stepwell.Scripted()
    with pytest.raises(stepwell.InvalidInputError, match="max_retries"):
        model.with_retry(max_retry=3)  # type: ignore[call-arg]
    with pytest.raises(stepwell.InvalidInputError, match="bad luck"):
        model.with_fallback(model, reasons=["bad luck"])  # type: ignore[list-item]
    with pytest.raises(stepwell.InvalidInputError, match="tokens"):
        stepwell.Budget(token=3)  # type: ignore[call-arg]
