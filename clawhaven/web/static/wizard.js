// The wizard with scripts: the preview follows the typing, examples come at once, a long test says so.
"use strict";
(() => {
  const form = document.querySelector("form[data-preview]");
  const area = form && form.querySelector("textarea");
  let waiting = 0;
  let isAsking = false;
  let isSent = false;

  const draw = (files) => {
    const part = (name) => document.querySelector(`[data-preview-${name}]`);
    part("none").hidden = files.soul !== null;
    part("some").hidden = files.soul === null;
    part("soul").textContent = files.soul || "";
    part("user").textContent = files.user || "";
    form.elements.seen.value = files.seen;
  };

  // One at a time: each says which state of the draft it knows, and learns the next. It outlives the page.
  const look = async () => {
    waiting = 0;
    if (isAsking || isSent) { if (!isSent) soon(); return; }
    isAsking = true;
    const body = new URLSearchParams(new FormData(form));
    try {
      const answer = await fetch(form.dataset.preview, { method: "POST", body, keepalive: true });
      if (answer.ok) draw(await answer.json());
    } catch {
      // Away from the network the preview stays as it was; the form itself says so when it is sent.
    }
    isAsking = false;
  };

  const soon = () => {
    clearTimeout(waiting);
    waiting = setTimeout(look, 400);
  };

  if (form) {
    form.addEventListener("input", soon);
    form.addEventListener("submit", () => { isSent = true; });
    addEventListener("pagehide", () => { if (waiting) look(); });
    for (const button of form.querySelectorAll("[data-example]")) {
      button.addEventListener("click", (event) => {
        const words = button.parentElement.querySelector("[data-example-text]").textContent;
        event.preventDefault();
        if (area.value.includes(words)) return;
        const joined = area.value.trim() ? `${area.value.trimEnd()}\n\n${words}` : words;
        if (joined.length > area.maxLength) return;
        area.value = joined;
        area.dispatchEvent(new Event("input", { bubbles: true }));
        area.focus();
      });
    }
  }

  for (const slow of document.querySelectorAll("form[data-busy]")) {
    slow.addEventListener("submit", () => {
      const button = slow.querySelector("button[type=submit]");
      button.setAttribute("aria-busy", "true");
      button.textContent = slow.dataset.busy;
      setTimeout(() => { button.disabled = true; });
    });
  }
})();
