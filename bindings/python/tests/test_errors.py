"""Errors by code."""

from __future__ import annotations

import pickle

import pytest
import stepwell
from stepwell import _errors


def test_there_is_one_class_per_code_named_after_it():
    assert len(stepwell.CODES) == 36
    for code, cls in stepwell.CODES.items():
        camel = "".join(word.capitalize() for word in code.split("_"))
        name = "InterruptedRunError" if code == "interrupted" else f"{camel}Error"  # the other is a builtin of its own
        assert cls.__name__ == name and cls.code == code
        assert issubclass(cls, stepwell.StepwellError)
        assert getattr(stepwell, cls.__name__) is cls


@pytest.mark.parametrize("code", sorted(stepwell.CODES))
def test_every_error_survives_pickling_with_its_facts(code):
    error = _errors.from_code(
        code, "what to do", {"retryable": True, "retry_after": 1.5, "causes": ["beneath"], "provider": "acme"}
    )
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is stepwell.CODES[code] and str(again) == "what to do"
    assert (again.code, again.retryable, again.retry_after, again.causes) == (code, True, 1.5, ("beneath",))


def test_errors_inherit_the_standard_exception_one_would_look_for():
    assert issubclass(stepwell.InvalidInputError, ValueError)
    assert issubclass(stepwell.NotFoundError, LookupError)
    assert issubclass(stepwell.TimeoutError, TimeoutError)
    assert issubclass(stepwell.IoError, OSError)
    assert issubclass(stepwell.TransportError, ConnectionError)


def test_an_error_of_the_engine_arrives_with_its_code():
    model = stepwell.HostModel(lambda request: "x")
    with pytest.raises(stepwell.InvalidInputError) as failure:
        model.chat_sync("x", metadata={"n": 1})  # type: ignore[dict-item]
    assert (failure.value.code, failure.value.retryable) == ("invalid_input", False)
    assert str(failure.value) == "metadata: the value of `n` is a string"


def test_what_is_no_json_is_refused_before_anything_is_sent():
    model = stepwell.HostModel(lambda request: "x")
    for bad, told in [({"a": {1: 2}}, "keys"), ({"a": object()}, "object"), ({"a": float("nan")}, "NaN")]:
        with pytest.raises(stepwell.InvalidInputError, match=told):
            model.chat_sync("x", provider_options=bad)
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(stepwell.LimitExceededError):
        model.chat_sync("x", provider_options={"a": loop})
    with pytest.raises(stepwell.InvalidInputError, match="tempretature"):
        model.chat_sync("x", tempretature=1)  # type: ignore[call-arg]


def test_a_python_model_that_answers_nonsense_is_told_so():
    with pytest.raises(stepwell.InvalidInputError, match="return text"):
        stepwell.HostModel(lambda request: 3).chat_sync("x")  # type: ignore[arg-type, return-value]


def test_a_code_of_a_newer_engine_is_still_a_stepwell_error():
    error = _errors.from_code("brand_new", "hm", {})
    assert type(error) is stepwell.StepwellError and error.code == "brand_new"
