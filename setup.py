"""What an installed Textmint consists of and what it needs.

Ranges stand here. The exact versions that are tested, and the hashes of their files, stand in requirements.lock for a
run and in requirements-test.lock for the tests; the first lines of each hold the command that makes it anew, the first
file first. run.sh, CI and the image install nothing else, and no package without its hash.
"""

from setuptools import find_packages, setup

# Google Cloud: gs:// paths and the translation for Dataflow need the four named google-* packages below. Beam's own
# extra `gcp` also brings them, with some forty clients of other services and a package that has no wheel; whoever
# wants those (BigQuery, Spanner, Pub/Sub) can install `apache-beam[gcp]` beside Textmint.
RUN = [
    # The minor versions that were tried: the local runner uses what Beam keeps to itself.
    "apache-beam>=2.77,<2.78",
    "pyarrow>=18,<26",
    "aiohttp>=3.14,<4",  # the HTTP client of all back ends; google-genai is several times slower over its default one
    "google-apitools>=0.5.31,<0.6",
    "google-auth-httplib2>=0.2,<0.5",
    "google-cloud-aiplatform>=1.160,<2",
    "google-cloud-dataflow-client>=0.13,<0.14",
    "google-cloud-secret-manager>=2.20,<3",  # the oldest that was tried; workers read an API key with it
    "google-cloud-storage>=3,<4",
    "google-genai>=2.33,<3",  # the oldest that was tried; the service tier and the raw reply need a recent one
    "jinja2>=3.1,<4",
    "json_repair>=0.64,<1",
    "msgspec>=0.21,<1",  # MessagePack for what is shuffled
    "numpy>=1.24,<3",  # what sketches are computed with
    "pygal>=3.1,<4",  # draws the report's pictures as SVG
    "py3langid>=0.4,<0.5",  # its model travels in its wheel; another model may judge texts differently
    "pyyaml>=6,<7",
    "rich>=15,<16",  # tables on a terminal
    "tqdm>=4.66,<5",
    "wcwidth>=0.9,<1",  # columns of a text on a terminal
]
# What knows the prices of models, for `plan` and --max_cost; it needs Python 3.11.
PRICES = ["genai-prices>=0.2.3,<0.3; python_version >= '3.11'"]
# What --push_to_hub needs.
HUB = ["huggingface_hub>=2,<3"]
# What Beam YAML needs, to run pipelines/beam_yaml. Beam keeps pandas below 2.4 for it.
YAML = ["apache-beam[yaml]>=2.77,<2.78"]
# What examples/train_embeddings.py needs. It is in no lock file: torch is several GB where it comes with CUDA,
# and which build suits depends on the machine.
TRAIN = [
    "accelerate>=1,<2",
    "datasets>=5,<6",
    "sentence-transformers>=6.2,<7",  # the cache of gradients as a part for losses of one's own
    "torch>=2.6,<3",
]
# What builds the wheel, and the editable install.
BUILD = ["setuptools>=77"]
TEST = [
    *BUILD,
    *HUB,
    *PRICES,
    *YAML,
    "datasets>=5,<6",  # reads the dataset folder as its users do
    "hypothesis>=6.100,<7",
    "import-linter>=2.13,<3",  # the layers, in pyproject.toml
    "ipykernel>=7,<8",  # runs the notebooks of examples/
    "mypy>=2,<3",
    "nbclient>=0.10,<1",
    "openai[aiohttp]>=3,<4",  # a real client, to hold the local endpoint of the tests against
    "packaging>=24",
    "playwright>=1.55,<2",  # looks at the report in Chromium
    "pytest>=9,<10",
    "pytest-xdist>=3.6,<4",  # a process a core: half of the time on two
    "python-hcl2>=8,<9",  # reads deploy/terraform
    "ruff>=0.17,<0.18",  # a newer minor release may format differently
    "types-PyYAML",
    "types-tqdm",
]
FOLDERS = find_packages(include=["pipelines*", "transforms*", "templates*"], exclude=["pipelines.api"])

setup(
    name="textmint",
    version="0.1.0",
    description="Mints text classification data with a large language model, to train embedding models on.",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.14",
    packages=["textmint", *(f"textmint.{name}" for name in FOLDERS)],
    # The folders stay where the graph is looked for; installed, they are textmint.*, which collides with nobody.
    package_dir={
        "textmint": "pipelines/api",
        **{f"textmint.{name}": name for name in ("pipelines", "templates", "transforms")},
    },
    package_data={
        "textmint": ["py.typed"],
        "textmint.pipelines": ["py.typed"],
        "textmint.pipelines.beam_yaml": ["providers.yaml"],
        "textmint.templates": ["*.jinja2", "topics.txt"],
        "textmint.transforms": ["py.typed", "llm/offline/*.yaml"],
    },
    install_requires=RUN,
    extras_require={"build": BUILD, "hub": HUB, "prices": PRICES, "train": TRAIN, "yaml": YAML, "test": TEST},
    entry_points={"console_scripts": ["textmint = textmint.pipelines.__main__:program"]},
)
