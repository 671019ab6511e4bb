// New lines of a log as they are written. Everything from the assistant is inserted as text, never as HTML.
"use strict";
(() => {
  const log = document.querySelector("#log[data-url]");
  const button = document.querySelector("[data-follow]");
  if (!log || !window.EventSource) return;
  const status = document.querySelector("[data-log-status]");
  const url = new URL(log.dataset.url, location.href);
  const MOST = 2000;
  let source = null;

  const piece = (name, text) => {
    const made = document.createElement(name);
    made.textContent = text;
    return made;
  };

  const row = (line) => {
    const made = document.createElement("p");
    made.dataset.level = line.level;
    if (line.at) {
      const at = piece("time", line.time);
      at.dateTime = line.at;
      made.append(at, " ");
    }
    made.append(piece("b", line.word), " ");
    if (line.source) made.append(piece("i", line.source), " ");
    made.append(piece("span", line.text));
    return made;
  };

  const open = () => {
    source = new EventSource(url);
    source.addEventListener("lines", (event) => {
      const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      url.searchParams.set("position", event.lastEventId);
      log.append(...JSON.parse(event.data).lines.map(row));
      while (log.children.length > MOST) log.firstElementChild.remove();
      if (log.children.length) document.getElementById("log-empty").hidden = true;
      if (isAtEnd) log.scrollTop = log.scrollHeight;
    });
    source.addEventListener("open", () => { if (status.dataset.lost) { status.textContent = ""; delete status.dataset.lost; } });
    source.addEventListener("error", () => {
      status.textContent = log.dataset.lost;
      status.dataset.lost = "";
      if (source && source.readyState === EventSource.CLOSED) setTimeout(() => { if (source) open(); }, 5000);
    });
  };

  const close = () => { source.close(); source = null; };

  button.hidden = false;
  button.addEventListener("click", () => {
    const isOn = source !== null;
    if (isOn) close(); else open();
    button.setAttribute("aria-pressed", String(!isOn));
    button.querySelector("span").textContent = isOn ? button.dataset.off : button.dataset.on;
  });
  log.scrollTop = log.scrollHeight;
  open();
})();
