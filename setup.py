"""Packaging.  `constraints.txt` pins the versions that made the results."""

import re
from pathlib import Path

from setuptools import find_packages, setup

source = Path(__file__).with_name("ae_bn").joinpath("__init__.py").read_text(encoding="utf-8")

# These are enough to encode text with a trained model, on any Python.
ENCODER = [
    "numpy>=1.22,<1.24; python_version < '3.12'",  # Theano uses np.bool
    "numpy>=1.26; python_version >= '3.12'",
    "scipy>=1.8; python_version < '3.12'",
    "scipy>=1.11; python_version >= '3.12'",
    "pydantic>=2.0,<3",
    "ruamel.yaml>=0.17.21",
    "safetensors>=0.3.1",
    "platformdirs>=2.5",
    "tqdm>=4.60",
]
# Training needs Theano, which imports distutils, which Python 3.12 lacks.
TRAINING = [
    "Theano-PyMC==1.1.2",
    "scikit-learn>=1.2",  # up to 1.7, the last version for this NumPy
    "nltk>=3.8",  # the stemmer that KATE used
    "python-rake>=1.5",  # the SMART list of stop words
    "matplotlib>=3.7",
    "pillow>=8",
    "pandas>=1.4",
    "tabulate>=0.8.9",
    "joblib>=1.4",  # its loky runs the workers
    "filelock>=3.4",
    "threadpoolctl>=3.0",
    "statsmodels>=0.13.5",
    "jinja2>=3.0",
    "markdown>=3.4",
]
# The BLAS that compiled code is linked to, on platforms with a wheel of it.
BLAS = (
    "scipy-openblas32>=0.3.27,<0.4; "
    "sys_platform == 'linux' and platform_machine in 'x86_64 aarch64'"
)

# The interactive figures of results/report.html.
REPORT = ["vl-convert-python>=1.7"]

# Tables in .parquet.
PARQUET = ["pyarrow>=8"]

setup(
    name="ae_bn",
    version=re.search(r'^__version__ = "(.+)"', source, re.MULTILINE).group(1),
    description="Batch Normalization and dropout in autoencoders for sparse text",
    license="MIT",
    packages=find_packages(include=["ae_bn", "ae_bn.*"]),
    package_data={
        "ae_bn": ["defaults.yaml", "shared.yaml", "scipy_openblas.h"],
        "ae_bn.kernels": ["*.cpp", "*.h"],
    },
    entry_points={"console_scripts": ["ae-bn = ae_bn.commands:main"]},
    python_requires=">=3.8",
    install_requires=[
        *ENCODER,
        *(f"{name}; python_version < '3.12'" for name in TRAINING),
        f"{BLAS} and python_version < '3.12'",
    ],
    extras_require={
        "report": REPORT,
        "test": [
            *REPORT,
            *PARQUET,
            "pytest>=7",
            "pytest-cov>=5",
            "pytest-xdist>=3.6",
            "hypothesis>=6",
            "distributed>=2023.5",
            "psutil",
        ],
        "docs": ["sphinx>=7", "myst-parser>=3", "furo>=2023.9"],
        "dev": ["ruff", "mypy>=1.10", "pre-commit>=3", "import-linter>=2.0"],
        "cluster": ["distributed>=2023.5"],
        "parquet": PARQUET,
        "bench": ["torch>=2.4"],
    },
)
