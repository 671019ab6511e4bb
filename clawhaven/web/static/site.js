// What every page can do with scripts; all of it works without them, only less smoothly. No text is ever made HTML.
"use strict";
(() => {
  const root = document.documentElement;

  const toast = (text, seconds = 6) => {
    let box = document.querySelector("[data-toasts]");
    if (!box) {
      box = document.createElement("div");
      box.className = "toasts";
      box.setAttribute("role", "status");
      document.body.append(box);
    }
    const note = document.createElement("div");
    note.className = "notice toast";
    note.textContent = text;
    box.append(note);
    if (seconds) setTimeout(() => note.remove(), seconds * 1000);
    return note;
  };

  // Where tabs are wider than a phone, the current one is in sight.
  for (const tab of document.querySelectorAll(".tabs [aria-current]")) {
    const row = tab.parentElement;
    row.scrollLeft = tab.offsetLeft - row.offsetLeft - (row.clientWidth - tab.offsetWidth) / 2;
  }

  // Away from the network: say so once, until it is back.
  let offline = null;
  const sayOffline = () => {
    offline?.remove();
    offline = navigator.onLine ? null : toast(document.body.dataset.offline, 0);
  };
  addEventListener("offline", sayOffline);
  addEventListener("online", sayOffline);
  sayOffline();

  const copy = async (button) => {
    const source = button.parentElement.querySelector("[data-copy-source]");
    const label = button.querySelector("[data-copy-label]");
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      getSelection().selectAllChildren(source);
      return;
    }
    const before = label.textContent;
    label.textContent = label.dataset.done;
    toast(label.dataset.done);
    setTimeout(() => { label.textContent = before; }, 2000);
  };

  // A theme is drawn at once and kept by the same form that works without scripts.
  const setTheme = async (event) => {
    const button = event.submitter;
    if (!button || button.name !== "theme") return;
    event.preventDefault();
    const form = event.target;
    const body = new URLSearchParams(new FormData(form, button));
    if (button.value) root.dataset.theme = button.value;
    else delete root.dataset.theme;
    for (const other of document.querySelectorAll("[data-themes] button")) {
      other.setAttribute("aria-pressed", String(other.value === button.value));
    }
    try {
      await fetch(form.action, { method: "POST", body, redirect: "manual" });
    } catch {
      toast(document.body.dataset.unreached);
    }
  };

  const count = (area) => {
    const shown = document.getElementById(area.dataset.counter);
    shown.textContent = `${area.value.length} / ${area.maxLength}`;
    shown.toggleAttribute("data-over", area.value.length > area.maxLength);
    shown.hidden = false;
  };

  const dress = (part) => {
    for (const button of part.querySelectorAll("[data-copy]")) button.hidden = false;
    for (const area of part.querySelectorAll("[data-counter]")) count(area);
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
    const opener = event.target.closest("[data-dialog]");
    const dialog = opener && document.getElementById(opener.dataset.dialog);
    if (dialog && dialog.showModal) {
      event.preventDefault();
      dialog.showModal();
    }
    if (event.target.matches("dialog")) event.target.close();
    for (const menu of document.querySelectorAll("[data-menu][open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll("[data-menu][open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });

  document.addEventListener("submit", (event) => {
    if (event.target.matches("[data-themes]")) setTheme(event);
  });

  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-counter]")) count(event.target);
  });

  document.addEventListener("htmx:after:swap", () => dress(document));

  // A part of the page that asks again and again fails again and again: that is said once at a time.
  let failure = null;
  const sayFailed = (text, seconds) => {
    if (failure?.isConnected && failure.textContent === text) return;
    failure?.remove();
    failure = toast(text, seconds);
  };
  document.addEventListener("htmx:error", () => sayFailed(document.body.dataset.unreached));
  document.addEventListener("htmx:response:error", (event) => {
    if (event.detail.ctx.response.status === 401) sayFailed(document.body.dataset.signedOut, 0);
    else sayFailed(document.body.dataset.failed);
  });

  // A page shown again from the browser's memory may be somebody's who has signed out since.
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  dress(document);
  const problems = document.querySelector("[data-focus]");
  if (problems) problems.focus();
  const waiting = document.querySelector("[data-reload]");
  if (waiting) setTimeout(() => location.reload(), waiting.dataset.reload * 1000);
  window.clawhaven = { toast };
})();
