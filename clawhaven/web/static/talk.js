// What an assistant's chat and the trial's have in common: an answer as it grows. Everything is inserted as text.
"use strict";
(() => {
  const element = (name, className, text) => {
    const made = document.createElement(name);
    made.className = className;
    if (text) made.textContent = text;
    return made;
  };

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
        const found = /^event: (\w+)\ndata: (.*)$/.exec(block);
        if (found) yield { kind: found[1], data: JSON.parse(found[2]) };
      }
    }
  }

  // heed: hears every event's data; refuse: a refusal before it is shown; after: when an answer has ended.
  const open = (form, talk, { heed, refuse, after } = {}) => {
    const box = form.elements.message;
    const button = form.querySelector("button");
    const down = () => { talk.scrollTop = talk.scrollHeight; };

    const addTurn = (who, text, isMine) => {
      const turn = element("div", isMine ? "turn mine" : "turn");
      const words = element("p", "words", text);
      turn.append(element("p", "who", who), words);
      talk.append(turn);
      down();
      return { turn, words };
    };

    const complain = (text) => {
      const note = element("p", "error", text);
      note.setAttribute("role", "alert");
      talk.append(note);
      down();
    };

    const send = async (message) => {
      const body = new URLSearchParams(new FormData(form));
      const answer = addTurn(form.dataset.name, "", false);
      answer.turn.setAttribute("aria-busy", "true");
      answer.turn.classList.add("waiting");
      let ended = false;
      try {
        const response = await fetch(form.action, { method: "POST", body, headers: { Accept: "text/event-stream" } });
        if (response.redirected || response.status === 401) throw new Error(form.dataset.gone);
        if (!response.ok) {
          const problem = await response.json();
          refuse?.(problem);
          throw new Error(problem.message);
        }
        for await (const { kind, data } of eventsOf(response)) {
          if (kind === "delta") answer.words.textContent += data.text;
          if (kind === "final" && data.text) answer.words.textContent = data.text;
          if (kind === "error") complain(data.text);
          if (kind === "usage" && data.text) answer.turn.append(element("p", "cost", data.text));
          if (kind === "final" || kind === "error") ended = true;
          heed?.(data);
          down();
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
      after?.();
      button.disabled = false;
      if (!form.hidden) box.focus();
    });

    box.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
  };

  window.clawhaven.talk = { element, open };
})();
