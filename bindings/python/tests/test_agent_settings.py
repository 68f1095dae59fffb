"""What an agent may be given: a shape for its answer, templates, a context, context policies, tool options."""

from __future__ import annotations

import dataclasses

import pytest
import stepwell
from typing_extensions import TypedDict


@dataclasses.dataclass
class Weather:
    city: str
    celsius: float


class Place(TypedDict):
    city: str


GOOD = '{"city": "Oslo", "celsius": -3.5}'


def test_an_answer_in_a_shape_is_a_value_of_the_type_and_a_faulty_one_is_asked_for_again(run):
    script = stepwell.Scripted('{"city": "Oslo"}', GOOD)
    result = run(stepwell.Agent(script, output=Weather).run("How cold?"))
    assert result.output == Weather("Oslo", -3.5)
    assert "celsius" in script.requests[1]["messages"][-1].text  # what was wrong with the first
    assert stepwell.Agent(stepwell.Scripted('{"city": "Oslo"}'), output=Place).run_sync("x").output == {"city": "Oslo"}
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    stream = stepwell.Agent(stepwell.Scripted('{"n": 3}'), output=schema).stream_sync("x")
    assert stream.result().output == {"n": 3}
    assert stepwell.Agent(stepwell.Scripted("words")).run_sync("x").output is None


def test_a_pydantic_model_is_a_shape_too():
    pydantic = pytest.importorskip("pydantic")
    Report = pydantic.create_model("Report", city=(str, ...), celsius=(float, 0.0))
    result = stepwell.Agent(stepwell.Scripted('{"city": "Oslo"}'), output=Report).run_sync("x")
    assert isinstance(result.output, Report) and result.output.city == "Oslo"


def test_an_answer_that_stays_faulty_ends_the_run_after_its_retries():
    script = stepwell.Scripted("no", "no", GOOD)
    with pytest.raises(stepwell.SchemaMismatchError):
        stepwell.Agent(script, output=Weather, output_retries=1).run_sync("x")
    assert len(script.requests) == 2
    with pytest.raises(stepwell.InvalidInputError, match="no shape"):
        stepwell.Agent(stepwell.Scripted(), output_retries=1)


def test_a_template_is_filled_anew_for_each_run(run):
    script = stepwell.Scripted("a", "b")
    agent = stepwell.Agent(script, template="You help {{ name }} in {{ city }}.", variables={"city": "Oslo", "name": "us"})
    agent.run_sync("x")
    run(agent.run("x", variables={"name": "Ada"}))
    instructions = [request["messages"][0].text for request in script.requests]
    assert instructions == ["You help us in Oslo.", "You help Ada in Oslo."]
    with pytest.raises(stepwell.InvalidInputError, match="name"):
        stepwell.Agent(stepwell.Scripted("a"), template="{{ name }}").run_sync("x")
    with pytest.raises(stepwell.InvalidInputError, match="no template"):
        stepwell.Agent(stepwell.Scripted("a"), variables={"name": "Ada"})
    with pytest.raises(stepwell.InvalidInputError, match="one of the two"):
        stepwell.Agent(stepwell.Scripted("a"), template="x", instructions="y")


def test_a_context_is_searched_before_the_model_is_asked(run):
    async def main():
        docs = stepwell.Collection.in_memory(embedder=None)
        await docs.add([stepwell.Document("bread", "Dough rests for an hour before it goes into the oven.")])
        await docs.add([stepwell.Document("steel", "Steel is rolled while it glows.", metadata={"kind": "metal"})])
        script = stepwell.Scripted("An hour.", "It glows.")
        agent = stepwell.Agent(script, context=docs, context_options={"top_k": 1})
        found = await agent.run("How long does dough rest in the oven?")
        metal = stepwell.Agent(
            script, context=docs, context_options={"filter": stepwell.Filter.eq("kind", "metal")}
        )
        return found, await metal.run("dough and steel"), script.requests

    found, metal, requests = run(main(), timeout=60)
    assert [hit.chunk.document_id for hit in found.hits] == ["bread"]
    assert "Dough rests" in str(requests[0]["messages"])
    assert [hit.chunk.document_id for hit in metal.hits] == ["steel"]


def conversation(turns):
    messages = []
    for turn in range(turns):
        messages += [stepwell.Message.user(f"question {turn} " + "word " * 50), stepwell.Message.assistant("answer")]
    return [*messages, stepwell.Message.user("and now?")]


def test_context_policies_shape_what_is_sent_and_the_result_keeps_everything():
    script = stepwell.Scripted("ok")
    result = stepwell.Agent(script, context_policies=[stepwell.Trim(to_tokens=120, keep_turns=1)]).run_sync(conversation(10))
    assert len(result.messages) == 22 and len(script.requests[0]["messages"]) < 10
    assert script.requests[0]["messages"][-1].text == "and now?"

    summaries = stepwell.Scripted("They talked of words.")
    script = stepwell.Scripted("ok")
    policy = stepwell.Summarise(over_tokens=200, model=summaries, keep_turns=1)
    result = stepwell.Agent(script, context_policies=[policy]).run_sync(conversation(10))
    assert len(summaries.requests) == 1 and "They talked of words." in str(script.requests[0]["messages"])
    assert len(result.messages) == 22

    def long() -> str:
        """Says much."""
        return "much " * 400

    script = stepwell.Scripted().call("long", {}).call("long", {}).call("long", {}).say("ok")
    policy = stepwell.DropToolOutputs(keep_rounds=1, min_bytes=100)
    stepwell.Agent(script, tools=[long], context_policies=[policy]).run_sync("go")
    kept = [
        len(part.text) > 1000
        for message in script.requests[-1]["messages"]
        for part in message.parts
        if part.type == "tool_result"
    ]
    assert kept == [False, False, True]
    with pytest.raises(stepwell.InvalidInputError, match="no context policy"):
        stepwell.Agent(stepwell.Scripted(), context_policies=["trim"])  # type: ignore[list-item]


def test_a_tool_that_failed_is_tried_again_as_often_as_it_says(run):
    calls = []

    @stepwell.tool(retries=2)
    async def flaky() -> str:
        """Fails twice."""
        calls.append(1)
        if len(calls) < 3:
            raise stepwell.ToolFailed("not yet")
        return "fine"

    result = run(stepwell.Agent(stepwell.Scripted().call("flaky", {}).say("ok"), tools=[flaky]).run("go"))
    (told,) = [part for message in result.messages for part in message.parts if part.type == "tool_result"]
    assert (len(calls), told.text, told.is_error) == (3, "fine", False)
