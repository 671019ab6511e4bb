// The trial chat: what is left of its free messages, and its end.
"use strict";
(() => {
  const form = document.getElementById("trial");
  if (!form) return;
  const left = document.getElementById("trial-left");
  const over = document.getElementById("trial-over");

  const end = () => {
    form.hidden = left.hidden = true;
    over.hidden = false;
  };

  const heed = (data) => {
    if (data.talk) form.elements.talk.value = data.talk;
    if (data.left === undefined) return;
    left.textContent = `${form.dataset.left} ${data.left}`;
    if (!data.left) end();
  };

  const refuse = (problem) => {
    if (problem.error === "trial_crowded") over.querySelector("p").hidden = true;
    if (problem.error === "trial_over" || problem.error === "trial_crowded") end();
  };

  window.clawhaven.talk.open(form, document.getElementById("trial-talk"), { heed, refuse });
})();
