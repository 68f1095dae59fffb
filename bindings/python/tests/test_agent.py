"""Agents: scripted models, Python tools, collections; run, watch, cancel, resume."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import weakref

import pytest
import stepwell

who = contextvars.ContextVar("who", default="nobody")


def weather(city: str) -> str:
    """Temperature of a city."""
    return f"3 degrees in {city} for {who.get()}"


async def weather_later(city: str) -> str:
    """Temperature of a city, after a while."""
    await asyncio.sleep(0.01)
    return f"3 degrees in {city} for {who.get()}"


def results(run):
    return [part.text for message in run.messages for part in message.parts if part.type == "tool_result"]


@pytest.mark.parametrize("tool", [weather, weather_later])
def test_an_agent_calls_its_tool_and_answers(run, tool):
    def make():
        return stepwell.Agent(
            stepwell.Scripted().call(tool.__name__, {"city": "Oslo"}).say("It is cold."),
            tools=[tool],
            instructions="Be short.",
        )

    async def main():
        who.set("ada")
        agent = make()
        return await agent.run("Cold?"), agent.model.requests, make().run_sync("Cold?")

    result, requests, inside = run(main())
    assert (result.answer, result.status, str(result)) == ("It is cold.", "done", "It is cold.")
    assert [message.role for message in result.messages] == ["user", "assistant", "tool", "assistant"]
    assert results(result) == ["3 degrees in Oslo for ada"]
    assert requests[0]["messages"][0].text == "Be short."
    assert requests[0]["tools"][0]["name"] == tool.__name__
    assert (result.usage.output_tokens or 0) > 0 and result.steps >= 3 and result.error is None
    assert results(inside) == ["3 degrees in Oslo for ada"]  # the blocking twin, inside the running loop
    assert results(make().run_sync("Cold?")) == ["3 degrees in Oslo for nobody"]


def test_a_run_is_watched_event_by_event(run):
    @stepwell.tool
    async def count(n: int, cx: stepwell.ToolContext) -> int:
        """Counts."""
        cx.emit({"done": 0.5})
        return n + 1

    async def main():
        agent = stepwell.Agent(stepwell.Scripted().call("count", {"n": 1}).say("two, I say"), tools=[count])
        stream = agent.stream("count")
        events = [event async for event in stream]
        return events, await stream.result()

    events, result = run(main())
    kinds = [event.type for event in events]
    assert kinds[0] == "run_start" and kinds[-1] == "run_end"
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    (start,) = [event for event in events if event.type == "tool_start"]
    assert start.call.arguments == {"n": 1}
    (progress,) = [event for event in events if event.type == "tool_progress"]
    assert progress.value == {"done": 0.5}
    (end,) = [event for event in events if event.type == "tool_end"]
    assert end.result.name == "count" and not end.result.is_error
    words = "".join(
        event.event.text for event in events if event.type == "model" and event.event.type == "text_delta"
    )
    assert words == result.answer == "two, I say"
    assert events[-1].status == "done"
    agent = stepwell.Agent(stepwell.Scripted("some words to stream"))
    assert "".join(agent.stream_sync("x").text()) == "some words to stream"
    assert stepwell.Agent(stepwell.Scripted("one")).stream_sync("x").result().answer == "one"


def test_a_tool_that_retries_is_called_again_and_one_that_failed_is_told(run):
    seen = []

    def picky(n: int) -> str:
        """Takes even numbers."""
        seen.append(n)
        if n % 2:
            raise stepwell.ToolRetry("give an even number")
        if n > 10:
            raise stepwell.ToolFailed("too large")
        return "fine"

    script = stepwell.Scripted().call("picky", {"n": 3}).call("picky", {"n": 12}).call("picky", {"n": 4}).say("done")
    result = run(stepwell.Agent(script, tools=[picky]).run("go"))
    assert seen == [3, 12, 4] and result.answer == "done"
    told = results(result)
    assert "give an even number" in told[0] and "too large" in told[1] and told[2] == "fine"
    failed = [part.is_error for message in result.messages for part in message.parts if part.type == "tool_result"]
    assert failed == [True, True, False]


def test_arguments_that_do_not_fit_never_reach_the_function(run):
    script = stepwell.Scripted().call("weather", {"town": "Oslo"}).call("weather", {"city": "Oslo"}).say("cold")
    result = run(stepwell.Agent(script, tools=[weather]).run("go"))
    first, second = results(result)
    assert "city" in first and second.startswith("3 degrees")


@pytest.mark.parametrize("is_async", [True, False])
def test_what_else_a_tool_raises_stops_the_run_and_is_the_same_exception(run, is_async):
    class Broken(Exception):
        pass

    broken = Broken("wires")

    async def later() -> str:
        """Breaks."""
        raise broken

    def now() -> str:
        """Breaks."""
        raise broken

    tool = later if is_async else now

    def make():
        return stepwell.Agent(stepwell.Scripted().call(tool.__name__, {}).say("never"), tools=[tool])

    with pytest.raises(Broken) as failure:
        run(make().run("go"))
    assert failure.value is broken
    with pytest.raises(Broken):
        make().run_sync("go")

    async def watch():
        kinds = []
        with pytest.raises(Broken) as failure:
            async for event in make().stream("go"):
                kinds.append(event.type)
        return kinds, failure.value

    kinds, error = run(watch())
    assert kinds[-1] == "run_end" and error is broken
    outcome = run(make().outcome("go"))
    assert outcome.error is broken and outcome.status == "failed"
    assert [message.role for message in outcome.messages][:2] == ["user", "assistant"]


def test_tools_of_one_turn_run_side_by_side(run):
    async def nap(n: int) -> int:
        """Sleeps."""
        await asyncio.sleep(0.2)
        return n

    calls = [("nap", {"n": n}) for n in range(5)]
    agent = stepwell.Agent(stepwell.Scripted().calls(calls).say("rested"), tools=[nap])
    started = time.perf_counter()
    result = run(agent.run("sleep"))
    assert time.perf_counter() - started < 0.9
    values = [
        part.parts[0].value for message in result.messages for part in message.parts if part.type == "tool_result"
    ]
    assert values == list(range(5))


def test_cancelling_a_run_cancels_its_tool(run):
    seen = []

    async def patient() -> str:
        """Waits."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return "late"

    async def main():
        agent = stepwell.Agent(stepwell.Scripted().call("patient", {}), tools=[patient])
        task = asyncio.ensure_future(agent.run("go"))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.1)
        async with stepwell.Agent(
            stepwell.Scripted().call("patient", {}), tools=[patient]
        ).stream("go") as stream:
            async for event in stream:
                if event.type == "tool_start":
                    await asyncio.sleep(0.05)
                    break
        await asyncio.sleep(0.1)

    run(main())
    assert seen == ["cancelled", "cancelled"]


def test_a_tool_has_its_own_time_limit(run):
    @stepwell.tool(timeout=0.05)
    async def slow() -> str:
        """Waits."""
        await asyncio.sleep(60)
        return "late"

    started = time.perf_counter()
    result = run(stepwell.Agent(stepwell.Scripted().call("slow", {}).say("gave up"), tools=[slow]).run("go"))
    assert result.answer == "gave up" and time.perf_counter() - started < 5


def test_a_tool_may_run_another_agent(run):
    inner = stepwell.Agent(stepwell.Scripted(*["inner answer"] * 3), name="inner")

    async def ask_other(question: str) -> str:
        """Asks the other agent."""
        return (await inner.run(question)).answer

    def ask_other_now(question: str) -> str:
        """Asks the other agent, blocking its own thread."""
        return inner.run_sync(question).answer

    for tool in (ask_other, ask_other_now):
        agent = stepwell.Agent(stepwell.Scripted().call(tool.__name__, {"question": "q"}).say("ok"), tools=[tool])
        assert results(run(agent.run("go"))) == ["inner answer"]


def test_a_model_and_a_tool_in_python_make_an_agent(run):
    def play(request):
        last = request["messages"][-1]
        if last.role == "user":
            return stepwell.Message(
                role="assistant",
                parts=[stepwell.ToolCall(id="c1", name="where", arguments={})],
            )
        return f"it ran in {last.parts[0].text}"

    async def where() -> str:
        """Names the thread."""
        return threading.current_thread().name

    agent = stepwell.Agent(stepwell.HostModel(play), tools=[where])
    assert run(agent.run("where?")).answer == "it ran in MainThread"
    assert agent.run_sync("where?").answer == "it ran in stepwell-loop"


def test_an_agent_answers_from_a_collection_with_citations(run, tmp_path):
    async def main():
        docs = await stepwell.Collection.open(tmp_path / "docs")
        await docs.add(
            [
                stepwell.Document(
                    "runs.md",
                    "# Runs\nA run is a log.\n\n## Resume\nA run that was interrupted resumes from its journal.\n",
                    uri="docs/runs.md",
                ),
                stepwell.Document("bread.md", "Dough rests for an hour before it goes into the oven."),
            ]
        )
        agent = stepwell.Agent(
            stepwell.Extractive(), tools=[stepwell.retriever_tool("docs", docs, about="The guides.", top_k=3)]
        )
        return await agent.run("How does an interrupted run resume?"), await agent.run("Who won the cup in 1954?")

    found, unknown = run(main(), timeout=120)
    assert "resumes from its journal" in found.answer
    (citation, *_) = found.citations
    assert citation.uri == "docs/runs.md" and citation.quote in found.answer
    assert found.hits[0].chunk.document_id == "runs.md"
    assert unknown.answer == "not found in these documents" and unknown.citations == []


def test_a_run_is_kept_and_resumed_from_its_journal(run, tmp_path):
    calls = []

    def charge(cents: int) -> str:
        """Charges."""
        calls.append(cents)
        return "charged"

    def make(script):
        store = stepwell.RunStore.sqlite(tmp_path / "runs.db")
        return stepwell.Agent(script, tools=[charge], store=store, is_synced=True)

    broken = make(stepwell.Scripted().call("charge", {"cents": 5}).fail(ConnectionError("cable")))
    with pytest.raises(ConnectionError):
        run(broken.run("pay", run_id="r1"))
    again = make(stepwell.Scripted("paid"))
    result = run(again.resume("r1"))
    assert (result.answer, result.run_id, calls) == ("paid", "r1", [5])


def test_the_budget_and_the_limits_stop_a_run(run):
    def loop_forever():
        """Does nothing."""

    endless = stepwell.Scripted().calls([("loop_forever", {})])
    for _ in range(50):
        endless.call("loop_forever", {})
    with pytest.raises(stepwell.StepLimitError):
        run(stepwell.Agent(endless, tools=[loop_forever], limits={"steps": 6}).run("go"))
    with pytest.raises(stepwell.BudgetExceededError):
        run(stepwell.Agent(stepwell.Scripted("x").say("y"), budget={"tokens": 1}).run("go " * 50))


def test_what_is_wrong_with_an_agent_is_told_when_it_is_made():
    with pytest.raises(stepwell.InvalidInputError, match="two tools are named `weather`"):
        stepwell.Agent(stepwell.Scripted(), tools=[weather, weather])
    with pytest.raises(stepwell.InvalidInputError, match="is no model"):
        stepwell.Agent(3)  # type: ignore[arg-type]
    with pytest.raises(stepwell.InvalidInputError, match="policy|variant"):
        stepwell.Agent(stepwell.Scripted(), policy="whatever")  # type: ignore[arg-type]
    with pytest.raises(stepwell.InvalidInputError, match="is no tool"):
        stepwell.Agent(stepwell.Scripted(), tools=["weather"])
    with pytest.raises(stepwell.InvalidInputError, match="tool_timeout"):
        stepwell.Agent(stepwell.Scripted(), limits={"tool_timeout": -1})
    with pytest.raises(stepwell.InvalidInputError, match="nothing to answer"):
        stepwell.Agent(stepwell.Scripted("x")).run_sync("  ")


def test_an_agent_that_its_own_tool_holds_is_collected(run):
    def make():
        async def again() -> str:
            """Asks the agent itself."""
            return repr(agent)

        agent = stepwell.Agent(stepwell.Scripted().call("again", {}).say("done"), tools=[again])
        assert run(agent.run("go")).answer == "done"
        return weakref.ref(agent)

    held = make()
    for _ in range(20):  # the engine lets go of a tool on its own threads
        gc.collect()
        if held() is None:
            break
        time.sleep(0.05)
    assert held() is None


def test_many_runs_share_one_agent(run):
    async def main():
        agent = stepwell.Agent(stepwell.HostModel(lambda request: "echo " + request["messages"][-1].text))
        answers = await asyncio.gather(*(agent.run(f"{n}") for n in range(50)))
        return [result.answer for result in answers]

    assert run(main()) == [f"echo {n}" for n in range(50)]
