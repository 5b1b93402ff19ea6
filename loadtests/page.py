"""A page next to Locust's own: second by second, offered and achieved."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from flask import Response, jsonify

from loadtests.conductor import Conductor

PAGE_PATH: Final = "/load-seconds"
COLUMNS: Final = ("second", "offered", "sent", "answered", "dropped", "late", "not_ok")
PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Offered load</title>
<style>body{font:14px system-ui;margin:2em}td,th{text-align:right;padding:.1em .8em}
th{border-bottom:1px solid}h2{font-size:1em}</style>
<h1>Offered load, second by second</h1><p>Calls are counted as offered, dropped, late or not ok in the second they were
intended for. Latencies on Locust's page count from the intended time.</p><div id="stages">no load yet</div>
<script>
const columns = COLUMNS;
async function refresh() {
  const stages = await (await fetch("load-seconds.json")).json();
  const parts = stages.map(({report, seconds}) => {
    const part = document.createElement("section");
    const total = name => seconds.reduce((sum, row) => sum + row[name], 0);
    part.innerHTML = "<h2></h2><table><thead><tr></tr></thead><tbody></tbody></table>";
    part.querySelector("h2").textContent = `${report.name}, ${report.protocol}: ${report.offered} planned`;
    const row = (cells, tag) => cells.map(cell => `<${tag}>${cell}</${tag}>`).join("");
    part.querySelector("tr").innerHTML = row(columns.map(name => name.replace("_", " ")), "th");
    part.querySelector("tbody").innerHTML = "<tr>" + row(["all", ...columns.slice(1).map(total)], "th") + "</tr>" +
      seconds.map(second => "<tr>" + row(columns.map(name => second[name]), "td") + "</tr>").reverse().join("");
    return part;
  });
  if (parts.length) document.getElementById("stages").replaceChildren(...parts.reverse());
}
refresh(); setInterval(refresh, 2000);
</script></html>"""


def add_page(web_ui: Any, conductor: Conductor) -> None:
    """Serve `/load-seconds` and the same as JSON in Locust's web server."""

    def page() -> Response:
        return Response(PAGE.replace("COLUMNS", str(list(COLUMNS))), mimetype="text/html")

    def data() -> Response:
        return jsonify(
            [{"report": asdict(report), "seconds": conductor.seconds(report.stage)} for report in conductor.reports]
        )

    web_ui.app.add_url_rule(PAGE_PATH, "load_seconds_page", web_ui.auth_required_if_enabled(page))
    web_ui.app.add_url_rule(f"{PAGE_PATH}.json", "load_seconds_data", web_ui.auth_required_if_enabled(data))
