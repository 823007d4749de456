"""--push sends all objects and prints the result of each."""

import pytest

from tests.sqllogs.grafana.stand_in import ADMIN, EDITOR, PASSWORD, USER, VIEWER

SQL_TOKEN = "sql-canary"
NAMES = {
    "datasource": ["Django DB Logs", "Prometheus", "Loki", "Tempo"],
    "correlation": ["SQL of this request", "SQL dashboard"],
    "folder": ["Django"],
    "dashboard": [
        "Django Models",
        "Django Overview",
        "Django Requests by View",
        "Django Requests Overview",
        "Django SQL Logs",
    ],
}
EVERYTHING = [(kind, name) for kind, names in NAMES.items() for name in names]


@pytest.fixture
def push(provision, grafana):
    def run(*arguments, token=ADMIN, **environment):
        environment = {"GRAFANA_TOKEN": token, "SQLLOGS_TOKEN": SQL_TOKEN} | environment
        return provision("--push", grafana.url, *arguments, **environment)

    return run


def states(lines):
    """Return state and message of each object by kind and name."""
    found = {}
    for line in lines:
        if line.startswith("CommandError"):
            continue
        state, kind, name = line.split(maxsplit=2)
        name, _, words = name.partition(": ")
        found[kind, name] = (state, words)
    return found


def test_everything_is_created_in_an_empty_grafana(push, grafana):
    said = states(push())
    assert said == dict.fromkeys(EVERYTHING, ("created", ""))
    assert grafana.folders["django"]["title"] == "Django"
    assert {one["meta"]["folderUid"] for one in grafana.dashboards.values()} == {"django"}
    assert sorted(one["dashboard"]["title"] for one in grafana.dashboards.values()) == sorted(
        NAMES["dashboard"]
    )


def test_datasources_are_those_of_the_files(push, grafana):
    push("--url", "https://shop.example/sql-logs", "--browser-url", "https://shop.example/logs/")
    infinity = grafana.datasources["django-db-logs"]
    assert infinity["url"] == "https://shop.example/sql-logs/"
    assert infinity["jsonData"]["allowedHosts"] == ["https://shop.example/sql-logs/"]
    assert infinity["jsonData"]["customHealthCheckUrl"] == "health/"
    assert infinity["secureJsonData"] == {"bearerToken": SQL_TOKEN}
    derived = grafana.datasources["django-loki"]["jsonData"]["derivedFields"]
    assert "https://shop.example/logs/traces/${__value.raw}/" in {one["url"] for one in derived}  # one dollar
    links = [one["config"]["target"]["url"] for one in grafana.correlations["django-tempo"]]
    assert links[0] == "https://shop.example/logs/traces/${traceID}/"


def test_second_time_changes_nothing(push, grafana):
    push()
    before = dict(grafana.dashboards), dict(grafana.folders)
    said = states(push())
    assert {key: state for key, (state, _) in said.items()} == dict.fromkeys(EVERYTHING, "unchanged")
    assert (grafana.dashboards, grafana.folders) == before


def test_token_is_sent_again_because_grafana_does_not_return_it(push, grafana):
    push()
    said = states(push(SQLLOGS_TOKEN="another"))
    assert said["datasource", "Django DB Logs"] == ("unchanged", "token sent again")
    assert grafana.datasources["django-db-logs"]["secureJsonData"] == {"bearerToken": "another"}


def test_what_differs_is_updated(push, grafana):
    push()
    grafana.datasources["django-prometheus"]["url"] = "http://elsewhere"
    grafana.correlations["django-tempo"][0]["description"] = "Changed."
    grafana.dashboards["django-models"]["dashboard"]["panels"].pop()
    grafana.dashboards["django-overview"]["meta"]["folderUid"] = ""
    said = {key: value for key, value in states(push()).items() if value[0] != "unchanged"}
    assert said == {
        ("datasource", "Prometheus"): ("updated", ""),
        ("correlation", "SQL of this request"): ("updated", ""),
        ("dashboard", "Django Models"): ("updated", "version 1 is in its history"),
        ("dashboard", "Django Overview"): ("updated", "version 1 is in its history"),
    }
    assert not {key: value for key, value in states(push()).items() if value[0] != "unchanged"}


def test_name_that_is_taken_is_reported_and_the_others_are_sent(push, grafana):
    grafana.datasources["mine"] = {"uid": "mine", "name": "Prometheus", "version": 1}
    lines = push()
    state, words = states(lines)["datasource", "Prometheus"]
    assert state == "failed"
    assert words.startswith("409: data source with the same name already exists.")
    assert "--prometheus-uid" in words
    assert lines[-1] == "CommandError: 1 failed."
    assert len(grafana.dashboards) == 5


def test_datasource_that_is_there_already_is_used(push, grafana):
    grafana.datasources["mine"] = {"uid": "mine", "name": "Prometheus", "version": 1}
    said = states(push("--prometheus-uid", "mine"))
    assert {state for state, _ in said.values()} == {"created"}
    assert ("datasource", "Prometheus") not in said
    (chosen,) = (
        one["current"]["value"]
        for one in grafana.dashboards["django-overview"]["dashboard"]["templating"]["list"]
        if one["name"] == "datasource"
    )
    assert chosen == "mine"


def test_dashboard_that_somebody_saves_meanwhile_is_not_overwritten(push, grafana):
    push()
    grafana.dashboards["django-models"]["dashboard"]["title"] = "Mine"
    grafana.overtaken.add("django-models")
    lines = push()
    state, words = states(lines)["dashboard", "Django Models"]
    assert state == "failed"
    assert words.startswith("412: The dashboard has been changed by someone else.")
    assert grafana.dashboards["django-models"]["dashboard"]["title"] == "Mine"
    assert lines[-1] == "CommandError: 1 failed."


def test_role_that_is_too_low_is_reported_for_each_object(push, grafana):
    lines = push(token=EDITOR)
    said = states(lines)
    state, words = said["datasource", "Loki"]
    assert state == "failed"
    assert words.startswith("403: You'll need additional permissions")
    assert words.endswith("the role Admin, folder and dashboards Editor.")
    assert said["dashboard", "Django Models"] == ("created", "")
    assert lines[-1] == "CommandError: 6 failed."
    assert states(push(token=VIEWER))["dashboard", "Django Models"] == ("unchanged", "")


def test_user_and_password_will_do(provision, grafana):
    lines = provision(
        "--push", grafana.url, GRAFANA_USER=USER, GRAFANA_PASSWORD=PASSWORD, SQLLOGS_TOKEN=SQL_TOKEN
    )
    assert states(lines) == dict.fromkeys(EVERYTHING, ("created", ""))


def test_wrong_token_is_one_error(push, grafana):
    (line,) = push(token="wrong-canary")
    assert line.startswith(
        "CommandError: Grafana rejects the credentials: Invalid API key. Set GRAFANA_TOKEN"
    )
    assert not grafana.datasources


@pytest.mark.parametrize(
    "environment",
    [
        {"GRAFANA_TOKEN": ADMIN},
        {"GRAFANA_TOKEN": "wrong-canary"},
        {"GRAFANA_TOKEN": "broken-canary\nX-Header: 1"},
        {"GRAFANA_USER": USER, "GRAFANA_PASSWORD": PASSWORD},
        {"GRAFANA_USER": USER, "GRAFANA_PASSWORD": "wrong-canary"},
    ],
)
def test_no_secret_is_ever_printed(environment, provision, grafana, caplog, tmp_path):
    caplog.set_level("DEBUG")
    lines = provision(
        "--push", grafana.url, "--output", str(tmp_path), SQLLOGS_TOKEN=SQL_TOKEN, **environment
    )
    assert lines
    files = [path.read_text() for path in tmp_path.rglob("*.*")]
    assert "canary" not in "\n".join([*lines, caplog.text, *files])


def test_netrc_does_not_take_the_place_of_the_token(push, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    assert states(push(NETRC=str(netrc))) == dict.fromkeys(EVERYTHING, ("created", ""))
