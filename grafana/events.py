"""Mark deploys, migrations and new findings in every chart, read from the API's `events/`."""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from grafana.infinity import DATASOURCE, Column, Query

_COLUMNS = (
    Column(selector="time", type="timestamp"),
    Column(selector="timeEnd", type="timestamp"),
    Column(selector="title", type="string"),
    Column(selector="text", type="string"),
    Column(selector="tags", type="string"),
)


class _Annotation(dashboard.AnnotationQuery):
    """An annotation whose target is a request of Infinity, which the library does not support."""

    def build(self) -> models.AnnotationQuery:
        model = super().build()
        model.target = Query(
            path="events/", params={"from": "${__timeFrom}", "to": "${__timeTo}"}, columns=_COLUMNS
        )
        return model


def annotation() -> dashboard.AnnotationQuery:
    return (
        _Annotation()
        .name("Deploys, migrations, findings")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color("purple")
    )
