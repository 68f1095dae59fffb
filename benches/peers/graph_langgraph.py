"""The rows of `benches/graph` by langgraph: prints `row value` lines. CPU time of the process, medians."""
import asyncio, gc, operator, os, statistics, tempfile, time, warnings
from typing import Annotated
from typing_extensions import TypedDict

warnings.simplefilter("ignore")
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import create_react_agent
from langgraph.types import Send, interrupt

STEPS, LONG, BYTES, PAUSED = 1000, 1001, 200, 1000
threads = 0


def config():
    global threads
    threads += 1
    return {"configurable": {"thread_id": f"t{threads}"}, "recursion_limit": 3000}


def cpu(work, rounds):
    times = []
    for _ in range(rounds):
        gc.collect()
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return statistics.median(times)


def tell(row, value):
    print(row, value, flush=True)


class Talk(TypedDict):
    messages: Annotated[list, add_messages]
    n: int


# First, while the heap is small: what is freed later would hide what a run takes.
def resident():
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


async def ask(state):
    return {"messages": [AIMessage(str(interrupt("ok?")))]}


graph = StateGraph(Talk)
graph.add_node("ask", ask)
graph.add_edge(START, "ask")
graph.add_edge("ask", END)
asking = graph.compile(checkpointer=InMemorySaver())


async def pause(count):
    for _ in range(count):
        await asking.ainvoke({"messages": [HumanMessage("x" * BYTES)], "n": 0}, config())


asyncio.run(pause(50))
before = resident()
asyncio.run(pause(PAUSED))
tell("paused", (resident() - before) / PAUSED)


class Count(TypedDict):
    n: int


def counter(saver=None):
    graph = StateGraph(Count)
    graph.add_node("a", lambda state: {"n": state["n"] + 1})
    graph.add_node("b", lambda state: {"n": state["n"] + 1})
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    graph.add_conditional_edges("b", lambda state: "a" if state["n"] < STEPS else END, ["a", END])
    return graph.compile(checkpointer=saver)


plain = counter()
tell("step", cpu(lambda: plain.invoke({"n": 0}, config()), 3) / STEPS * 1e6)
tell("step_memory", cpu(lambda: counter(InMemorySaver()).invoke({"n": 0}, config(), durability="async"), 3) / STEPS * 1e6)


def with_sqlite(work):
    folder = tempfile.mkdtemp()
    with SqliteSaver.from_conn_string(os.path.join(folder, "c.db")) as saver:
        work(saver)
    return sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))


tell("step_sqlite", cpu(lambda: with_sqlite(lambda saver: counter(saver).invoke({"n": 0}, config(), durability="async")), 3) / STEPS * 1e6)


def long(saver=None):
    marks = []

    def say(state):
        marks.append(time.process_time())
        return {"messages": [AIMessage("y" * BYTES, id=f"m{state['n']}")], "n": state["n"] + 1}

    graph = StateGraph(Talk)
    graph.add_node("say", say)
    graph.add_edge(START, "say")
    graph.add_conditional_edges("say", lambda state: "say" if state["n"] < LONG else END, ["say", END])
    options = {"durability": "async"} if saver else {}
    graph.compile(checkpointer=saver).invoke({"messages": [], "n": 0}, config(), **options)
    per = lambda low, high: (marks[high] - marks[low]) / (high - low)
    return per(900, 1000) / per(5, 105)


tell("growth", statistics.median(long() for _ in range(3)))
grown = []
size = with_sqlite(lambda saver: grown.append(long(saver)))
tell("growth_sqlite", grown[0])
tell("disk", size / (LONG * BYTES))


class Fan(TypedDict):
    items: list
    out: Annotated[list, operator.add]


graph = StateGraph(Fan)
graph.add_node("seed", lambda state: {})
graph.add_node("work", lambda state: {"out": [state["i"] + 1]})
graph.add_node("sum", lambda state: {})
graph.add_edge(START, "seed")
graph.add_conditional_edges("seed", lambda state: [Send("work", {"i": i}) for i in state["items"]], ["work"])
graph.add_edge("work", "sum")
graph.add_edge("sum", END)
fan = graph.compile()
tell("sends", cpu(lambda: fan.invoke({"items": list(range(1000)), "out": []}, config()), 3) * 1e3)


class Fake(BaseChatModel):
    turns: int = 1

    @property
    def _llm_type(self):
        return "fake"

    def bind_tools(self, tools, **options):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **options):
        done = sum(isinstance(message, ToolMessage) for message in messages)
        message = AIMessage("", tool_calls=[{"name": "add", "args": {"a": done, "b": 1}, "id": f"c{done}"}]) if done < self.turns else AIMessage("done")
        return ChatResult(generations=[ChatGeneration(message=message)])


@tool
def add(a: int, b: int) -> int:
    "Adds two integers."
    return a + b


agent = create_react_agent(Fake(), [add])
tell("turn", cpu(lambda: [agent.invoke({"messages": [HumanMessage("hi")]}) for _ in range(20)], 5) / 20 * 1e6)
