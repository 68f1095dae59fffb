"""Plain data: attributes, equality, JSON, pickling."""

from __future__ import annotations

import pickle

import pytest
import stepwell


def test_a_message_goes_through_json_and_pickle_unchanged():
    message = stepwell.Message(
        role="assistant",
        parts=[
            stepwell.Reasoning(text="hm", opaque=stepwell.Opaque(provider="a", model="m", value={"sig": 1})),
            stepwell.Text(text="It goes on.", origin="model"),
            stepwell.ToolCall(id="c1", name="search", arguments={"z": 1, "a": [True, None]}),
            stepwell.Media.of_bytes("image/png", b"\x89PNG"),
        ],
        metadata={"n": 1},
    )
    assert stepwell.Message.from_dict(message.to_dict()) == message
    assert pickle.loads(pickle.dumps(message)) == message
    assert message.text == "It goes on." and message.tool_calls[0].arguments["a"] == [True, None]


def test_every_part_passes_through_the_engine_as_it_is():
    message = stepwell.Message(
        role="user",
        parts=[
            stepwell.Text(text="Ünïcode \N{SNOWMAN}", cache="short"),
            stepwell.Media.of_url("image/png", "https://example.org/a.png"),
            stepwell.Data(name="facts", value={"big": 2**63, "float": 0.1, "none": None}),
        ],
        name="ada",
    )
    seen = []

    def look(request):
        seen.extend(request["messages"])
        return "ok"

    stepwell.HostModel(look).chat_sync(message)
    assert seen == [message]


def test_a_record_says_which_field_it_lacks_or_does_not_know():
    with pytest.raises(TypeError, match="needs role"):
        stepwell.Message(parts=[])  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no field 'rolle'"):
        stepwell.Message(rolle="user", parts=[])  # type: ignore[call-arg]


def test_two_records_never_share_a_default():
    one, two = stepwell.Message.user("a"), stepwell.Message.user("b")
    one.metadata["seen"] = True
    assert two.metadata == {}
    assert stepwell.Document("a", "b").metadata is not stepwell.Document("a", "b").metadata


def test_events_can_be_matched_and_told_apart_by_type():
    events = list(stepwell.HostModel(lambda request: "words").stream_sync("x"))
    assert [event.type for event in events][:3] == ["message_start", "text_start", "text_delta"]
    match events[2]:
        case stepwell.TextDelta(text=piece):
            assert piece == "words"
        case _:
            raise AssertionError(events[2])
    assert isinstance(events[-1], stepwell.Finish)


def test_filters_compose_and_keep_their_types():
    tree = (stepwell.Filter.eq("draft", False) & stepwell.Filter.range("year", 2020, None)) | ~stepwell.Filter.exists("x")
    assert tree.to_dict() == {
        "or": [
            {
                "and": [
                    {"eq": {"key": "draft", "value": {"bool": False}}},
                    {"range": {"key": "year", "min": {"integer": 2020}, "max": None}},
                ]
            },
            {"not": {"exists": {"key": "x"}}},
        ]
    }


def test_a_place_names_the_page_or_the_headings():
    span = stepwell.Span(start=0, end=1)
    cite = stepwell.Citation(document_id="d", span=span, quote="q", uri="runs.md", headings=["Runs", "Resume"])
    assert cite.place == "runs.md, Runs › Resume"
    cite.page = 3
    assert cite.place == "runs.md, page 3"
