// Steps as they happen. Without this file the page refreshes itself or offers a link.
"use strict";
(() => {
  const box = document.querySelector("[data-events]");
  if (!box || !box.dataset.events || !window.EventSource) return;
  const part = (name) => box.querySelector(`[data-${name}]`);
  const source = new EventSource(box.dataset.events);
  let said = "";

  const draw = (view) => {
    part("headline").textContent = view.headline;
    part("detail").textContent = view.detail;
    const list = part("steps");
    if (list.children.length !== view.steps.length) { location.reload(); return; }
    view.steps.forEach((step, at) => {
      const row = list.children[at];
      row.dataset.state = step.state;
      row.querySelector("[data-label]").textContent = step.label;
      row.querySelector("[data-word]").textContent = step.word;
    });
    const now = view.steps.filter((step) => step.state === "running" || step.state === "failed").pop();
    const line = now ? `${now.label}: ${now.word}` : view.headline;
    if (line !== said) { part("said").textContent = said = line; }
  };

  const typing = () => [...document.querySelectorAll("input, textarea")].some((field) =>
    field.type !== "hidden" && field.value !== field.defaultValue);

  source.addEventListener("progress", (event) => {
    const view = JSON.parse(event.data);
    draw(view);
    if (!view.is_over) return;
    source.close();
    if (view.state === "active" && box.dataset.next) location.assign(box.dataset.next);
    else if (!typing()) location.replace(location.pathname);
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);
  });
})();
