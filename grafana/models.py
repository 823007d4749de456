"""Build the dashboard "Django Models": rows written through the models.

Fed by django-prometheus' counters, which know save() and delete() of objects;
bulk_create and changes of querysets are statements in "Django SQL Logs" only.
"""

from grafana_foundation_sdk.builders import dashboard

from grafana import events, promql
from grafana.metric_panels import Column, lines, page, ranking, shares
from grafana.panels import AnyPanel
from grafana.promql import SITE, increase, of_largest, over_time, ranked

UID = "django-models"

MODEL = f'{SITE}, model=~"$model"'
_KINDS = ("inserts", "updates", "deletes")
_NOT_BULK = "bulk_create() and updates of querysets are not counted."


def _metric(kind: str) -> str:
    return f"django_model_{kind}_total"


def _shares() -> list[AnyPanel]:
    whole = " or ".join(
        f'label_replace({increase(_metric(kind), MODEL)} > 0, "kind", "{kind}", "", "")' for kind in _KINDS
    )
    return [
        shares(
            "Writes by kind",
            f"Inserts, updates and deletes in the time range. {_NOT_BULK}",
            whole,
            "{{kind}}",
            width=6,
        ),
        *(
            shares(
                f"{kind.capitalize()} by model",
                f"The 20 models with the most {kind} in the time range.",
                ranked(increase(_metric(kind), MODEL, "model")),
                "{{model}}",
                width=6,
            )
            for kind in _KINDS
        ),
    ]


def _over_time() -> list[AnyPanel]:
    return [
        lines(
            f"{kind.capitalize()}",
            f"{kind.capitalize()} per second of the ten models with the most. {_NOT_BULK}",
            "ops",
            over_time(of_largest(_metric(kind), MODEL, "model"), "{{model}}"),
            width=8,
        )
        for kind in _KINDS
    ]


def _rankings() -> list[AnyPanel]:
    return [
        ranking(
            f"Models by {kind}",
            f"Models with the most {kind} in the time range.",
            "model",
            Column(
                title=kind.capitalize(),
                expression=ranked(increase(_metric(kind), MODEL, "model")),
            ),
            width=8,
        ).height(7)
        for kind in _KINDS
    ]


def build() -> dashboard.Dashboard:
    """Return the dashboard with its panels in display order."""
    board = page("Django Models", UID, "Rows written through the models: inserts, updates and deletes.")
    model = promql.label(
        "model", "Model", "Model that counts its writes.", f"django_model_inserts_total{{{SITE}}}"
    )
    board.variables([*promql.sites(), model]).annotation(events.annotation())
    for title, parts in (("Shares", _shares()), ("Over time", _over_time()), ("Ranked", _rankings())):
        board.with_row(dashboard.Row(title))
        for panel in parts:
            board.with_panel(panel)
    return board
