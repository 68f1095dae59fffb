"""Runs that wait for a person: approvals, answers, going on with and without a store, agents within agents."""

from __future__ import annotations

import asyncio
import pickle

import pytest
import stepwell
from stepwell import Approval


def paying(sent, **settings):
    @stepwell.tool(risk="write", effect="at_most_once")
    async def pay(cents: int) -> str:
        """Pays."""
        await asyncio.sleep(0)
        sent.append(cents)
        return "paid"

    script = stepwell.Scripted().call("pay", {"cents": 5}).say("done")
    return stepwell.Agent(script, tools=[pay], **settings)


def told(result):
    return [part.text for message in result.messages for part in message.parts if part.type == "tool_result"]


def test_a_call_that_writes_pauses_the_run_and_an_approval_lets_it_go_on(run):
    sent: list[int] = []
    agent = paying(sent)
    paused = run(agent.run("pay"))
    assert (paused.status, paused.is_paused, paused.answer, sent) == ("paused", True, "", [])
    assert paused.pause == stepwell.Pause(pause="questions")
    (question,) = paused.questions
    assert isinstance(question, stepwell.Question) and question.node == "tools" and question.path == []
    assert question.payload["tool"] == "pay" and question.payload["arguments"] == {"cents": 5}
    assert question.key == f"approve:{question.call_id}" and question.asked_ms > 0 and question.expires_ms is None
    assert question.schema["required"] == ["decision", "digest"]
    # Another event loop than the one that began it.
    done = run(agent.go_on(paused, answers={question.id: Approval.allow(question)}))
    assert (done.answer, done.is_paused, done.questions, done.run_id, sent) == ("done", False, [], paused.run_id, [5])


def test_a_denied_call_does_not_run_and_an_edited_one_runs_as_edited():
    for answer, ran, heard in [
        (lambda question: Approval.deny(question, "too much"), [], "too much"),
        (lambda question: Approval.edit(question, {"cents": 3}), [3], "paid"),
    ]:
        sent: list[int] = []
        agent = paying(sent)
        paused = agent.run_sync("pay")
        (question,) = paused.questions
        done = agent.go_on_sync(paused, answers={question.id: answer(question)})
        assert done.answer == "done" and sent == ran
        assert heard in told(done)[0]


def test_a_paused_run_goes_on_from_its_store_in_another_agent(run, tmp_path):
    sent: list[int] = []
    first = paying(sent, store=stepwell.RunStore.sqlite(tmp_path / "runs.db"))
    (question,) = run(first.run("pay", run_id="r1")).questions
    again = paying(sent, store=stepwell.RunStore.sqlite(tmp_path / "runs.db"))
    still = run(again.resume("r1"))
    assert still.is_paused and still.questions == [question]
    with pytest.raises(stepwell.InvalidInputError, match="does not fit its schema"):
        run(again.resume("r1", answers={question.id: {"decision": "perhaps"}}))
    again = stepwell.Agent(
        stepwell.Scripted("done later"),
        tools=[pay_again(sent)],
        store=stepwell.RunStore.sqlite(tmp_path / "runs.db"),
    )
    done = again.resume_sync("r1", answers={question.id: Approval.allow(question)})
    assert (done.answer, sent) == ("done later", [5])


def pay_again(sent):
    @stepwell.tool(name="pay", risk="write", effect="at_most_once")
    def pay(cents: int) -> str:
        """Pays."""
        sent.append(cents)
        return "paid"

    return pay


def test_the_stream_of_a_run_that_pauses_has_its_questions(run):
    sent: list[int] = []

    async def main():
        agent = paying(sent)
        stream = agent.stream("pay")
        events = [event async for event in stream]
        paused = await stream.result()
        done = await agent.go_on(paused, answers={q.id: Approval.allow(q) for q in paused.questions})
        return events, paused, done

    events, paused, done = run(main())
    (asked,) = [event for event in events if isinstance(event, stepwell.QuestionEvent)]
    assert asked.question.payload == paused.questions[0].payload and len(paused.questions) == 1
    end = events[-1]
    assert (end.type, end.status, end.pause, end.questions) == ("run_end", "paused", paused.pause, paused.questions)
    assert (done.answer, sent) == ("done", [5])


def test_what_cannot_go_on_is_told(run):
    sent: list[int] = []
    agent = paying(sent)
    paused = agent.run_sync("pay")
    (question,) = paused.questions
    with pytest.raises(stepwell.InvalidInputError, match="another agent's"):
        run(paying(sent).go_on(paused, answers={}))
    copied = pickle.loads(pickle.dumps(paused))
    assert copied == paused and copied.questions == [question]
    with pytest.raises(stepwell.InvalidInputError, match="not paused in this process"):
        agent.go_on_sync(copied)
    assert "_paused" not in paused.to_dict() and "paused" not in paused.to_dict()
    for answers, fault in [({"x": True}, "no question `x`"), ({question.id: {"decision": "perhaps"}}, "its schema")]:
        with pytest.raises(stepwell.InvalidInputError, match=fault):  # and the run is not lost
            agent.go_on_sync(paused, answers=answers)
    still = agent.go_on_sync(paused)  # without an answer it waits on
    assert still.is_paused and still.questions[0].id == question.id
    with pytest.raises(stepwell.InvalidInputError, match="gone on already"):
        agent.go_on_sync(paused)
    done = agent.go_on_sync(still, answers={question.id: Approval.allow(question)})
    assert done.answer == "done" and sent == [5]
    with pytest.raises(stepwell.InvalidInputError, match="not paused"):
        agent.go_on_sync(done)
    with pytest.raises(stepwell.InvalidInputError, match="not about a tool call"):
        Approval.allow(stepwell.Question.from_dict({**question.to_dict(), "payload": {}}))


def test_an_agent_within_an_agent_asks_the_person_and_spends_of_the_same_budget(run):
    sent: list[int] = []
    payer = paying(sent, name="payer")
    script = stepwell.Scripted().call("payer", {"task": "Pay five."}).say("all done")
    boss = stepwell.Agent(script, tools=[payer.tool("payer", "Pays what it is told.")], budget={"calls": 7})
    paused = run(boss.run("go"))
    (question,) = paused.questions
    assert question.path == [f"tools@{paused.messages[-1].parts[0].id}"] and question.node == "tools"
    assert question.payload["tool"] == "pay" and sent == []
    done = run(boss.go_on(paused, answers={question.id: Approval.allow(question)}))
    assert (done.answer, sent, told(done)) == ("all done", [5], ["done"])
    assert done.spent.calls == 7  # two of each model, two of tools, and the one that goes on after its pause
    assert script.requests[0]["tools"][0]["parameters"]["required"] == ["task"]

    poor = stepwell.Agent(
        stepwell.Scripted().call("payer", {"task": "Pay."}).say("never"),
        tools=[paying(sent, policy="allow_all").tool("payer", "Pays.")],
        budget={"calls": 5},
    )
    with pytest.raises(stepwell.BudgetExceededError):
        poor.run_sync("go")


def test_an_agent_that_is_passed_as_a_tool_is_told_what_to_write():
    agent = stepwell.Agent(stepwell.Scripted())
    with pytest.raises(stepwell.InvalidInputError, match=r"use `agent.tool\(name, description\)`"):
        stepwell.Agent(stepwell.Scripted(), tools=[agent])
    with pytest.raises(stepwell.InvalidInputError, match="letters"):
        agent.tool("two words", "x")
    assert repr(agent.tool("helper", "Helps.")) == "<AgentTool helper>"


def test_an_agent_is_a_model_by_its_name(run):
    @stepwell.tool
    async def stars() -> int:
        """Counts stars."""
        return 7

    counter = stepwell.Agent(stepwell.Scripted().call("stars", {}).say("seven").say("eight"), tools=[stars])
    stepwell.register_agent("counter", counter)
    model = stepwell.model("agent/counter")
    assert model.info.name == "agent/counter"
    answer = run(model.chat("How many?"))
    assert answer.text == "seven"
    assert stepwell.Agent("agent/counter").run_sync("And now?").answer == "eight"
    with pytest.raises(stepwell.InvalidInputError, match="agent name"):
        stepwell.register_agent("a/b", counter)
    waiting = paying([])
    stepwell.register_agent("payer", waiting)
    with pytest.raises(stepwell.InterruptedRunError) as failure:
        stepwell.model("agent/payer").with_retry().chat_sync("pay")
    assert failure.value.code == "interrupted" and failure.value.run_id
