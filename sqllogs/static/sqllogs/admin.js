// The admin's script for selecting rows needs its translations, which it loads by a request that would be
// recorded. These three functions stand in for them.
"use strict";

window.gettext ??= (text) => text;
window.ngettext ??= (one, many, count) => (count === 1 ? one : many);
window.interpolate ??= (text, values) => text.replace(/%\((\w+)\)s/g, (_, name) => String(values[name]));

// Decisions in the list by keyboard: the row is ticked, and the form of the actions is sent as by hand.
(() => {
  const ACTIONS = { r: "mark_reviewed", i: "mark_ignored", o: "reopen" };
  const KEPT = "sqllogs-row";
  let current = -1;

  const rows = () => [...document.querySelectorAll(".model-statement #result_list tbody tr")];

  function go(number) {
    const all = rows();
    if (!all.length) return;
    all[current]?.classList.remove("sqllogs-current");
    current = Math.max(0, Math.min(number, all.length - 1));
    all[current].classList.add("sqllogs-current");
    all[current].tabIndex = -1;
    all[current].focus();
  }

  function decide(name) {
    const row = rows()[current];
    const box = row?.querySelector("input.action-select");
    const action = document.querySelector("#changelist-form select[name=action]");
    if (!box || ![...(action?.options ?? [])].some((option) => option.value === name)) return;
    for (const other of document.querySelectorAll("#changelist-form input.action-select")) other.checked = other === box;
    for (const across of document.querySelectorAll("#changelist-form input[name=select_across]")) across.value = "0";
    action.value = name;
    sessionStorage.setItem(KEPT, String(current)); // the row that follows is in its place then
    action.form.requestSubmit(action.form.querySelector("button[name=index]"));
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input:not([type=checkbox]), textarea, select")) return;
    if (event.key === "j") go(current + 1);
    else if (event.key === "k") go(current - 1);
    else if (event.key === "x") rows()[current]?.querySelector("input.action-select")?.click();
    else if (event.key === "Enter" && event.target === rows()[current]) event.target.querySelector(".field-statement a")?.click();
    else if (event.key in ACTIONS) decide(ACTIONS[event.key]);
  });

  // On a phone the rows of these lists are cards, each cell with the header of its column.
  function label() {
    const table = document.querySelector(":is(.model-finding, .model-sqllog, .model-token) #result_list");
    if (!table) return;
    const headers = [...table.querySelectorAll("thead th")].map((header) => header.querySelector(".text")?.textContent.trim() ?? "");
    for (const row of table.querySelectorAll("tbody tr"))
      for (const cell of row.children) if (!cell.matches(".action-checkbox")) cell.dataset.header = headers[cell.cellIndex] ?? "";
  }

  document.addEventListener("DOMContentLoaded", () => {
    label();
    if (matchMedia("(max-width: 48em)").matches)
      for (const filter of document.querySelectorAll(".app-sqllogs :is(#changelist-filter details, .sqllogs-filter)")) filter.open = false;
    const kept = rows().length || document.querySelector(".model-statement .sqllogs-nothing") ? sessionStorage.getItem(KEPT) : null;
    if (kept === null) return;
    sessionStorage.removeItem(KEPT);
    go(Number(kept));
  });
})();
