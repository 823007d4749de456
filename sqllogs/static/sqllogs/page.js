// Optional extras: short URLs, copy buttons, live tail. The page works without this file.
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
const rowLinks = () => [...document.querySelectorAll(".records tbody tr")].map((row) => row.querySelector("a")).filter(Boolean);

function step(by) {
  const links = rowLinks();
  const row = document.activeElement?.closest(".records tbody tr");
  const at = links.findIndex((link) => link.closest("tr") === row);
  links[at < 0 ? 0 : Math.min(Math.max(at + by, 0), links.length - 1)]?.focus();
}

const actions = {
  "/": () => document.querySelector(".filters .first input")?.focus(),
  j: () => step(1),
  k: () => step(-1),
  "?": () => (keys.open ? keys.close() : keys.showModal()),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  const action = Object.hasOwn(actions, event.key) && actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

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
