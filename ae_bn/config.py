"""Settings: their types and limits here, their defaults in ``ae_bn/defaults.yaml``.

An experiment's file holds only what it changes.  `load_config` lays four things over each other:
the defaults, the protocols that the file names under ``use``, the file, and ``key=value``
overrides.  Then it checks the result: unknown keys, wrong types and settings that exclude each
other are errors of one line that names the key.  ``ae_bn/shared.yaml`` holds the protocols, and
the levels of factors that experiments share.
"""

from __future__ import annotations

import copy
import difflib
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Literal, Optional, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema
from ruamel.yaml import YAML
from typing_extensions import Annotated

from ae_bn import choices
from ae_bn.errors import UserError

LONGEST_NGRAM = 5  # words
LARGEST, DEEPEST = 100_000, 30  # values in a config, and levels of nesting
LONGEST_NAME = 100  # characters of the name of an experiment, a factor or a level
RESERVED = ("runs", "record", "answers")  # other folders of results

DEFAULTS = Path(__file__).resolve().with_name("defaults.yaml")
SHARED = DEFAULTS.with_name("shared.yaml")  # levels and protocols that experiments name


def check_encoding(name: str) -> str:
    """Return the name of an encoding of text.

    Raises
    ------
    UserError
        If there is no such encoding.
    """
    try:
        "".encode(name)
    except (LookupError, ValueError):
        raise UserError(
            f"unknown encoding {name!r:.60}: name one of Python's, such as utf-8, cp1252 or gb18030"
        ) from None
    return name


class OneOf:
    """A setting whose value must be a name in `ae_bn.choices`; every check looks the names up.

    Parameters
    ----------
    names : function
        The function that returns the valid names.
    """

    def __init__(self, names: Callable[[], Iterable[str]]):
        self.names = names

    def check(self, name: str) -> str:
        *others, last = map(repr, self.names())
        if repr(name) not in (*others, last):
            expected = f"{', '.join(others)} or {last}" if others else last
            raise PydanticCustomError(
                "literal_error", "Input should be {expected}", {"expected": expected}
            )
        return name

    def __get_pydantic_core_schema__(self, source, handler):
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema, handler):
        return {"enum": list(self.names())}


HiddenActivation = Annotated[
    str, OneOf(lambda: [name for name, a in choices.ACTIVATIONS.items() if a.hidden])
]
OutputActivation = Annotated[str, OneOf(lambda: choices.ACTIVATIONS)]
Normalization = Annotated[str, OneOf(lambda: choices.NORMALIZATIONS)]
Loss = Annotated[str, OneOf(lambda: choices.LOSSES)]
Optimizer = Annotated[str, OneOf(lambda: choices.OPTIMIZERS)]


class Section(BaseModel):
    """A section of the config: typed, immutable, without unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DataConfig(Section):
    source: Literal[
        "auto", "sklearn", "orange", "reuters_r8", "reuters_r52", "folder", "table", "matrix"
    ]
    folder: Optional[str]
    file: Optional[str]
    encoding: Annotated[str, AfterValidator(check_encoding)]
    remove: List[Literal["headers", "footers", "quotes"]]
    stop_words: Literal["english", "smart", "none"]
    token_pattern: Optional[str]
    ngram_range: Optional[List[int]]
    min_df: Optional[Union[int, float]]
    stem: Optional[Literal["porter"]]
    vocabulary_size: int = Field(ge=1)
    input: Literal["binary", "tfidf", "sublinear_tfidf", "log_count", "as_is"]
    test_fraction: float = Field(gt=0, lt=1)
    validation_fraction: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _check(self):
        if (self.source == "folder") != (self.folder is not None):
            raise ValueError("source folder and a path in data.folder go together")
        if (self.source in ("table", "matrix")) != (self.file is not None):
            raise ValueError("source table or matrix and a path in data.file go together")
        for setting in ("stem", "token_pattern", "ngram_range", "min_df"):
            if self.source == "matrix" and getattr(self, setting) is not None:
                raise ValueError(f"source matrix has its words already: set data.{setting}=null")
        return self

    @field_validator("token_pattern")
    @classmethod
    def _check_token_pattern(cls, pattern):
        try:
            groups = re.compile(pattern or "").groups
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"{pattern!r:.60} is no regular expression ({error})") from None
        if groups > 1 or pattern == "":
            raise ValueError(f"{pattern!r:.60}: give a pattern of a word, with at most one group")
        return pattern

    @field_validator("ngram_range")
    @classmethod
    def _check_ngram_range(cls, lengths):
        if lengths is None:
            return None
        if len(lengths) != 2 or not 1 <= lengths[0] <= lengths[1] <= LONGEST_NGRAM:
            raise ValueError(
                f"{lengths}: give the least and the largest number of words, such as [1, 2]; the "
                f"largest is {LONGEST_NGRAM}"
            )
        return lengths

    @field_validator("min_df")
    @classmethod
    def _check_min_df(cls, least):
        is_share = isinstance(least, float)
        if least is not None and not (0 < least <= 1 if is_share else least >= 1):
            raise ValueError(f"{least}: give a number of documents from 1, or a share such as 0.01")
        return least


class BatchNormConfig(Section):
    hidden: bool
    top: bool
    center: bool
    normalize: bool
    scale: bool
    shift: bool
    over: Optional[Normalization]
    gradient: Literal["full", "constant", "rate_per_unit"]
    epsilon: float = Field(gt=0)

    @model_validator(mode="after")
    def _check(self):
        if self.over is not None and self.gradient != "full":
            raise ValueError(f"over {self.over} needs gradient full")
        return self


class DropoutConfig(Section):
    input: float = Field(ge=0, lt=1)
    hidden: float = Field(ge=0, lt=1)


class CompetitionConfig(Section):
    k: int = Field(ge=1)
    alpha: float = Field(ge=0)


class DenoiserStartConfig(Section):
    masking: float = Field(gt=0, lt=1)
    offset: float


class TopicsConfig(Section):
    number: int = Field(ge=2)
    alpha: float = Field(gt=0)
    heads: Optional[Literal["shift", "scale_and_shift"]]
    output: Optional[Literal["annealed", "centred_rows", "equal_rows", "held_bias"]] = None


class ModelConfig(Section):
    layers: List[PositiveInt] = Field(min_length=1)
    tied: bool
    hidden_activation: HiddenActivation
    output_activation: OutputActivation
    output_start: Literal["data", "plain"]
    denoiser_start: Optional[DenoiserStartConfig]
    loss: Loss
    sampling: Optional[int] = Field(ge=1)
    competition: Optional[CompetitionConfig]
    topics: Optional[TopicsConfig]
    batch_norm: BatchNormConfig
    dropout: DropoutConfig

    @model_validator(mode="after")
    def _check(self):
        if self.loss == "cross_entropy" and self.output_activation != "sigmoid":
            raise ValueError("loss cross_entropy needs output_activation sigmoid")
        if (self.loss == "multinomial") != (self.output_activation == "softmax"):
            raise ValueError("loss multinomial and output_activation softmax go together")
        has_start = choices.ACTIVATIONS[self.output_activation].start is not None
        if self.output_start == "data" and not has_start:
            raise ValueError(
                f"output_activation {self.output_activation} has no inverse to start from the "
                "data; set output_start to plain"
            )
        if self.loss == "multinomial" and self.sampling is not None:
            raise ValueError(
                "loss multinomial compares every word with all others; set sampling to null"
            )
        missing = [] if self.denoiser_start is None else self.needed_by_denoiser_start()
        if missing:
            raise ValueError(f"denoiser_start needs {missing[0]}")
        if self.topics is not None:
            self._check_topics()
        if self.competition is not None:
            if self.hidden_activation != "tanh":
                raise ValueError("competition needs hidden_activation tanh")
            if self.competition.k > self.layers[-1]:
                raise ValueError(
                    f"competition.k must be at most the number of code units, {self.layers[-1]}"
                )
        over = self.batch_norm.over
        if over is not None and self.batch_norm.top and self.sampling is not None:
            raise ValueError(
                f"batch_norm.over {over} and batch_norm.top take statistics of every word; set "
                "sampling to null"
            )
        return self

    @property
    def code_units(self) -> int:
        """The width of the codes; those of a topic model are the shares of the topics."""
        return self.layers[-1] if self.topics is None else self.topics.number

    @property
    def encoder_depth(self) -> int:
        """The number of layers from the documents to the codes."""
        return len(self.layers) + (self.topics is not None)

    def _check_topics(self):
        assert self.topics is not None
        needed = {
            "loss multinomial": self.loss == "multinomial",
            "tied false": not self.tied,
            "denoiser_start null": self.denoiser_start is None,
            "competition null": self.competition is None,
            "batch_norm.over null": self.batch_norm.over is None,
        }
        for need, holds in needed.items():
            if not holds:
                raise ValueError(f"topics needs {need}")
        bn, output = self.batch_norm, self.topics.output
        if output == "annealed":
            if not (bn.top and bn.center and bn.normalize and bn.gradient == "full"):
                raise ValueError(
                    "topics.output annealed starts from BN in the output: set batch_norm.top, "
                    "batch_norm.center and batch_norm.normalize to true, and gradient to full"
                )
        elif output is not None and bn.top:
            raise ValueError(
                f"topics.output {output} is for an output without BN; set batch_norm.top to false"
            )

    def needed_by_denoiser_start(self) -> List[str]:
        """Return what a start from the linear denoiser needs and these settings do not have."""
        bn = self.batch_norm
        needed = {
            "one layer in layers": len(self.layers) == 1,
            "tied false": not self.tied,
            "hidden_activation relu or linear": self.hidden_activation in ("relu", "linear"),
            "output_activation linear": self.output_activation == "linear",
            "loss squared_error": self.loss == "squared_error",
            "batch_norm.over null": bn.over is None,
            "batch_norm.gradient other than rate_per_unit": bn.gradient != "rate_per_unit",
            "batch_norm.scale and batch_norm.shift true": bn.scale and bn.shift,
        }
        return [need for need, holds in needed.items() if not holds]


class PlateauConfig(Section):
    factor: float = Field(gt=0, lt=1)
    patience: int = Field(ge=1)


class TrainingConfig(Section):
    optimizer: Optimizer
    learning_rate: float = Field(gt=0)
    batch_size: int = Field(ge=1)
    epochs: int = Field(ge=1)
    patience: int = Field(ge=1)
    seed: int = Field(ge=0)
    plateau: Optional[PlateauConfig]
    checkpoint_epochs: int = Field(ge=1)
    observe_steps: Optional[int] = Field(ge=1)
    path_epochs: Optional[int] = Field(ge=1)


class CurvatureConfig(Section):
    epochs: List[NonNegativeInt]  # 0 is the initialisation
    documents: int = Field(ge=1)
    eigenvalues: int = Field(ge=1, le=10)
    draws: int = Field(ge=1)
    steps: int = Field(ge=1)


class EvaluationConfig(Section):
    softmax_probe: bool
    topic_words: Optional[Literal[True]]
    curvature: Optional[CurvatureConfig]


class ComparisonConfig(Section):
    """Contrasts to generate (`ae_bn.study.arms.contrasts`); its further keys are factors.

    A factor with two levels is compared, from the first to the second; one with a single level
    keeps it.  There is a contrast for every combination of levels of the factors in ``within``.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: Dict[str, Union[str, List[str]]]

    within: Union[str, List[str], Dict[str, List[str]]] = []


class PublishedConfig(Section):
    """A row of numbers that others have published; its further keys are metrics."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: Dict[str, float]

    arm: str
    source: str


BAND = ("_p15", "_p50", "_p85")  # ends of the names of the curves of a band


class FigureConfig(Section):
    """A figure; which keys go with which kind: ``ae_bn.reporting.figures``."""

    kind: Literal["metrics", "response", "curves", "paths", "bands"]
    name: Optional[str] = Field(None, pattern=r"^[A-Za-z0-9_-]+$")  # of the file; the kind if null
    metrics: Optional[List[str]] = Field(None, min_length=1)  # report.metrics if null
    x: Optional[str] = None
    curves: Optional[Dict[str, str]] = Field(None, min_length=1)  # with their labels
    lines: Optional[List[str]] = Field(None, min_length=1)
    only: Dict[str, List[str]] = {}
    log: List[Literal["x", "y"]] = []
    x_label: Optional[str] = None  # the factor x, or epoch, if null

    @model_validator(mode="after")
    def _check(self):
        for kinds, key in ((["response"], "x"), (["curves", "paths", "bands"], "curves")):
            if (self.kind in kinds) != (getattr(self, key) is not None):
                raise ValueError(f"{key} goes with kind {' and '.join(kinds)}, and must be there")
        return self

    @property
    def file_name(self) -> str:
        return f"{self.name or self.kind}.png"

    @property
    def all_curves(self) -> list[str]:
        """The names of the curves that the figure is drawn from."""
        if self.kind == "bands":
            return [name + end for name in self.curves or () for end in BAND]
        return [*(self.curves or ()), *(["valid_loss"] if self.kind == "paths" else [])]


class ReferenceConfig(Section):
    """A reference, with candidates for its settings; `ae_bn.evaluation.references` chooses.

    A list that is missing has one candidate, the default.
    """

    kind: Literal["tfidf", "svd", "nmf", "lda", "denoiser", "word_vectors"]
    name: Optional[str] = None  # the title of the kind if null
    vocabulary_size: Optional[int] = Field(None, ge=1)  # data.vocabulary_size if null
    input: Optional[List[Literal["tfidf", "sublinear_tfidf"]]] = Field(None, min_length=1)
    width: Optional[List[PositiveInt]] = Field(None, min_length=1)  # the code's if null
    masking: Optional[List[Annotated[float, Field(gt=0, lt=1)]]] = Field(None, min_length=1)
    whitened: Optional[List[bool]] = Field(None, min_length=1)  # false if null
    file: Optional[str] = None  # the word vectors
    sha256: Optional[str] = Field(None, pattern="^[0-9a-f]{64}$")  # of the file

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, reference):
        return {"kind": reference} if isinstance(reference, str) else reference

    @model_validator(mode="after")
    def _check(self):
        for key, kinds in (
            ("input", ["tfidf", "svd", "nmf", "denoiser", "word_vectors"]),  # lda takes counts
            ("width", ["svd", "nmf", "lda", "denoiser", "word_vectors"]),
            ("masking", ["denoiser"]),
            ("whitened", ["svd"]),
            ("file", ["word_vectors"]),
            ("sha256", ["word_vectors"]),
        ):
            if getattr(self, key) is not None and self.kind not in kinds:
                raise ValueError(f"{key} goes with kind {' or '.join(kinds)}, not {self.kind}")
        if self.kind == "word_vectors" and not (self.file and self.sha256):
            raise ValueError("kind word_vectors needs file, and sha256, the file's checksum")
        return self


class ReportConfig(Section):
    metrics: List[str] = Field(min_length=1)
    snapshot: Literal["loss", "accuracy", "precision", "last"]
    rate: Union[PositiveFloat, Literal["valid_loss", "valid_accuracy", "valid_centred_precision"]]
    published: List[PublishedConfig]
    figures: List[FigureConfig]


class TheanoConfig(Section):
    kernels: Literal["fused", "symbolic"]


class ExperimentConfig(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=LONGEST_NAME)
    question: Optional[str]
    seeds: int = Field(ge=1)
    factors: Dict[str, Dict[str, Dict[str, Any]]]
    include: List[Dict[str, Union[str, float, List[Union[str, float]]]]]
    skip: List[Dict[str, Union[str, float, List[Union[str, float]]]]]
    compare: Dict[str, ComparisonConfig]
    references: List[ReferenceConfig]
    rate_grid: List[PositiveFloat]
    keep_models: bool
    report: ReportConfig

    @field_validator("name")
    @classmethod
    def _check_name(cls, name):
        if name.lower() in RESERVED:
            raise ValueError(f"results have a folder {name} of their own; choose another name")
        return name

    @field_validator("rate_grid")
    @classmethod
    def _check_rates(cls, rates):
        for number, rate in enumerate(rates):
            if rate in rates[:number]:
                raise ValueError(f"{rate:g} is listed twice; leave one out")
        return rates

    @field_validator("factors")
    @classmethod
    def _check_names(cls, factors):
        for name in [*factors, *(level for levels in factors.values() for level in levels)]:
            if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
                raise ValueError(
                    f"{name!r:.40} cannot be the name of a factor or level: write 1 to "
                    f"{LONGEST_NAME} characters in one line"
                )
        return factors

    @field_validator("factors", mode="before")
    @classmethod
    def _expand(cls, factors):
        """Write out the short forms of levels."""
        if not isinstance(factors, dict):
            return factors
        return {factor: _expand_levels(factor, levels) for factor, levels in factors.items()}


class Config(Section):
    """All settings of a run or of an experiment."""

    data: DataConfig
    model: ModelConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    theano: TheanoConfig
    experiment: ExperimentConfig

    def replace(self, settings: dict[str, Any]) -> Config:
        """Return a copy with some settings, named like ``model.dropout.input``, changed."""
        tree = self.model_dump()
        for key, value in settings.items():
            _assign(tree, key, copy.deepcopy(value))
        return _validate(tree)

    def run_settings(self) -> dict[str, Any]:
        """Return what decides a run's numbers: every section but ``experiment``."""
        return self.model_dump(exclude={"experiment"})


def load_config(path: str | Path | None = None, overrides: list[str] | tuple = ()) -> Config:
    """Read a config: defaults, then the protocols it uses, then the file, then the overrides.

    If the file has no ``experiment.name``, the experiment is named after the file.

    Parameters
    ----------
    path : path-like, optional
        The YAML file of the experiment.  Without it, the config has the defaults.
    overrides : list of str
        Changes of single settings, each written as ``section.key=value``.  The value is YAML.  For
        a text setting, such as data.folder, it is taken literally.

    Returns
    -------
    Config

    Raises
    ------
    UserError
        For a file that cannot be read, an unknown key, level or protocol (with the nearest valid
        one), a wrong type or value, and settings that exclude each other.
    """
    tree = _packaged(DEFAULTS)
    origin = ""
    if path is not None:
        origin, path = f"{path}: ", Path(path)
        tree["experiment"]["name"] = path.stem
        changes = _read_yaml(path)
        for protocol in _protocols(changes.pop("use", []), origin):
            _merge(tree, protocol)
        _merge(tree, changes)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise UserError(f"--set {override}: write it as section.key=value")
        _assign(tree, key.strip(), _parse_value(key.strip(), text, f"--set {override}"))
    return _validate(tree, origin)


def complete(settings: dict) -> Config:
    """Return a config from settings of an earlier version; settings that it lacked get defaults.

    Parameters
    ----------
    settings : dict
        The settings by section, as `Config.run_settings` returned them.

    Raises
    ------
    ValidationError
        If they are not settings of this version.
    """
    tree = _packaged(DEFAULTS)
    _merge(tree, settings)
    return Config.model_validate(tree)


def unpickled(settings: Any) -> Config:
    """Return the config in a pickle, which holds what `Config.run_settings` returned.

    Raises
    ------
    UserError
        If another version of this package wrote the pickle.
    """
    try:
        return complete(settings)
    except (ValidationError, AttributeError, KeyError, TypeError):
        raise UserError(
            "a pickle with other settings: another version of ae_bn wrote it: fit again, or load "
            "a model.safetensors instead"
        ) from None


def check_name(name: str | tuple, known, where: str) -> None:
    """Raise a UserError with the nearest known name if a name is not known."""
    if name not in known:
        raise UserError(f"{where}: unknown name {name!r}{_nearest(name, known)}")


def _nearest(name: str | tuple, known) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"; did you mean {close[0]!r}?" if close else ""


def _expand_levels(factor: str, levels: Any) -> Any:
    """Return the levels of a factor written out as {level: {setting: value, ...}, ...}.

    ``{set: SETTING, values: {LEVEL: value, ...}}`` gives one setting a value for each level; a list
    of values names each level after its value.  A level without settings of its own, in a list of
    names or as an empty value, is the shared level of that name.
    """
    if isinstance(levels, dict) and set(levels) == {"set", "values"}:
        setting, values = levels["set"], levels["values"]
        if isinstance(values, list):
            values = {str(value): value for value in values}
        if isinstance(setting, str) and isinstance(values, dict):
            return {str(level): {setting: value} for level, value in values.items()}
    if isinstance(levels, list) and all(isinstance(level, str) for level in levels):
        levels = dict.fromkeys(levels)
    if not isinstance(levels, dict) or not all(isinstance(name, str) for name in [factor, *levels]):
        return levels  # which is refused later
    if None not in levels.values():
        return levels
    shared = _packaged(SHARED)["levels"].get(factor, {})
    for level, settings in levels.items():
        if settings is None and level not in shared:
            raise UserError(
                f"level {level!r} of {factor} has no settings, and no shared level has its name"
                f"{_nearest(level, shared)}"
            )
    return {
        level: shared[level] if settings is None else settings for level, settings in levels.items()
    }


def _protocols(names: Any, origin: str) -> list[dict]:
    """Return the settings of the protocols that a file uses."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{origin}use: write a list of names, such as [path], not {names!r:.40}")
    protocols = _packaged(SHARED)["protocols"]
    for name in names:
        check_name(name, protocols, f"{origin}use")
    return [protocols[name] for name in names]


def _packaged(path: Path) -> dict:
    """Return what `DEFAULTS` or `SHARED` says: a copy, for the caller to change."""
    return copy.deepcopy(_read_packaged(path))


@lru_cache(maxsize=None)
def _read_packaged(path: Path) -> dict:
    return _read_yaml(path)


def _read_yaml(path: Path) -> dict:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        advice = "name a YAML file such as configs/core.yaml"
        raise UserError(f"config {path}: {reason}; {advice}") from None
    tree = _parse_yaml(text, f"config {path}")
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"config {path}: expected sections such as 'model:', not {tree!r:.40}")
    return tree


def _parse_value(key: str, text: str, where: str) -> Any:
    """Return the value of an override; text is taken as it is, as a path may hold a ``#``."""
    section: Any = Config
    for name in key.split("."):
        field = getattr(section, "model_fields", {}).get(name)
        is_choice = field is not None and any(isinstance(m, OneOf) for m in field.metadata)
        section = None if field is None or is_choice else field.annotation
    if section in (str, Optional[str]) and text not in ("", "null"):
        return text
    return _parse_yaml(text, where)


def _parse_yaml(text: str, where: str) -> Any:
    try:
        if len(text) > LARGEST:
            raise ValueError(f"more than {LARGEST} characters")
        tree = YAML(typ="safe", pure=True).load(text)
        for number, value in enumerate(_values(tree)):  # aliases can make a short text very large
            if number > LARGEST:
                raise ValueError(f"more than {LARGEST} values")
            if isinstance(value, int) and abs(value) >= 2**63:
                raise ValueError("a whole number of more than 64 bits")
    except RecursionError:
        raise UserError(f"{where:.200}: not valid YAML: nested too deeply") from None
    except Exception as error:  # odd text makes the constructors raise nearly anything
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        problem = str(getattr(error, "problem", None) or error) or type(error).__name__
        raise UserError(f"{where:.200}: not valid YAML{place}: {problem.splitlines()[0]}") from None
    return tree


def _values(tree: Any, depth: int = 0) -> Iterator[Any]:
    """Yield every value in a tree, and the keys."""
    if depth > DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} levels")
    yield tree
    if isinstance(tree, dict):
        tree = [*tree.keys(), *tree.values()]
    if isinstance(tree, (list, tuple, set)):
        for value in tree:
            yield from _values(value, depth + 1)


def _merge(tree: dict, changes: dict) -> None:
    """Lay ``changes`` over ``tree``, section by section, in place.

    An empty section, which YAML reads as null, changes nothing: its lines may all be comments.
    """
    for key, value in changes.items():
        if isinstance(tree.get(key), dict) and (value is None or isinstance(value, dict)):
            _merge(tree[key], value or {})
        else:
            tree[key] = value


def _assign(tree: dict, key: str, value: Any) -> None:
    """Set ``section.key`` in a tree of sections, in place."""
    *sections, name = key.split(".")
    for section in sections:
        if not isinstance(tree.get(section), dict):
            raise UserError(f"unknown key {key!r}{_nearest(key, _keys(Config))}")
        tree = tree[section]
    tree[name] = value


def _keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the dotted names of all sections and settings."""
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _keys(field.annotation, f"{prefix}{name}.")
    return keys


def _validate(tree: dict, origin: str = "") -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden" and key in _keys(Config):  # the dots are in a name
        name = str(first["loc"][-1])
        *sections, setting = name.split(".")
        nested = f"{setting}: ..."
        for section in reversed(sections):
            nested = f"{section}: {{{nested}}}"
        raise UserError(
            f"{origin}{name!r} is a dotted name, for --set and for levels: write {nested} instead"
        )
    if first["type"] == "extra_forbidden":
        raise UserError(f"{origin}unknown key {key!r}{_nearest(key, _keys(Config))}")
    if first["type"] == "missing":
        raise UserError(f"{origin}{key}: missing; give it a value")
    message = first["msg"].replace("Value error, ", "").replace("Input should", "should")
    given = f" (it is {first['input']!r:.60})" if first["type"] != "value_error" else ""
    raise UserError(f"{origin}{key}: {message}{given}")
