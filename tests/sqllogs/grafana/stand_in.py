"""As much of Grafana's HTTP API as provisioning uses, on loopback: logins, roles, versions, conflicts.

Feeds the fixture `grafana`. Messages and codes are Grafana's.
"""

import base64
import json
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

ADMIN, EDITOR, VIEWER = "admin-canary", "editor-canary", "viewer-canary"
USER, PASSWORD = "ädmin", "pass:canary"
_BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
_ROLES = {
    f"Bearer {ADMIN}": "Admin",
    _BASIC: "Admin",
    f"Bearer {EDITOR}": "Editor",
    f"Bearer {VIEWER}": "Viewer",
}
_MAY = {
    "Admin": {"datasources", "folders", "dashboards"},
    "Editor": {"folders", "dashboards"},
    "Viewer": set(),
}


class StandIn(ThreadingHTTPServer):
    """What it holds is open to tests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/grafana"  # below a path, as behind a proxy
        self.datasources, self.folders, self.dashboards = {}, {}, {}
        self.correlations = {}
        self.asked = Counter()
        self.overtaken = set()
        """Dashboards that somebody else saves between our reading and our writing."""


class _Refused(Exception):
    def __init__(self, code, message, **more):
        self.code, self.body = code, {"message": message} | more


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self._serve("read")

    def do_POST(self):
        self._serve("create")

    def do_PUT(self):
        self._serve("write")

    def do_PATCH(self):
        self._serve("write")

    def _serve(self, action):
        length = int(self.headers.get("Content-Length") or 0)
        self._body = json.loads(self.rfile.read(length) or "null")
        try:
            status, answer = 200, self._answer(action)
        except _Refused as exc:
            status, answer = exc.code, exc.body
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, action):
        prefix, *path = (unquote(part) for part in self.path.strip("/").split("/"))
        if (prefix, path[0]) != ("grafana", "api"):
            raise _Refused(404, "Not found")
        role = _ROLES.get(self.headers.get("Authorization"))
        if role is None:
            raise _Refused(401, "Invalid API key")
        kind = path[1]
        self.server.asked[self.command, kind] += 1
        if action != "read" and kind not in _MAY[role]:
            raise _Refused(
                403,
                "You'll need additional permissions to perform this action. "
                f"Permissions needed: {kind}:{action}",
            )
        match path[1:]:
            case ["datasources"]:
                return self._add_datasource()
            case ["datasources", "uid", uid]:
                return self._datasource(uid)
            case ["datasources", "uid", uid, "correlations", *rest]:
                return self._correlations(uid, rest)
            case ["folders", *rest]:
                return self._folder(rest)
            case ["dashboards", "uid", uid]:
                return self._dashboard(uid)
            case ["dashboards", "db"]:
                return self._save_dashboard()
        raise _Refused(404, "Not found")

    def _add_datasource(self):
        body, there = self._body, self.server.datasources
        if body["uid"] in there or body["name"] in {one["name"] for one in there.values()}:
            raise _Refused(409, "data source with the same name already exists")
        there[body["uid"]] = body | {"version": 1}
        return {"message": "Datasource added", "id": len(there), "name": body["name"]}

    def _datasource(self, uid):
        found = self.server.datasources.get(uid)
        if found is None:
            raise _Refused(404, "Data source not found")
        if self.command == "PUT":
            if self._body["version"] != found["version"]:
                raise _Refused(409, "Datasource has already been updated by someone else.")
            self.server.datasources[uid] = self._body | {"version": found["version"] + 1}
            return {"message": "Datasource updated"}
        shown = {key: value for key, value in found.items() if key != "secureJsonData"}
        secrets = dict.fromkeys(found.get("secureJsonData", {}), True)
        return shown | {"id": 1, "orgId": 1, "readOnly": False, "secureJsonFields": secrets}

    def _correlations(self, uid, rest):
        there = self.server.correlations.setdefault(uid, [])
        if self.command == "GET":
            if not there:
                raise _Refused(404, "No correlation found")
            return there
        if self.command == "POST":
            there.append(self._body | {"uid": f"c{len(there)}", "sourceUID": uid, "provisioned": False})
            return {"message": "Correlation created", "result": there[-1]}
        (found,) = (one for one in there if [one["uid"]] == rest)
        found.update(self._body)
        return {"message": "Correlation updated", "result": found}

    def _folder(self, rest):
        if self.command == "POST":
            self.server.folders[self._body["uid"]] = self._body | {"version": 1}
            return self._body
        if rest[0] not in self.server.folders:
            raise _Refused(404, "folder not found", status="not-found")
        return self.server.folders[rest[0]]

    def _dashboard(self, uid):
        found = self.server.dashboards.get(uid)
        if found is None:
            raise _Refused(404, "Dashboard not found")
        answer = json.loads(json.dumps(found))
        if uid in self.server.overtaken:
            found["dashboard"]["version"] += 1
        return answer

    def _save_dashboard(self):
        given, folder = self._body["dashboard"], self._body["folderUid"]
        if folder not in self.server.folders:
            raise _Refused(400, "folder not found")
        found = self.server.dashboards.get(given["uid"], {"dashboard": {"version": 0}})
        before = found["dashboard"]["version"]
        if (given["version"] or 0) != before and not self._body["overwrite"]:
            raise _Refused(412, "The dashboard has been changed by someone else", status="version-mismatch")
        # With the fields that Grafana adds.
        saved = given | {"id": 7, "version": before + 1, "weekStart": ""}
        self.server.dashboards[given["uid"]] = {"dashboard": saved, "meta": {"folderUid": folder}}
        return {"status": "success", "uid": given["uid"], "version": before + 1}

    def log_message(self, *_):
        """Be silent."""
