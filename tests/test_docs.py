"""README and docs: commands have options that exist, links and names lead somewhere."""

import importlib
import re
import shlex

import pytest
from conftest import ROOT

from faces.splits import REASONS

PAGES = sorted([ROOT / "README.md", ROOT / "data/README.md", ROOT / "results/README.md"]
               + list((ROOT / "docs").glob("*.md")))


def commands(path):
    """The commands of a page."""
    text = path.read_text(encoding="utf-8")
    lines = [line.partition("#")[0].strip() for block in re.findall(
        r"^```\w*\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    lines += [" ".join(command.split()) for command in re.findall(r"`(python [^`]*)`", prose)]
    return [line for line in lines if re.match(
        r"python (main|evaluate|reproduce|prepare|describe)\.py", line) and "..." not in line]


@pytest.mark.parametrize("command", sorted({command for path in PAGES
                                            for command in commands(path)}))
def test_commands_have_options_that_exist(command):
    """Each is taken by its command's own parser."""
    arguments = shlex.split(command)
    module = importlib.import_module(arguments[1][:-len(".py")])
    if hasattr(module, "parse_command_line") and "--help" not in arguments:
        module.parse_command_line(arguments[2:])


def test_benchmarks_that_docs_name_are_there():
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    named = set(re.findall(r"-m\s+benchmarks\.([a-z]\w+)", text))
    assert named and named <= {path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py")}


def test_every_reason_to_leave_a_photograph_out_is_explained():
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    assert set(REASONS) <= set(re.findall(r"[a-z_0-9]+", text))


def test_links_lead_somewhere():
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path} links to {target}"


def test_names_that_design_mentions_are_there():
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z_]+\.)+[a-zA-Z_]+)[`(]", text))
    assert len(named) > 10
    for name in named:
        module, _, attribute = name.rpartition(".")
        if attribute in ("py", "md"):
            assert (ROOT / name).exists(), name
            continue
        while not (ROOT / (module.replace(".", "/") + ".py")).exists() and "." in module:
            module = module.rpartition(".")[0]  # a class's method
        found = importlib.import_module(module)
        for part in name[len(module) + 1:].split("."):
            found = getattr(found, part)
