"""The bridge: futures, streams, callbacks, loops, cancel, fork, exit. The model is a Python function throughout, so
every call crosses both ways."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import traceback

import pytest
import stepwell

here = contextvars.ContextVar("here", default="nowhere")


def echo(request):
    return "echo: " + request["messages"][-1].text


async def slow(request):
    await asyncio.sleep(60)
    return "too late"


def numbers(stream_text):
    return [int(piece) for piece in stream_text]


def test_a_call_is_awaited_and_its_blocking_twin_answers_the_same(run):
    model = stepwell.HostModel(echo)
    assert run(model.chat("hi")).text == "echo: hi"
    assert model.chat_sync("hi").text == "echo: hi"


def test_a_stream_brings_every_item_in_order(run, counting):
    async def main():
        return [int(piece) async for piece in counting(3000).stream("go").text()]

    assert run(main()) == list(range(3000))
    assert numbers(counting(3000).stream_sync("go").text()) == list(range(3000))


def test_a_loop_that_watches_no_descriptors_is_woken_too(program):
    code = """
import asyncio, stepwell
async def count(_):
    for n in range(500):
        yield f"{n} "
async def main():
    return len([p async for p in stepwell.HostModel(count).stream("go").text()])
print(asyncio.run(main()))
"""
    ended = program(code, STEPWELL_WAKE="call_soon")
    assert (ended.code, ended.out, ended.err) == (0, "500", "")


def test_the_whole_answer_is_there_after_the_stream(run, counting):
    async def main():
        stream = counting(4).stream("go")
        first = await anext(stream)
        return first, await stream.response()

    first, answer = run(main())
    assert first.type == "text_start"
    assert (answer.text, answer.finish_reason) == ("0 1 2 3 ", "stop")


def test_an_error_in_the_middle_comes_after_the_items_before_it(run, counting):
    async def main():
        got = []
        with pytest.raises(stepwell.RateLimitedError) as failure:
            async for piece in counting(10, fail_at=4).stream("go").text():
                got.append(int(piece))
        return got, failure.value

    got, error = run(main())
    assert got == [0, 1, 2, 3]
    assert error.retryable and error.retry_after == 1.5


def test_leaving_the_stream_stops_the_python_generator(run):
    ended = []

    async def endless(_):
        try:
            while True:
                await asyncio.sleep(0.001)
                yield "x"
        finally:
            ended.append(True)

    async def main():
        async with stepwell.HostModel(endless).stream("go") as stream:
            async for event in stream:
                if event.type == "text_delta":
                    break
        assert stream.is_closed
        await asyncio.sleep(0.1)
        assert [event async for event in stream] == []

    run(main())
    assert ended == [True]


def test_wait_for_loses_nothing(run, counting):
    """Time out on the next item again and again, then finish: every item arrives."""

    async def main():
        stream = counting(40, every=0.005).stream("go")
        got, timeouts = [], 0
        while True:
            try:
                event = await asyncio.wait_for(anext(stream), 0.003)
            except (asyncio.TimeoutError, TimeoutError):
                timeouts += 1
                continue
            except StopAsyncIteration:
                return got, timeouts
            if event.type == "text_delta":
                got.append(int(event.text))

    got, timeouts = run(main())
    assert got == list(range(40)) and timeouts > 5


def test_a_cancelled_loop_over_a_stream_can_be_taken_up_again(run, counting):
    async def main():
        stream = counting(30, every=0.004).stream("go")
        got = []

        async def read():
            async for event in stream:
                if event.type == "text_delta":
                    got.append(int(event.text))

        task = asyncio.ensure_future(read())
        await asyncio.sleep(0.03)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 0 < len(got) < 30
        await read()
        return got

    assert run(main()) == list(range(30))


def test_two_tasks_cannot_wait_on_one_stream(run, counting):
    async def main():
        stream = counting(2, every=0.05).stream("go")
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already waiting"):
            await anext(stream)
        return (await first).type

    assert run(main()) == "text_start"


def test_close_ends_a_pending_wait(run):
    async def never(_):
        await asyncio.sleep(60)
        yield ""

    async def main():
        stream = stepwell.HostModel(never).stream("go")
        reader = asyncio.ensure_future(stream._native.wait())
        await asyncio.sleep(0.02)
        await stream.aclose()
        await asyncio.wait_for(reader, 2)
        assert stream._native.take() is None

    run(main())


def test_a_reader_that_falls_behind_holds_the_producer_back(run):
    """The queue is bounded: a producer of a million items waits for its reader."""
    made = 0

    async def eager(_):
        nonlocal made
        while True:
            made += 1
            yield "x"
            await asyncio.sleep(0)

    async def main():
        async with stepwell.HostModel(eager).stream("go") as stream:
            await anext(stream)
            for _ in range(20):
                await asyncio.sleep(0.05)
            held = made
            await asyncio.sleep(0.2)
            assert made == held
            assert 500 < held < 1200

    run(main(), timeout=40)


def test_context_variables_are_seen_by_callbacks_of_both_kinds(run):
    async def by_coroutine(_):
        await asyncio.sleep(0)
        return here.get()

    def by_thread(_):
        on_main = threading.current_thread() is threading.main_thread()
        return f"{here.get()} {on_main}"

    async def main():
        here.set("inside")
        return (
            (await stepwell.HostModel(by_coroutine).chat("")).text,
            (await stepwell.HostModel(by_thread).chat("")).text,
            stepwell.HostModel(by_coroutine).chat_sync("").text,
        )

    assert run(main()) == ("inside", "inside False", "inside")


@pytest.mark.parametrize("is_async", [True, False])
def test_an_exception_comes_back_as_the_same_object(run, is_async):
    class Mine(Exception):
        pass

    mine = Mine("boom")

    def bad(_):
        raise mine

    async def bad_later(_):
        raise mine

    model = stepwell.HostModel(bad_later if is_async else bad)

    async def main():
        with pytest.raises(Mine) as failure:
            await model.chat("x")
        return failure.value

    error = run(main())
    assert error is mine and "in bad" in "".join(traceback.format_exception(error))
    with pytest.raises(Mine) as failure:
        model.chat_sync("x")
    assert failure.value is mine


def test_cancelling_the_task_cancels_the_callback(run):
    seen = []

    async def patient(_):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main():
        task = asyncio.ensure_future(stepwell.HostModel(patient).chat("x"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.05)

    run(main())
    assert seen == ["cancelled"]


def test_a_timeout_stops_the_call(run):
    async def main():
        with pytest.raises((asyncio.TimeoutError, TimeoutError)):
            await asyncio.wait_for(stepwell.HostModel(slow).chat("x"), 0.05)

    started = time.perf_counter()
    run(main())
    assert time.perf_counter() - started < 3


def test_a_callback_may_use_the_engine_itself(run):
    inner = stepwell.HostModel(echo)

    async def outer(request):
        answers = await asyncio.gather(*(inner.chat(f"{n}") for n in range(10)))
        return " ".join(answer.text for answer in answers)

    assert run(stepwell.HostModel(outer).chat("x")).text == " ".join(f"echo: {n}" for n in range(10))


def test_a_plain_function_may_make_sync_calls(run):
    inner = stepwell.HostModel(echo)
    model = stepwell.HostModel(lambda request: inner.chat_sync("nested").text)
    assert run(model.chat("x")).text == "echo: nested"


def test_the_blocking_twin_works_inside_a_running_loop(run):
    async def answer(_):
        await asyncio.sleep(0.01)
        return "from a coroutine"

    async def main():
        return stepwell.HostModel(answer).chat_sync("x").text

    assert run(main()) == "from a coroutine"


def test_a_sync_call_from_a_coroutine_of_a_sync_call_is_refused_not_hung():
    inner = stepwell.HostModel(echo)

    async def outer(_):
        return inner.chat_sync("x").text

    with pytest.raises(stepwell.UnsupportedError, match="await the async method"):
        stepwell.HostModel(outer).chat_sync("x")


def test_loops_may_follow_each_other_and_run_in_threads(run, counting):
    async def total():
        return len([1 async for _ in counting(300).stream("go").text()])

    for _ in range(4):
        assert run(total()) == 300
    out = []
    threads = [threading.Thread(target=lambda: out.append(asyncio.run(total()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert out == [300] * 4


def test_a_loop_that_was_closed_in_the_middle_of_a_call_leaves_nothing_stuck(run):
    async def leave():
        stepwell.HostModel(slow).stream("x")
        await asyncio.sleep(0.02)

    for _ in range(5):
        asyncio.run(leave())
    gc.collect()
    assert run(stepwell.HostModel(echo).chat("after")).text == "echo: after"


def test_uvloop_if_it_is_installed(counting):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        return len([1 async for _ in counting(1000).stream("go").text()])

    loop = uvloop.new_event_loop()
    try:
        assert loop.run_until_complete(main()) == 1000
    finally:
        loop.close()


def test_a_program_may_end_with_work_in_flight(program):
    code = """
import asyncio, stepwell
async def forever(_):
    while True:
        await asyncio.sleep(0.001)
        yield "x"
async def late(_):
    await asyncio.sleep(60)
async def main():
    global stream, call
    stream = stepwell.HostModel(forever).stream("x")
    await anext(stream)
    call = asyncio.ensure_future(stepwell.HostModel(late).chat("x"))
    other = stepwell.HostModel(forever).stream_sync("x")
    next(other)
    await asyncio.sleep(0.01)
    print("leaving")
asyncio.run(main())
"""
    ended = program(code)
    assert (ended.code, ended.out, ended.err) == (0, "leaving", "") and ended.seconds < 10


def test_a_call_after_the_end_is_refused_with_a_typed_error(program):
    code = """
import atexit, stepwell
def late():
    try:
        stepwell.HostModel(lambda request: "x").chat_sync("x")
    except stepwell.UnsupportedError as error:
        print(error)
atexit.register(late)
stepwell.HostModel(lambda request: "x").chat_sync("x")
atexit.unregister(late)
from stepwell._engine import native
native.shutdown()
late()
"""
    ended = program(code)
    assert ended.code == 0 and "while the interpreter ends" in ended.out, ended


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_the_engine_works_in_a_forked_child(program):
    code = """
import asyncio, os, stepwell
model = stepwell.HostModel(lambda request: "echo: " + request["messages"][-1].text)
async def later(request):
    await asyncio.sleep(0)
    return "coroutine"
print(asyncio.run(model.chat("parent")).text, stepwell.HostModel(later).chat_sync("x").text, flush=True)
pid = os.fork()
if pid == 0:
    try:
        model.chat_sync("x")
    except stepwell.UnsupportedError as error:
        print(error, flush=True)
    model = stepwell.HostModel(lambda request: "echo: " + request["messages"][-1].text)
    print(asyncio.run(model.chat("child")).text, flush=True)
    print(model.chat_sync("sync child").text, stepwell.HostModel(later).chat_sync("x").text, flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
print(asyncio.run(model.chat("parent again")).text)
"""
    ended = program(code)
    assert ended.out.splitlines() == [
        "echo: parent coroutine",
        "a model that was made before a fork cannot take calls in the child; make a new one there",
        "echo: child",
        "echo: sync child coroutine",
        "0",
        "echo: parent again",
    ], ended


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")
def test_ctrl_c_ends_a_blocking_call():
    code = (
        # A program started in the background of a shell ignores Ctrl-C until it says otherwise.
        "import asyncio, signal, stepwell\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "async def slow(_):\n    await asyncio.sleep(60)\n"
        "print('go', flush=True)\n"
        "stepwell.HostModel(slow).chat_sync('x')\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline().strip() == "go"
    time.sleep(0.5)
    started = time.perf_counter()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=15)
    assert "KeyboardInterrupt" in err and time.perf_counter() - started < 5


def test_importing_the_package_loads_neither_the_engine_nor_asyncio(program):
    code = "import sys, stepwell; print([m for m in ('asyncio', 'inspect', 'typing', 'stepwell._native') if m in sys.modules])"
    ended = program(code)
    assert ended.out == "[]", ended
