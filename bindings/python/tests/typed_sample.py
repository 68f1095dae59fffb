"""What a typed program may write: checked by mypy --strict and pyright, never run."""

# pyright: strict
from __future__ import annotations

import dataclasses
from typing import Any, Literal

import stepwell
from typing_extensions import assert_type


@stepwell.tool
def weather(city: str, unit: Literal["C", "F"] = "C") -> str:
    """Temperature of a city."""
    return f"{city} {unit}"


@stepwell.tool(name="slow", effect="idempotent", timeout=2.5)
async def slow(n: int, cx: stepwell.ToolContext) -> int:
    assert_type(cx.run_id, str)
    return n


async def models() -> None:
    model = stepwell.model("openai/gpt-6-sol", api_key="…")
    answer = await model.chat("hi", temperature=0.5, tools=[weather], response_format="json")
    assert_type(answer, stepwell.ChatResponse)
    assert_type(answer.text, str)
    assert_type(answer.usage.input_tokens, int | None)
    async with model.stream([stepwell.Message.user("hi"), "again"]) as stream:
        async for event in stream:
            if event.type == "text_delta":
                assert_type(event, stepwell.TextDelta)
                assert_type(event.text, str)
            elif isinstance(event, stepwell.Finish):
                assert_type(event.reason, Literal["stop", "length", "tool_calls", "content_filter", "other"])
        assert_type(await stream.response(), stepwell.ChatResponse)
    async for piece in model.stream("hi").text():
        assert_type(piece, str)
    for step in model.stream_sync("hi"):
        match step:
            case stepwell.ToolCallStart(name=name):
                assert_type(name, str)
            case _:
                pass
    assert_type(weather("Oslo", unit="F"), str)
    assert_type(await slow.function(1, cx=None), int)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    weather(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await model.chat("hi", temprature=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def agents() -> None:
    notes = await stepwell.Collection.open("notes", language="german")
    report = await notes.sync("docs", progress=lambda event: print(event.type))
    assert_type(report.progress.files_added, int)
    added = await notes.add([stepwell.Document("a", "b", metadata={"year": 2024})])
    assert_type(added, stepwell.AddReport)
    hits = await notes.search("what?", top_k=3, filter=stepwell.Filter.eq("year", 2024), mode="hybrid")
    assert_type(hits, list[stepwell.Hit])
    await notes.search("what?", unit="best_chunk", diversity=0.3, min_relevance=0.4, highlight=True, fuzzy=True)
    assert_type(hits[0].highlights, list[stepwell.Span])
    assert_type(hits[0].explanation.relevance, float | None)
    await notes.search("what?", unit="page")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(added.failed[0].error.code, str)
    plan = await notes.plan_sync("docs", removes=False)
    assert_type(plan.renamed[0].from_, str)
    assert_type((await notes.explain("what?", top_k=3)).segments, list[stepwell.SegmentSearch])
    assert_type((await notes.coverage("a")).gaps, list[stepwell.Span])
    await stepwell.Collection.open("exact", storage="f32", metric="dot")
    await stepwell.Collection.open("x", storage="f16")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    agent = stepwell.Agent(
        stepwell.Scripted("a").call("weather", {"city": "Oslo"}),
        tools=[weather, slow, stepwell.retriever_tool("notes", notes)],
        limits={"tool_timeout": 1.5},
    )
    result = await agent.run("cold?")
    assert_type(result, stepwell.RunResult)
    assert_type(result.output, None)
    assert_type(result.citations[0].page, int | None)
    async for event in agent.stream("cold?"):
        if event.type == "model":
            assert_type(event, stepwell.ModelEvent)
        elif event.type == "tool_end":
            assert_type(event.result, stepwell.ToolResult)
    try:
        agent.run_sync("x")
    except stepwell.RateLimitedError as error:
        assert_type(error.retry_after, float | None)
    stepwell.Message(role="nobody", parts=[])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@dataclasses.dataclass
class Weather:
    city: str


async def shapes() -> None:
    agent = stepwell.Agent("extractive", output=Weather, template="Hello {{ name }}", variables={"name": "you"})
    assert_type(agent, stepwell.Agent[Weather])
    result = await agent.run("cold?", variables={"name": "me"})
    assert_type(result.output, Weather)
    assert_type((await agent.stream("cold?").result()).output, Weather)
    assert_type(stepwell.Agent("extractive", output={"type": "object"}).run_sync("x").output, dict[str, Any])
    if result.is_paused:
        answers = {question.id: stepwell.Approval.allow(question) for question in result.questions}
        result = await agent.go_on(result, answers=answers)
        assert_type(agent.resume_sync(result.run_id, answers=answers), stepwell.RunResult[Weather])
    boss = stepwell.Agent(
        "extractive",
        tools=[agent.tool("helper", "Helps.", risk="read")],
        context_policies=[stepwell.Trim(to_tokens=9_000), stepwell.Summarise(over_tokens=9_000, model="extractive")],
    )
    stepwell.register_agent("boss", boss)
    stepwell.Agent("extractive", outputs=Weather)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await boss.go_on(result)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
