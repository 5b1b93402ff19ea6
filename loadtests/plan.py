"""What a load test is to do: `[experiments.load]` with the command line's changes. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from pydantic import ValidationError

from core.configuration import Configuration, GatewayTable, LoadTable
from core.errors import ConfigurationError
from core.run.stages import SEARCH, search_of
from core.statistics.rate_search import Search, expected_calls
from core.variants import Variant
from loadtests.arrivals import SPACINGS, Shape, Spacing, shape_of

# Options that replace a key of [experiments.load] of the same name; "" leaves it as it is.
OVERRIDES: Final = ("warmups", "shape", "start_rps", "end_rps", "duration_s", "max_in_flight")
# Options that select variants, each by a word of its own.
_SELECTING: Final[Mapping[str, Callable[[Variant], str]]] = {
    "model": lambda variant: variant.model,
    "memory_mb": lambda variant: str(variant.memory_mb),
    "variants": lambda variant: variant.key,
}
# Locust's own options that the plan replaces: what each is left at, and what to use instead.
_RATE: Final = "Give the rate by --shape, --start-rps and --end-rps."
_NO_USERS: Final = "Leave it away: the load is sent without users. --model and --memory-mb select variants."
REPLACED_OPTIONS: Final[Mapping[str, tuple[object, str]]] = {
    "host": (None, "Set AWS_ENDPOINT_URL for a lab, or unset it for AWS: the load goes to the deployed stack."),
    "num_users": (None, _RATE),
    "spawn_rate": (None, _RATE),
    "run_time": (None, "Give the duration by --duration-s, or by `steps` of [experiments.load]."),
    "tags": (None, _NO_USERS),
    "exclude_tags": (None, _NO_USERS),
    "config_users": (None, _NO_USERS),
    "class_picker": (False, _NO_USERS),
    "equal_weights": (False, _NO_USERS),
    "enable_rebalancing": (False, _NO_USERS),
    "stop_timeout": (0, "Leave it away: calls in progress at the end of the load are awaited, except at Ctrl-C."),
    "otel": (False, "Leave it away: the requests are sent without the libraries that it instruments."),
    "profile": (None, "Use --benchmark-profile for a profile of benchmark.toml."),
    "exit_code_on_error": (
        1,
        "Leave it away: failed calls are results; 0 means that the plan was sent.",
    ),
}
# Beyond the gateway's own time: an answer that comes so late was lost on its way.
LATE_ANSWER_S: Final = 31.0


def gateway_patience_s(gateway: GatewayTable) -> float:
    """How long to wait for an answer of the REST endpoint: the gateway gives one by its integration timeout."""
    return gateway.integration_timeout_ms / 1000 + LATE_ANSWER_S


@dataclass(frozen=True)
class LoadPlan:
    """One stage a variant, one after another, all under the same shape."""

    variants: tuple[Variant, ...]
    table: LoadTable
    spacing: Spacing
    seed: int
    patience_s: float  # how long a call waits for its answer
    search: Search  # of shape = "search"
    limit_ms: float  # of the search

    @property
    def shape(self) -> Shape:
        return shape_of(self.table)


def make_plan(configuration: Configuration, options: Mapping[str, Any]) -> LoadPlan:
    """Apply `options`, all of them text, to the configuration. Raises ConfigurationError."""
    check_replaced_options(options)
    overrides = {key: options[key] for key in OVERRIDES if options.get(key) not in (None, "")}
    try:
        # Not strict: options are text, and Pydantic reads the numbers out of it.
        table = LoadTable.model_validate(configuration.experiments.load.model_dump() | overrides, strict=False)
    except ValidationError as error:
        detail = error.errors()[0]
        name = str(detail["loc"][0]).replace("_", "-")
        raise ConfigurationError(
            f"--{name} is {detail['input']!r}; {detail['msg'][0].lower()}{detail['msg'][1:]}"
        ) from None
    spacing = options.get("spacing") or "even"
    if table.shape == SEARCH:
        spacing = "poisson"  # what the highest rate is defined by
    if spacing not in SPACINGS:
        raise ConfigurationError(f"--spacing is {spacing!r}; allowed: {', '.join(SPACINGS)}")
    plan = LoadPlan(
        variants=_select(configuration.variants, options),
        table=table,
        spacing=cast("Spacing", spacing),
        seed=configuration.experiments.seed,
        patience_s=gateway_patience_s(configuration.gateway),
        search=search_of(table, configuration.goal),
        limit_ms=configuration.goal.limit_ms,
    )
    if not math.isfinite(plan.shape.expected_arrivals):
        raise ConfigurationError(
            "the load never ends: its rate or its duration is infinite",
            hint="Give --end-rps and --duration-s as numbers, for example 100 and 300.",
        )
    if plan.shape.expected_arrivals < 1:
        raise ConfigurationError(
            f"the load offers {plan.shape.expected_arrivals:.2f} requests in {plan.shape.duration_s:g} s",
            hint="Raise --end-rps or --duration-s so that at least one request is sent.",
        )
    return plan


def planned_arrivals(configuration: Configuration) -> int:
    """Return what one variant's load is expected to offer."""
    table = configuration.experiments.load
    if table.shape == SEARCH:
        return min(table.search_calls, expected_calls(configuration.goal.max_bad_share))
    return round(shape_of(table).expected_arrivals)


def planned_duration_s(configuration: Configuration) -> float:
    """Return how long one variant's load is expected to take; a search, at half of its highest rate."""
    table = configuration.experiments.load
    if table.shape == SEARCH:
        return planned_arrivals(configuration) / (table.end_rps / 2)
    return shape_of(table).duration_s


def selecting_words(variants: Iterable[Variant]) -> list[str]:
    """Return the words of a command line that load these variants and no others of benchmark.toml."""
    return ["--variants", ",".join(variant.key for variant in variants)]


def check_replaced_options(options: Mapping[str, Any]) -> None:
    """Refuse what Locust would take and this load test would ignore. Raises ConfigurationError."""
    for name, (untouched, hint) in REPLACED_OPTIONS.items():
        value = options.get(name)
        if value not in (None, "", [], untouched):
            option = "users" if name == "num_users" else name.replace("_", "-")
            raise ConfigurationError(f"--{option} {value} has no effect on this load test", hint=hint)


def _select(variants: Sequence[Variant], options: Mapping[str, Any]) -> tuple[Variant, ...]:
    """Return the variants that no option leaves out. Raises ConfigurationError for a word that selects none."""
    selected = tuple(variants)
    for option, word_of in _SELECTING.items():
        words = str(options.get(option) or "").replace(",", " ").split()
        allowed = dict.fromkeys(word_of(variant) for variant in variants)
        if unknown := [word for word in words if word not in allowed]:
            raise ConfigurationError(
                f"--{option.replace('_', '-')} is {unknown[0]!r}, which is not in the matrix; "
                f"allowed: {', '.join(allowed)}",
                hint="Give one value, or several with commas between them.",
            )
        selected = tuple(variant for variant in selected if not words or word_of(variant) in words)
    return selected
