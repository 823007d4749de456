"""The objects of Grafana's API that the provisioning files describe.

Fed by the texts of `sqllogs.grafana.files`, feeds `sqllogs.grafana.pushing`. PyYAML is imported here
only: writing the files takes none.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqllogs.errors import ProvisioningError
from sqllogs.grafana.files import DATASOURCES

_PROVIDER = "provisioning/dashboards/django.yml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Datasource:
    definition: dict[str, Any]
    secrets: dict[str, str]
    correlations: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    datasources: list[Datasource]
    folder_uid: str
    folder_title: str
    dashboards: list[dict[str, Any]]


def objects(texts: Mapping[str, str]) -> Objects:
    """Read the texts as Grafana does; raise ProvisioningError when a secret is not in the environment."""
    (provider,) = _yaml(texts[_PROVIDER])["providers"]
    return Objects(
        datasources=[_datasource(one) for one in _yaml(texts[DATASOURCES])["datasources"]],
        folder_uid=provider["folderUid"],
        folder_title=provider["folder"],
        dashboards=[json.loads(text) for path, text in texts.items() if path.startswith("dashboards/")],
    )


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as exc:
        raise ProvisioningError("--push needs PyYAML: `pip install requests PyYAML`.") from exc
    return yaml.safe_load(text)


def _datasource(given: dict[str, Any]) -> Datasource:
    secrets = given.pop("secureJsonData", {})
    correlations = given.pop("correlations", [])
    del given["editable"]  # of files alone: what came by the API can be edited
    return Datasource(
        definition=_unescaped(given),
        secrets={name: _from_environment(value.removeprefix("$")) for name, value in secrets.items()},
        correlations=_unescaped(correlations),
    )


def _unescaped(value: Any) -> Any:
    """Return what is in a file, where `$$` is a dollar, as the API wants it."""
    if isinstance(value, dict):
        return {key: _unescaped(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_unescaped(one) for one in value]
    return value.replace("$$", "$") if isinstance(value, str) else value


def _from_environment(name: str) -> str:
    if value := os.environ.get(name):
        return value
    raise ProvisioningError(
        f"{name} is not set: the token with which Grafana reads the SQL log. "
        f"`export {name}=$(python manage.py sqllogs token create grafana)` makes one."
    )
