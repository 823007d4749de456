// What the page can do beyond its links and forms; it is whole without this file.
"use strict";

// Addresses without the filters that are empty.
for (const form of document.querySelectorAll("form.filters")) {
  form.addEventListener("formdata", ({ formData }) => {
    for (const [name, value] of [...formData]) if (!value.trim()) formData.delete(name);
  });
}

for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) break; // not there but over HTTPS and on localhost
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}

// Live tail: the newest page is read again and put in place of what is shown.
const INTERVAL_MS = 2000;
const LIVE = "#live";

function follow(shown) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button live";
  document.querySelector(".filters .under").append(button);
  let timer = 0;

  const isOn = () => location.hash === LIVE;
  // Not under the reader's hands: what is selected or has the focus stays.
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
    button.textContent = isOn() ? "Pause" : "Live";
    button.title = isOn() ? "Stop showing what comes in" : "Show what comes in, every two seconds";
    if (!isOn()) return;
    try {
      if (!isInUse()) await refresh();
    } catch (problem) {
      button.title = `The last try failed: ${problem.message}`;
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
