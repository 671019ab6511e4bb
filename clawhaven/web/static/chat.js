// Answers as they grow. Everything from the assistant is inserted as text, never as HTML.
"use strict";
(() => {
  const form = document.getElementById("say");
  const talk = document.getElementById("talk");
  const box = form.elements.message;
  const button = form.querySelector("button");

  const element = (name, className, text) => {
    const made = document.createElement(name);
    made.className = className;
    if (text) made.textContent = text;
    return made;
  };

  const addTurn = (who, text, isMine) => {
    const turn = element("div", isMine ? "turn mine" : "turn");
    const words = element("p", "words", text);
    turn.append(element("p", "who", who), words);
    talk.append(turn);
    talk.scrollTop = talk.scrollHeight;
    return { turn, words };
  };

  const complain = (text) => {
    const note = element("p", "error", text);
    note.setAttribute("role", "alert");
    talk.append(note);
    talk.scrollTop = talk.scrollHeight;
  };

  const freshKey = () => [...crypto.getRandomValues(new Uint8Array(16))]
    .map((byte) => byte.toString(16).padStart(2, "0")).join("");

  async function* eventsOf(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += value;
      const blocks = rest.split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const lines = block.split("\n");
        const kind = lines.find((line) => line.startsWith("event: "));
        const data = lines.find((line) => line.startsWith("data: "));
        if (kind && data) yield { kind: kind.slice(7), text: JSON.parse(data.slice(6)).text };
      }
    }
  }

  const send = async (message) => {
    const body = new URLSearchParams(new FormData(form));
    const answer = addTurn(form.dataset.name, "", false);
    answer.turn.setAttribute("aria-busy", "true");
    answer.turn.classList.add("waiting");
    let ended = false;
    try {
      const response = await fetch(form.action, { method: "POST", body, headers: { Accept: "text/event-stream" } });
      if (!response.ok) {
        const problem = await response.json();
        throw new Error(problem.message);
      }
      for await (const event of eventsOf(response)) {
        if (event.kind === "delta") answer.words.textContent += event.text;
        if (event.kind === "final") { ended = true; if (event.text) answer.words.textContent = event.text; }
        if (event.kind === "error") { ended = true; complain(event.text); }
        if (event.kind === "usage" && event.text) answer.turn.append(element("p", "cost", event.text));
        talk.scrollTop = talk.scrollHeight;
      }
      if (!ended) complain(form.dataset.cut);
    } catch (error) {
      complain(error instanceof TypeError || !error.message ? form.dataset.away : error.message);
      if (!box.value) box.value = message;
    }
    answer.turn.removeAttribute("aria-busy");
    answer.turn.classList.remove("waiting");
    if (!answer.words.textContent) answer.turn.remove();
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const message = box.value.trim();
    if (!message || button.disabled) return;
    button.disabled = true;
    talk.querySelector("[data-empty]")?.remove();
    addTurn(form.dataset.you, message, true);
    const sending = send(message);
    box.value = "";
    await sending;
    form.elements.turn.value = freshKey();
    button.disabled = false;
    box.focus();
  });

  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
})();
