"""What is installed: the wheel's content, and that setup.py and requirements.lock agree."""

from __future__ import annotations

import email
import re
import zipfile
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pipelines", "transforms", "templates")
PLATFORMS = [(python, system) for python in ("3.10", "3.11", "3.12", "3.13") for system in ("linux", "darwin")]


@pytest.fixture(scope="module")
def wheel(wheel_file: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(wheel_file)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


@pytest.fixture(scope="module")
def requirements(metadata: email.message.Message) -> list[Requirement]:
    return [Requirement(text) for text in metadata.get_all("Requires-Dist") or []]


def locked(python: str, system: str, lock: str = "requirements-test.lock") -> dict[str, str]:
    """Returns the versions in a lock on one platform, by name."""
    environment = {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system,
        "extra": "",
    }
    found = {}
    for line in (ROOT / lock).read_text().replace("\\\n", "").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            pinned, *hashes = line.split("--hash=")
            assert hashes, f"{lock}: {line}"
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", hash_) for hash_ in hashes)
            requirement = Requirement(pinned)
            (pin,) = requirement.specifier
            assert pin.operator == "==", line
            if requirement.marker is None or requirement.marker.evaluate(environment):
                name = canonicalize_name(requirement.name)
                assert name not in found, f"two versions of {name} on {python} {system}"
                found[name] = pin.version
    return found


def extra_of(requirement: Requirement) -> str:
    """Returns the extra that a requirement is of; "" where it is always installed."""
    found = re.search(r'extra == "(\w+)"', str(requirement.marker or ""))
    return found[1] if found else ""


def is_for(requirement: Requirement, python: str) -> bool:
    """Tells whether a requirement is one on a version of Python."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": extra_of(requirement)}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def test_the_wheel_holds_every_module_and_template_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    wanted = {
        f"textmint/{path.relative_to(ROOT).as_posix()}"
        for package in PACKAGES
        for pattern in ("*.py", "*.jinja2", "topics.txt", "*.yaml", "py.typed")
        for path in (ROOT / package).rglob(pattern)
    }
    # What `import textmint` gives is the package itself.
    wanted = {name.replace("textmint/pipelines/api/", "textmint/") for name in wanted}
    assert {
        "textmint/templates/classify.jinja2",
        "textmint/templates/topics.txt",
        "textmint/pipelines/beam_yaml/providers.yaml",
        "textmint/transforms/llm/offline/fields.yaml",
        "textmint/transforms/py.typed",
        "textmint/__init__.py",
        "textmint/py.typed",
        "textmint/pipelines/__main__.py",
        "textmint/transforms/llm/base.py",
    } <= wanted
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == wanted


def test_the_program_is_the_main_function(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert wheel.read(name).decode().split("\n")[:2] == [
        "[console_scripts]",
        "textmint = textmint.pipelines.__main__:program",
    ]
    from textmint.pipelines.__main__ import program

    assert callable(program)


def test_name_and_pythons(metadata: email.message.Message) -> None:
    assert metadata["Name"] == "textmint"
    accepted = SpecifierSet(metadata["Requires-Python"])
    assert [minor for minor in range(8, 16) if accepted.contains(f"3.{minor}.4")] == [10, 11, 12, 13]


@pytest.mark.parametrize(("python", "system"), PLATFORMS)
def test_the_lock_has_every_requirement_within_its_range(
    requirements: list[Requirement], python: str, system: str
) -> None:
    versions = locked(python, system)
    requirements = [each for each in requirements if is_for(each, python) and extra_of(each) != "train"]
    names = {requirement.name for requirement in requirements}
    assert {"apache-beam", "pyarrow", "google-genai", "openai", "pytest"} <= names
    for requirement in requirements:
        version = versions.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in requirements.lock; its first lines say how to make it anew"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}, but {version} is locked"
    run = locked(python, system, "requirements.lock")
    assert run.items() < versions.items()
    assert {canonicalize_name(each.name) for each in requirements if extra_of(each) in ("", "prices")} < run.keys()
    assert "setuptools" in run  # which installs the project itself
    assert not {"scipy", "datasketch", "pytest", "torch"} & run.keys()


def test_what_users_install_by_name_has_an_upper_bound(requirements: list[Requirement]) -> None:
    by_extra: dict[str, dict[str, SpecifierSet]] = {}
    for requirement in requirements:
        by_extra.setdefault(extra_of(requirement), {})[requirement.name] = requirement.specifier
    assert by_extra.keys() == {"", "build", "hub", "prices", "train", "yaml", "test"}
    for extra, names in {
        "hub": {"huggingface_hub"},
        "prices": {"genai-prices"},
        "yaml": {"apache-beam"},
        "train": {"accelerate", "datasets", "sentence-transformers", "torch"},
    }.items():
        assert by_extra[extra].keys() == names
    for extra in ("", "hub", "prices", "yaml", "train"):
        for specifier in by_extra[extra].values():
            assert {part.operator for part in specifier} == {">=", "<"}


@pytest.mark.parametrize(
    ("lock", "command"),
    [
        ("requirements.lock", "--extra build --extra prices --generate-hashes setup.py -o requirements.lock"),
        (
            "requirements-test.lock",
            "--extra test --generate-hashes -c requirements.lock setup.py -o requirements-test.lock",
        ),
    ],
)
def test_the_lock_says_how_it_is_made_and_names_no_machine(lock: str, command: str) -> None:
    text = (ROOT / lock).read_text()
    assert f"uv pip compile --universal --python-version 3.10 {command}" in "".join(text.splitlines(keepends=True)[:3])
    assert not re.search(r"://|file:", text)
