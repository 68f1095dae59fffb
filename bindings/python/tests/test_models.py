"""Models of the engine: scripted, by name, over a real local socket."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from dataclasses import dataclass
from typing import Literal

import pytest
import stepwell


def test_a_script_is_played_step_by_step_and_remembers_what_was_asked():
    model = stepwell.Scripted("first").call("weather", {"city": "Oslo"}).say("last")
    assert model.remaining == 3
    assert model.chat_sync("one").text == "first"
    answer = model.chat_sync("two", temperature=0.5)
    assert (answer.finish_reason, answer.tool_calls[0].name) == ("tool_calls", "weather")
    assert answer.tool_calls[0].arguments == {"city": "Oslo"}
    assert model.chat_sync(["three", stepwell.Message.assistant("yes?"), "four"]).text == "last"
    assert [request["messages"][-1].text for request in model.requests] == ["one", "two", "four"]
    assert model.requests[1]["temperature"] == 0.5
    with pytest.raises(stepwell.InvalidInputError, match="has played its 3 answers"):
        model.chat_sync("five")


def test_a_scripted_failure_is_the_very_exception(run):
    mine = stepwell.RateLimitedError("wait")
    model = stepwell.Scripted().fail(mine).fail(KeyError("later"), after="Once upon").break_off("half an ans")
    with pytest.raises(stepwell.RateLimitedError) as failure:
        run(model.chat("x"))
    assert failure.value is mine
    stream = model.stream_sync("x")
    pieces = []
    with pytest.raises(KeyError):
        for piece in stream.text():
            pieces.append(piece)
    assert "".join(pieces) == "Once upon"
    with pytest.raises(stepwell.StreamTruncatedError) as broken:
        model.chat_sync("x")
    assert broken.value.retryable and broken.value.partial is not None
    assert broken.value.partial.text == "half an ans"


def test_leaving_a_slow_stream_of_the_engine_takes_no_time(run):
    async def main():
        async with stepwell.Scripted("word " * 500, pace=0.02).stream("x") as stream:
            async for piece in stream.text():
                return piece

    assert run(main(), timeout=5).startswith("word")


def test_a_name_is_refused_with_the_reason(monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(stepwell.NotFoundError, match="acne"):
        stepwell.model("acne/m")
    with pytest.raises(stepwell.InvalidInputError, match="vendor/model"):
        stepwell.model("nothing")
    with pytest.raises(stepwell.MissingKeyError, match="ANTHROPIC_API_KEY"):
        stepwell.model("anthropic/claude-sonnet-5")
    assert stepwell.model("extractive").info.provider == "extractive"
    with pytest.raises(stepwell.UnsupportedError, match="options given"):
        stepwell.model("extractive", api_key="x")


def test_tools_and_shapes_go_into_the_request():
    @dataclass
    class Weather:
        """What the sky does."""

        city: str
        unit: Literal["C", "F"] = "C"

    def weather(city: str) -> str:
        """Temperature of a city."""
        return city

    model = stepwell.Scripted("{}")
    model.chat_sync("x", tools=[weather], tool_choice="any", response_format=Weather)
    request = model.requests[0]
    assert request["tools"][0]["name"] == "weather"
    assert request["tool_choice"] == "any"
    shape = request["response_format"]["schema"]
    assert shape["name"] == "Weather"
    assert shape["schema"]["properties"]["unit"]["enum"] == ["C", "F"]
    assert shape["schema"]["required"] == ["city"]


class Vendor(http.server.BaseHTTPRequestHandler):
    """Answers one chat completion as the wire has it, or refuses."""

    asked: list[dict] = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append({"body": body, "key": self.headers.get("authorization")})
        if body["model"] == "busy":
            self.send_response(429)
            self.send_header("retry-after", "0.05")
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"error": {"message": "canary: slow down", "type": "rate_limit_error"}}')
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for piece in ["Hel", "lo"]:
            chunk = {
                "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": [{"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}],
            }
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        chunk["choices"] = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
        self.wfile.write(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def address():
    Vendor.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_a_vendor_answers_over_a_real_socket(run, address):
    model = stepwell.model("openai/any", api_key="sk-test", base_url=address)

    async def main():
        return [event.text async for event in model.stream("hi") if event.type == "text_delta"]

    assert run(main()) == ["Hel", "lo"]
    answer = model.chat_sync("hi", max_output_tokens=5)
    assert (answer.text, answer.finish_reason, answer.provider) == ("Hello", "stop", "openai")
    assert Vendor.asked[0]["key"] == "Bearer sk-test"
    assert Vendor.asked[0]["body"]["messages"] == [{"role": "user", "content": "hi"}]


def test_a_vendors_refusal_has_its_facts_and_keeps_its_words_out_of_the_message(run, address):
    model = stepwell.model("openai/busy", api_key="sk-canary", base_url=address)
    with pytest.raises(stepwell.RateLimitedError) as failure:
        run(model.chat("hi"))
    error = failure.value
    assert (error.retryable, error.retry_after, error.status, error.provider) == (True, 0.05, 429, "openai")
    assert len(Vendor.asked) == 3  # asked again twice, as the vendor wished
    assert "canary" not in str(error) and "canary" not in repr(error)
    assert error.vendor_message is not None and "slow down" in error.vendor_message


def test_many_calls_run_side_by_side(run):
    async def main():
        models = [stepwell.Scripted(f"{n}", pace=0.05) for n in range(20)]
        started = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(model.chat("x") for model in models))
        return [int(answer.text) for answer in answers], asyncio.get_running_loop().time() - started

    answers, seconds = run(main())
    assert answers == list(range(20)) and seconds < 3
