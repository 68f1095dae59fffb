"""The package's face: names, types, docs."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import stepwell

PACKAGE = Path(stepwell.__file__).parent


def test_the_names_for_checkers_and_the_names_at_run_time_are_the_same():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (branch,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {alias.asname for node in branch.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == set(stepwell.__all__)
    for name in stepwell.__all__:
        assert getattr(stepwell, name) is not None
    assert set(stepwell.__all__) <= set(dir(stepwell))


def test_the_package_is_typed_and_every_public_thing_is_documented():
    assert (PACKAGE / "py.typed").is_file() and (PACKAGE / "_native.pyi").is_file()
    for name in stepwell.__all__:
        thing = getattr(stepwell, name)
        if not inspect.isclass(thing) or thing.__module__ == "builtins":
            continue
        assert thing.__doc__, name
        for attribute, value in vars(thing).items():
            if not attribute.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                assert value.__doc__, f"{name}.{attribute}"


def test_every_coroutine_has_a_blocking_twin_of_the_same_parameters():
    for cls in (stepwell.ChatModel, stepwell.Agent, stepwell.Collection, stepwell.Embedder, stepwell.Tool):
        for name, function in inspect.getmembers(cls, inspect.iscoroutinefunction):
            if name.startswith("_"):
                continue
            twin = getattr(cls, f"{name}_sync")
            assert not inspect.iscoroutinefunction(twin)
            assert inspect.signature(twin).parameters == inspect.signature(function).parameters, f"{cls}.{name}"


def test_the_stub_names_what_the_native_module_has():
    from stepwell import _native

    tree = ast.parse((PACKAGE / "_native.pyi").read_text(encoding="utf-8"))
    stubbed = {node.name: node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    native = {name for name in dir(_native) if not name.startswith("__")}
    assert native == set(stubbed)
    for name, node in stubbed.items():
        if isinstance(node, ast.ClassDef):
            members = {
                item.name
                for item in node.body
                if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)) and item.name != "__new__"
            }
            there = {member for member in vars(getattr(_native, name)) if not member.startswith("__")}
            assert members == there, name


def test_a_native_class_names_its_public_home():
    assert stepwell.ToolContext.__name__ == "ToolContext"
    assert stepwell.ToolContext.__module__ == "stepwell"
