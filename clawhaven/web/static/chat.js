// An assistant's chat: what was said before, and a key for each turn that makes a repeat harmless.
"use strict";
(() => {
  const { element, open } = window.clawhaven.talk;
  const form = document.getElementById("say");
  const talk = document.getElementById("talk");

  const earlier = document.querySelector("#earlier a");
  const showEarlier = async () => {
    earlier.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(earlier.dataset.url, { headers: { Accept: "application/json" } });
      if (!response.ok) return;
      const turns = (await response.json()).turns.map((line) => {
        const turn = element("div", line.is_owner ? "turn mine" : "turn");
        const who = element("p", "who", line.is_owner ? form.dataset.you : form.dataset.name);
        if (line.at) {
          const at = element("time", "said-at", line.when);
          at.dateTime = line.at;
          who.append(" ", at);
        }
        turn.append(who, element("p", "words", line.text));
        return turn;
      });
      earlier.remove();
      if (!turns.length) return;
      if (talk.querySelector(".turn")) return; // somebody has begun to talk meanwhile
      talk.querySelector("[data-empty]")?.remove();
      talk.setAttribute("aria-live", "off"); // what is old is not read out
      talk.prepend(...turns);
      talk.scrollTop = talk.scrollHeight;
      requestAnimationFrame(() => talk.setAttribute("aria-live", "polite"));
    } catch {
      // the link stays: it leads to the same, with the reason why not
    } finally {
      earlier.removeAttribute("aria-busy");
    }
  };
  if (earlier && !talk.querySelector(".turn")) showEarlier();

  const freshKey = () => [...crypto.getRandomValues(new Uint8Array(16))]
    .map((byte) => byte.toString(16).padStart(2, "0")).join("");

  open(form, talk, { after: () => { form.elements.turn.value = freshKey(); } });
})();
