"""The project's checks; ``nox -l`` lists them, ``nox -s tests`` runs one."""

import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.options.default_venv_backend = "venv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # the matrix skips what is not installed
nox.options.reuse_existing_virtualenvs = False
nox.options.sessions = ["lint", "types", "tests"]

PROJECT = nox.project.load_toml("pyproject.toml")["project"]
OFFLINE = {"HF_HUB_OFFLINE": "1"}  # a test that would download fails instead
RUNNABLE = "not gpu and not network and not deepspeed"  # any computer can, the slow tests too
PATIENT = ("--timeout", "1200")  # seconds a test
IN_THE_WHEEL = (
    "lit_vlm/py.typed",
    "lit_vlm/callbacks/__init__.py",
    "lit_vlm/configs/quickstart.yaml",
)


def tools(*names: str) -> list[str]:
    """Return the requirements of the ``dev`` extra that bear these names."""
    dev = PROJECT["optional-dependencies"]["dev"]
    return [requirement for requirement in dev if Requirement(requirement).name in names]


def lowest() -> list[str]:
    """Turn every dependency ``name>=X`` into the constraint ``name==X``."""
    pins = []
    for requirement in map(Requirement, PROJECT["dependencies"]):
        [bound] = [part.version for part in requirement.specifier if part.operator == ">="]
        pins.append(f"{requirement.name}=={bound}")
    return pins


@nox.session
def lint(session: nox.Session) -> None:
    """Check the code's rules and its formatting, without installing the project."""
    session.install(*tools("ruff"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package and of the tests."""
    session.install(".[dev]")
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests on the wheel, with this Python and the newest dependencies."""
    session.install(".[dev]")  # not -e: the wheel is what users get
    session.run("pytest", *session.posargs, env=OFFLINE)


@nox.session(python=["3.10", "3.11", "3.12", "3.13"])
@nox.parametrize("dependencies", ["lowest", "newest"])
def matrix(session: nox.Session, dependencies: str) -> None:
    """Run the tests with every supported Python and the lowest or newest dependencies."""
    if dependencies == "newest":
        session.install(".[dev]")
        session.run("pytest", *session.posargs, env=OFFLINE)
    else:
        constraints = Path(session.create_tmp(), "lowest.txt")
        constraints.write_text("\n".join(lowest()))
        session.install(".[dev]", "--constraint", str(constraints))
        # old releases warn about one another, which is no fault of ours
        session.run("pytest", "-W", "default", *session.posargs, env=OFFLINE)


@nox.session
def e2e(session: nox.Session) -> None:
    """Run the tests that take minutes: whole runs through the command line."""
    session.install(".[dev]")
    session.run("pytest", "-m", f"slow and {RUNNABLE}", *PATIENT, *session.posargs, env=OFFLINE)


@nox.session
def docs(session: nox.Session) -> None:
    """Run the examples of docstrings and every code block of the README and of docs/."""
    session.install(".[dev]")
    examples = ("lit_vlm", "tests/docs", "-m", RUNNABLE)
    session.run("pytest", *examples, *PATIENT, *session.posargs, env=OFFLINE)


@nox.session
def build(session: nox.Session) -> None:
    """Build the sdist, from it the wheel, and look at what an empty environment gets."""
    session.install(*tools("build"))
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--outdir", folder, ".")
        [wheel] = Path(folder).glob("*.whl")
        names = Counter(zipfile.ZipFile(wheel).namelist())
        wrong = [name for name in IN_THE_WHEEL if name not in names]
        wrong += [name for name, count in names.items() if count > 1]
        if wrong:
            session.error(f"not exactly once in {wheel.name}: {', '.join(wrong)}")

        session.install("--no-deps", "--force-reinstall", str(wheel))
        with session.chdir(folder):  # at the root, python -c would find the checkout
            session.run("python", "-c", "import lit_vlm; print(lit_vlm.__version__)")
            absent = "from importlib.util import find_spec; assert find_spec({!r}) is None"
            session.run("python", "-c", absent.format("callbacks"))
            session.run("python", "-c", absent.format("configs"))
