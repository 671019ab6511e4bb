// Steps as they happen: a stream, and looking again every few seconds where no stream gets through.
// Without this file the page refreshes itself or offers a link.
"use strict";
(() => {
  const box = document.querySelector("[data-events]");
  if (!box || !box.dataset.events) return;
  const part = (name) => box.querySelector(`[data-${name}]`);
  const patience = 4000;
  const clock = part("seconds");
  const shownAt = performance.now();
  let before = clock ? Number(clock.dataset.seconds) : 0;
  let startedAt = clock && !part("clock").hidden ? shownAt : null;
  let said = "";
  let heard = false;
  let source = null;
  let polling = false;

  const tick = () => {
    if (startedAt === null) return;
    const seconds = Math.floor(before + (performance.now() - startedAt) / 1000);
    clock.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  };

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
    if (part("coming")) part("coming").textContent = view.coming || "";
    if (clock && view.is_timed && startedAt === null) {
      startedAt = performance.now();
      part("clock").hidden = false;
    }
    const now = view.steps.filter((step) => step.state === "running" || step.state === "failed").pop();
    const line = now ? `${now.label}: ${now.word}` : view.headline;
    if (line !== said) { part("said").textContent = said = line; }
  };

  const typing = () => [...document.querySelectorAll("input, textarea")].some((field) =>
    field.type !== "hidden" && field.value !== field.defaultValue);

  // True when there is nothing more to wait for.
  const take = (view) => {
    draw(view);
    if (!view.is_over) return false;
    if (source) source.close();
    startedAt = null;
    if (view.state === "active" && box.dataset.next) location.assign(box.dataset.next);
    else if (!typing()) location.replace(location.pathname);
    return true;
  };

  const poll = async () => {
    try {
      const answer = await fetch(box.dataset.poll);
      if (answer.ok && take(await answer.json())) return;
    } catch {
      // Away from the network; it may come back.
    }
    setTimeout(poll, 3000);
  };

  const goOnPolling = () => {
    if (source) source.close();
    if (polling) return;
    polling = true;
    if (box.dataset.poll) poll();
    else setTimeout(() => location.reload(), 5000);
  };

  setInterval(tick, 1000);
  if (!window.EventSource) { goOnPolling(); return; }
  source = new EventSource(box.dataset.events);
  source.addEventListener("progress", (event) => {
    heard = true;
    take(JSON.parse(event.data));
  });
  source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) goOnPolling(); });
  // A proxy on the way may hold a stream back for good.
  if (box.dataset.poll) setTimeout(() => { if (!heard) goOnPolling(); }, patience);
})();
