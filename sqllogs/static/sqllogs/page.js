// Optional extras: short URLs, copy buttons, zooming, live tail. The page works without this file.
// Texts come from data attributes, where the server has translated them.
"use strict";

// Leave empty filters out of the URL.
for (const form of document.querySelectorAll("form.filters")) {
  form.addEventListener("formdata", ({ formData }) => {
    for (const [name, value] of [...formData]) if (!value.trim()) formData.delete(name);
  });
}

for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) break; // only exists over HTTPS and on localhost
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    const label = button.textContent;
    button.textContent = button.dataset.copied;
    setTimeout(() => (button.textContent = label), 1500);
  });
}

// Date pickers beside the text fields, which also take now-15m.
for (const picker of document.querySelectorAll(".picker")) {
  picker.hidden = false;
  picker.addEventListener("change", () => {
    picker.closest(".field").querySelector("[name]").value = picker.value && `${picker.value}Z`;
  });
}

// Keys, unless the reader is typing.
const keys = document.getElementById("keys");
// What a row is about: the first link can be a tag that filters.
const mainLink = (row) => row.querySelector("a.sql, a.name, a.lead") ?? row.querySelector("a");
const rowLinks = () => [...document.querySelectorAll(".records tbody tr")].map(mainLink).filter(Boolean);

function step(by) {
  const links = rowLinks();
  const row = document.activeElement?.closest(".records tbody tr");
  const at = links.findIndex((link) => link.closest("tr") === row);
  links[at < 0 ? 0 : Math.min(Math.max(at + by, 0), links.length - 1)]?.focus();
}

const zoomLink = (name) => document.querySelector(`[data-zoom="${name}"]`)?.click();

const actions = {
  "/": () => document.querySelector(".filters .first input")?.focus(),
  j: () => step(1),
  k: () => step(-1),
  "+": () => zoomLink("in"),
  "-": () => zoomLink("out"),
  h: () => zoomLink("earlier"),
  l: () => zoomLink("later"),
  "?": () => (keys.open ? keys.close() : keys.showModal()),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  const action = Object.hasOwn(actions, event.key) && actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

// Charts: dragging, or arrows and Enter, select a part of the time and show only that. The links below do the same.
const DRAG_PX = 5;

function show(from, to) {
  const url = new URL(location.href);
  const text = (ms) => new Date(ms).toISOString().replace(".000Z", "Z");
  const whole = to - from > 10_000 ? 1000 : 1;
  url.searchParams.set("from", text(Math.floor(from / whole) * whole));
  url.searchParams.set("to", text(Math.ceil(to / whole) * whole));
  for (const name of ["cursor", "offset"]) url.searchParams.delete(name);
  url.hash = "";
  location.assign(url);
}

function makeZoomable(chart) {
  const plot = chart.querySelector("svg");
  const output = chart.querySelector("output");
  const begin = Date.parse(chart.dataset.begin);
  const steps = Number(chart.dataset.steps);
  const length = Date.parse(chart.dataset.end) - begin;
  if (!(length > 0)) return;
  const area = plot.appendChild(document.createElementNS(plot.namespaceURI, "rect"));
  area.classList.add("selected");
  let first = null; // both as shares of the width, while there is a selection
  let last = null;
  let grabbed = null;
  let cursor = null;

  const time = (share) => begin + Math.min(Math.max(share, 0), 1) * length;

  function select(from, to) {
    [first, last] = from === null || from <= to ? [from, to] : [to, from];
    area.setAttribute("x", `${100 * (first ?? 0)}%`);
    area.setAttribute("width", first === null ? "0" : `${100 * (last - first)}%`);
    area.setAttribute("height", "100%");
    const clock = (share) => new Date(time(share)).toISOString().slice(11, length > 600_000 ? 16 : 23);
    output.textContent = first === null ? "" : `${clock(first)} – ${clock(last)}`;
  }

  const shareAt = (event) => {
    const box = plot.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
  };

  plot.addEventListener("dragstart", (event) => event.preventDefault());
  plot.addEventListener("pointerdown", (event) => {
    if (event.button === 0) grabbed = { x: event.clientX, share: shareAt(event) };
  });
  plot.addEventListener("pointermove", (event) => {
    if (!grabbed || (first === null && Math.abs(event.clientX - grabbed.x) < DRAG_PX)) return;
    plot.setPointerCapture(event.pointerId);
    select(grabbed.share, shareAt(event));
  });
  plot.addEventListener("pointerup", () => {
    if (grabbed && first !== null && last > first) show(time(first), time(last));
    grabbed = null;
  });
  plot.addEventListener("pointercancel", () => {
    grabbed = null;
    select(null, null);
  });
  // The link of the bar below the pointer is not followed after a drag.
  plot.addEventListener("click", (event) => first !== null && event.preventDefault(), true);

  const texts = new Map();
  for (const bar of plot.querySelectorAll("a")) {
    const x = parseFloat(bar.querySelector(".step")?.getAttribute("x"));
    texts.set(Math.round((x / 100) * steps), bar.querySelector("title")?.textContent);
  }

  chart.tabIndex = 0;
  chart.setAttribute("aria-description", chart.dataset.hint);
  chart.title = chart.dataset.hint;
  chart.addEventListener("keydown", (event) => {
    if (event.target !== chart || event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) {
      const next = cursor === null ? (by > 0 ? 0 : steps - 1) : Math.min(Math.max(cursor.at + by, 0), steps - 1);
      cursor = { at: next, from: event.shiftKey && cursor ? cursor.from : next };
      select(Math.min(cursor.from, next) / steps, (Math.max(cursor.from, next) + 1) / steps);
      if (cursor.from === next && texts.get(next)) output.textContent = texts.get(next);
    } else if (event.key === "Enter" && first !== null) show(time(first), time(last));
    else if (event.key === "Escape") select((cursor = null), null);
    else return;
    event.preventDefault();
  });
}

for (const chart of document.querySelectorAll("[data-steps]")) makeZoomable(chart);

// Live tail: fetch the page again and replace the list.
const INTERVAL_MS = 2000;
const LIVE = "#live";

function follow(shown) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button live";
  document.querySelector(".filters .under").append(button);
  const text = shown.dataset;
  let timer = 0;

  const isOn = () => location.hash === LIVE;
  // Do not replace what the reader has selected or focused.
  const isInUse = () => document.hidden || shown.contains(document.activeElement) || !getSelection().isCollapsed;

  async function refresh() {
    const seen = Number(shown.querySelector("[data-id]")?.dataset.id ?? 0);
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("live");
    if (!fresh) throw new Error(page.querySelector("h1")?.textContent || answer.statusText);
    if (!isOn() || isInUse()) return;
    for (const row of fresh.querySelectorAll("[data-id]")) row.classList.toggle("new", row.dataset.id > seen);
    shown.replaceChildren(...fresh.childNodes);
    for (const chart of shown.querySelectorAll("[data-steps]")) makeZoomable(chart);
  }

  async function turn() {
    clearTimeout(timer);
    button.setAttribute("aria-pressed", isOn());
    button.textContent = isOn() ? text.pause : text.live;
    button.title = isOn() ? text.pauseTitle : text.liveTitle;
    if (!isOn()) return;
    try {
      if (!isInUse()) await refresh();
    } catch (problem) {
      button.title = `${text.failed} ${problem.message}`;
    }
    timer = setTimeout(turn, INTERVAL_MS);
  }

  button.addEventListener("click", () => {
    history.replaceState(null, "", isOn() ? location.pathname + location.search : LIVE);
    button.blur();
    turn();
  });
  addEventListener("hashchange", turn);
  turn();
}

const shown = document.querySelector("#live[data-follow]");
if (shown) follow(shown);
