"""README and docs: every command is run by a test or marked as not run; links and sizes hold."""

import ast
import importlib
import re
import shlex

import pytest
from conftest import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "data/README.md", ROOT / "results/README.md"]
               + list((ROOT / "docs").glob("*.md")))
NOT_RUN = "not run"  # in a command's comment, or in the sentence that holds it
# A command, without what stands for the user's own names -> the test that runs it so.
RUN_BY = [
    (r"python main.py .*--num_workers", "tests/commands/test_workers.py"),
    (r"make run\b", "tests/commands/test_makefile.py::test_environment_that_runs"),
    (r"make test\b", "tests/commands/test_makefile.py::"
                     "test_half_made_and_outdated_environments_are_made_again"),
    (r"python main.py --recipe tuned", "tests/training/test_recipe.py"),
    (r"python main.py .*--features_of ", "tests/commands/test_features_of.py"),
    (r"python main.py --resume --run_dir ", "tests/commands/test_run.py::"
                                            "test_resume_of_a_finished_run_only_evaluates"),
    (r"python main.py --dataset_flag ", "tests/commands/test_run.py::"
                                        "test_same_seed_gives_the_same_run"),
    (r"python main.py --(method|hash_layer|center_weight)", "tests/experiments/test_reproduce.py::"
                                                            "test_a_real_grid"),
    (r"python (main|prepare|evaluate|describe|search|reproduce).py --help",
     "tests/commands/test_without_training.py::test_help_states_the_defaults_of_the_data_set"),
    (r"python main.py(?! -)", "tests/commands/test_run.py::test_orl_end_to_end"),
    (r"python evaluate.py \S+ --export", "tests/commands/test_run.py::"
                                         "test_an_exported_encoder_gives_the_runs_codes"),
    (r"python evaluate.py --codes", "tests/commands/test_evaluate.py"),
    (r"python evaluate.py \S+ \S+ (\.\.\. )?--out", "tests/commands/test_run.py::"
                                                    "test_comparison_of_runs"),
    (r"python evaluate.py \S+$", "tests/commands/test_run.py::test_orl_end_to_end"),
    (r"python reproduce.py .*--dry_run", "tests/experiments/test_reproduce.py::"
                                         "test_dry_run_trains_nothing"),
    (r"python reproduce.py", "tests/experiments/test_reproduce.py::test_a_real_grid"),
    (r"python prepare.py --source (folder|lfw|facescrub|youtube_faces)",
     "tests/faces/test_prepare.py"),
    (r"python describe.py", "tests/faces/test_describe.py"),
    (r"python search.py (index|query|add|remove|info|serve|COMMAND)",
     "tests/commands/test_search.py"),
    (r"python tests/commands/hostile.py", "tests/commands/test_hostile.py"),
    (r"python -m reports.pictures", "tests/reports/test_figures.py"),
]


def commands(path):
    """(command, whether it is marked as not run) of each command on a page."""
    text, found = path.read_text(encoding="utf-8"), []
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S):
        for line in block.splitlines():
            command, _, comment = line.partition("#")
            if command.strip().startswith(("python ", "make ")):
                found.append((command.strip(), NOT_RUN in comment))
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    for paragraph in re.split(r"\n\s*\n|\n(?=[-|])", prose):
        for command in re.findall(r"`((?:python|make) [^`]*)`", paragraph):
            found.append((" ".join(command.split()), NOT_RUN in paragraph))
    return found


COMMANDS = sorted({(command, marked) for path in PAGES for command, marked in commands(path)})


def test_node_exists(node):
    """Whether a test file, or a test in it, is there."""
    path, _, name = node.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return not name or name in {part.name for part in ast.walk(tree)
                                if isinstance(part, ast.FunctionDef)}


test_node_exists.__test__ = False


@pytest.mark.parametrize("command, marked", COMMANDS, ids=[command for command, _ in COMMANDS])
def test_commands_are_run_by_a_test_or_marked(command, marked):
    if marked or "-m benchmarks." in command:
        return
    nodes = [node for pattern, node in RUN_BY if re.match(pattern, command)]
    assert nodes and test_node_exists(nodes[0]), "%r is run by no test and not marked" % command


@pytest.mark.parametrize("command", [command for command, _ in COMMANDS if re.match(
    r"python (main|evaluate|reproduce|prepare|describe)\.py", command) and "..." not in command])
def test_commands_have_options_that_exist(command):
    """Each is taken by its command's own parser."""
    arguments = shlex.split(command)
    module = importlib.import_module(arguments[1][:-len(".py")])
    if hasattr(module, "parse_command_line") and "--help" not in arguments:
        module.parse_command_line(arguments[2:])


def test_benchmarks_that_docs_name_are_there():
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    named = set(re.findall(r"-m\s+benchmarks\.([a-z]\w+)", text))
    assert named == {path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py")}


def test_links_lead_somewhere():
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), "%s links to %s" % (path, target)


def test_the_readme_fits_its_frame():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200 and max(map(len, lines)) <= 100


def test_paths_that_design_names_are_there():
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    house = re.search(r"```\n(main.py.*?)```", text, re.S).group(1)
    named, room = {}, None
    for line in house.splitlines():
        start = re.match(r"([a-z]+)/", line)
        room = start.group(1) if start else room
        named.setdefault(room, set()).update(re.findall(r"[a-z_]+", line))
    for room in ("training", "retrieval", "faces", "reports", "experiments", "web", "runtime"):
        modules = {path.stem for path in (ROOT / room).glob("[a-z]*.py")}
        assert modules <= named[room], "%s: %s" % (room, sorted(modules - named[room]))
    for name in set(re.findall(r"`((?:[a-z_]+\.)+[a-zA-Z_]+)[`(]", text)):
        module, _, attribute = name.rpartition(".")
        path = ROOT / (module.replace(".", "/") + ".py")
        if path.exists() and attribute not in ("py", "md"):
            assert re.search(r"^\s*(def|class) %s\b|^%s\b" % (attribute, attribute),
                             path.read_text(encoding="utf-8"), re.M), "design.md names " + name
